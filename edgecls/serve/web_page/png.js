// Decodes PNG files to 8-bit gray with the bytes of edgecls/images: a browser's own decoder multiplies by the alpha
// channel, converts colors and keeps 8 of 16 bits.

import { luma } from "./gray.js";

export const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const DEPTHS = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };
// First column and row, and steps, of the passes of an interlaced picture.
const PASSES = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
const PLAIN = [[0, 0, 1, 1]];
// Chunks that make pixels.
const CHECKED = ["IHDR", "PLTE", "tRNS", "IDAT"];

// Returns { width, height, exif, xmp, decode }: the size alone needs no pixel.
export function openPng(bytes) {
  const chunks = readChunks(bytes);
  const find = (kind) => chunks.find((chunk) => chunk.kind === kind)?.body;
  const header = find("IHDR");
  if (!header || header.length !== 13) throw new Error("This PNG file is damaged: it has no header.");
  const view = new DataView(header.buffer, header.byteOffset, header.length);
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  const [depth, type, , , interlace] = header.subarray(8);
  if (!DEPTHS[type]?.includes(depth) || interlace > 1) throw new Error("This PNG file is of an unknown kind.");
  if (find("acTL")) throw new Error("This is an animated PNG file. Save one picture of it as a file.");
  const text = chunks.filter(({ kind }) => ["tEXt", "zTXt", "iTXt"].includes(kind)).map(({ body }) => latin(body));
  if (text.some((each) => /^(Raw profile type exif\0|XML:com\.adobe\.xmp\0\x01)/.test(each))) {
    throw new Error("This PNG file has its EXIF data in a form that is not read here. Save it again without metadata.");
  }
  const picture = { width, height, depth, type, interlace, palette: find("PLTE"), key: find("tRNS"), stated: find("sBIT")?.[0] };
  return {
    width,
    height,
    exif: chunks.find(({ kind, isWhole }) => kind === "eXIf" && isWhole)?.body,
    xmp: text.find((each) => each.startsWith("XML:com.adobe.xmp")) || "",
    decode: (bits) => decode(picture, chunks, bits),
  };
}

const latin = (bytes) => new TextDecoder("latin1").decode(bytes);

function readChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const chunks = [];
  for (let at = SIGNATURE.length; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    const kind = latin(bytes.subarray(at + 4, at + 8));
    const end = at + 8 + length;
    if (end + 4 > bytes.length) break;
    const isWhole = crc32(bytes.subarray(at + 4, end)) === view.getUint32(end);
    if (!isWhole && CHECKED.includes(kind)) {
      throw new Error(`This PNG file is damaged: the checksum of its ${kind} at byte ${at} is wrong.`);
    }
    chunks.push({ kind, body: bytes.subarray(at + 8, end), isWhole });
    if (kind === "IEND") break;
    at = end + 4;
  }
  return chunks;
}

const CRC_TABLE = Int32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

async function decode(picture, chunks, bits) {
  const { width, height, depth, type } = picture;
  const raw = await inflate(chunks.filter(({ kind }) => kind === "IDAT").map(({ body }) => body));
  const channels = CHANNELS[type];
  const values = depth === 16 ? new Uint16Array(width * height * channels) : new Uint8Array(width * height * channels);
  let at = 0;
  for (const [left, top, stepX, stepY] of picture.interlace ? PASSES : PLAIN) {
    const [columns, rows] = [Math.ceil((width - left) / stepX), Math.ceil((height - top) / stepY)];
    if (columns < 1 || rows < 1) continue;
    const rowBytes = Math.ceil((columns * channels * depth) / 8);
    if (at + rows * (rowBytes + 1) > raw.length) throw new Error("This PNG file is damaged: it ends before its last row.");
    unfilter(raw, at, rows, rowBytes, Math.max((channels * depth) >> 3, 1));
    for (let row = 0; row < rows; row++) {
      const start = at + row * (rowBytes + 1) + 1;
      if (depth === 8 && stepX === 1) {
        values.set(raw.subarray(start, start + rowBytes), (top + row * stepY) * width * channels);
        continue;
      }
      for (let i = 0; i < columns * channels; i++) {
        const column = left + Math.floor(i / channels) * stepX;
        values[((top + row * stepY) * width + column) * channels + (i % channels)] = readValue(raw, start, i, depth);
      }
    }
    at += rows * (rowBytes + 1);
  }
  return { data: type === 0 && depth === 16 ? deepGray(picture, values, bits) : toGray(picture, values, bits), width, height };
}

async function inflate(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  try {
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new Error("This PNG file is damaged: its pixels cannot be decompressed.");
  }
}

function unfilter(raw, begin, rows, rowBytes, pixelBytes) {
  for (let row = 0; row < rows; row++) {
    const start = begin + row * (rowBytes + 1) + 1;
    const above = row ? start - rowBytes - 1 : -1;
    const kind = raw[start - 1];
    if (kind > 4) throw new Error("This PNG file is damaged: a row has an unknown filter.");
    for (let i = 0; kind && i < rowBytes; i++) {
      const a = i >= pixelBytes && kind !== 2 ? raw[start + i - pixelBytes] : 0;
      const b = row && kind !== 1 ? raw[above + i] : 0;
      const c = row && i >= pixelBytes && kind === 4 ? raw[above + i - pixelBytes] : 0;
      raw[start + i] += kind === 1 ? a : kind === 2 ? b : kind === 3 ? (a + b) >> 1 : paeth(a, b, c);
    }
  }
}

function paeth(a, b, c) {
  const toA = Math.abs(b - c);
  const toB = Math.abs(a - c);
  const toC = Math.abs(a + b - 2 * c);
  return toA <= toB && toA <= toC ? a : toB <= toC ? b : c;
}

function readValue(raw, start, i, depth) {
  if (depth === 8) return raw[start + i];
  if (depth === 16) return (raw[start + 2 * i] << 8) | raw[start + 2 * i + 1];
  const bit = i * depth;
  return (raw[start + (bit >> 3)] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
}

// The pixels of 8 bits or fewer a channel, and of color pictures of 16 bits, of which the upper 8 are kept. Transparent
// parts become black.
function toGray(picture, values, bits) {
  const { depth, type, key, palette } = picture;
  if (depth === 16) {
    checkColorBits(picture, values, bits);
    values = Uint8Array.from(values, (value) => value >> 8);
  }
  const gray = new Uint8Array(picture.width * picture.height);
  const at = (bytes, i) => (bytes[2 * i] << 8) | bytes[2 * i + 1];
  const scale = type === 0 ? 255 / ((1 << Math.min(depth, 8)) - 1) : 1;
  if (type === 3 && !palette) throw new Error("This PNG file is damaged: it has no palette.");
  if (type === 2 && depth === 16 && key) {
    throw new Error("This PNG file has 16 bits a channel and one transparent color, which is not read. Save it with 8 bits.");
  }
  for (let i = 0; i < gray.length; i++) {
    let level = 0;
    let alpha = 255;
    if (type === 0) {
      level = values[i] * scale;
      if (key && values[i] === Math.min(at(key, 0), (1 << depth) - 1)) alpha = 0;
    } else if (type === 2) {
      const r = values[3 * i];
      const g = values[3 * i + 1];
      const b = values[3 * i + 2];
      level = luma(r, g, b);
      if (key && r === at(key, 0) && g === at(key, 1) && b === at(key, 2)) alpha = 0;
    } else if (type === 3) {
      const color = 3 * values[i];
      if (color + 2 >= palette.length) throw new Error("This PNG file is damaged: it has colors that its palette lacks.");
      level = luma(palette[color], palette[color + 1], palette[color + 2]);
      if (key && values[i] < key.length) alpha = key[values[i]];
    } else if (type === 4) {
      level = values[2 * i];
      alpha = values[2 * i + 1];
    } else {
      level = luma(values[4 * i], values[4 * i + 1], values[4 * i + 2]);
      alpha = values[4 * i + 3];
    }
    const product = level * alpha + 128;
    gray[i] = (product + (product >> 8)) >> 8;
  }
  return gray;
}

function checkColorBits({ type, stated }, values, bits) {
  const used = stated || bits || 16;
  if (used >= 16) return;
  const channels = CHANNELS[type];
  const colors = type === 4 || type === 6 ? channels - 1 : channels;
  const largest = values.reduce((most, value, i) => (i % channels < colors ? Math.max(most, value >> 8) : most), 0);
  if (!stated || largest <= (2 ** used - 1) >> 8) {
    throw new Error(`This is a color picture of 16 bits, of which ${used} are used: it would be dark. Save it as 16-bit gray.`);
  }
}

// Gray of 16 bits, scaled as edgecls/images/depth.py does.
function deepGray({ stated, key }, values, bits) {
  const depth = stated || bits || 16;
  let white = 2 ** depth - 1;
  const [low, high] = values.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [65535, 0]);
  if (stated && (high > white || isLeftAligned(values, stated))) white = 65535;
  if (high > white) {
    throw new Error(`This 16-bit image has values from ${low} to ${high}; expected 0 to ${white}. Train again with the ` +
      "right number of bits.");
  }
  const transparent = key ? (key[0] << 8) | key[1] : -1;
  const half = Math.floor(white / 2);
  return Uint8Array.from(values, (value) => (value === transparent ? 0 : Math.floor((value * 255 + half) / white)));
}

function isLeftAligned(values, bits) {
  const step = 2 ** (16 - bits);
  return !values.some((value) => value % step >= Math.min(2, step - 1));
}
