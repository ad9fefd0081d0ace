// Decodes the luma of JPEG files, at 1/1, 1/2, 1/4 or 1/8 of their size, with the bytes of libjpeg: a browser's own
// decoder gives colors, which it rounds and converts. Huffman-coded files, sequential and progressive, of gray or YCbCr.

import { transform } from "./idct.js";
import { Bits, damaged, decodeAc, decodeDc, decodeSequential, refineAc, refineDc, ZIGZAG } from "./jpeg_blocks.js";

const KINDS = { 0xc0: "sequential", 0xc1: "sequential", 0xc2: "progressive" };

const refused = (found) => new Error(`This JPEG file ${found}, which is not read here. Save it as a plain JPEG or PNG file.`);

// Returns { width, height, exif, xmp, canShrink, decode }: the size alone needs no pixel.
export function openJpeg(bytes) {
  const { frame, exif, xmp } = readHead(bytes);
  return { ...frame, exif, xmp, canShrink: true, decode: (_, shrunk) => decode(bytes, shrunk) };
}

// Yields { code, at, body } of each marker; the body of SOS is followed by the data of its scan.
function* readMarkers(bytes) {
  let at = 2;
  while (at + 1 < bytes.length && !(bytes[at] === 0xff && bytes[at + 1] === 0xd9)) {
    const code = bytes[at + 1];
    // Some cameras pad their headers; markers of restarts have no body.
    if (bytes[at] !== 0xff || code === 0xff || code < 2 || (code >= 0xd0 && code <= 0xd8)) {
      at++;
      continue;
    }
    const length = (bytes[at + 2] << 8) | bytes[at + 3];
    if (!(length >= 2 && at + 2 + length <= bytes.length)) throw damaged("it ends within its header");
    at += 2 + length;
    yield { code, at, body: bytes.subarray(at - length + 2, at) };
    if (code === 0xda) at = findMarker(bytes, at);
  }
}

// The first marker after a scan's data, in which there are restart markers and bytes of 0xff, each followed by 0.
function findMarker(bytes, at) {
  const isData = (next) => next === 0 || next === 0xff || (next >= 0xd0 && next <= 0xd7);
  while (at < bytes.length && (bytes[at] !== 0xff || isData(bytes[at + 1]))) at++;
  return at;
}

function readHead(bytes) {
  let [frame, exif, xmp, jfif, adobe] = [null, undefined, "", false, undefined];
  for (const { code, body } of readMarkers(bytes)) {
    const text = code >= 0xe0 && code <= 0xef ? new TextDecoder("latin1").decode(body) : "";
    if (code === 0xe0 && text.startsWith("JFIF\0")) jfif = true;
    if (code === 0xe1 && text.startsWith("Exif\0\0")) exif ??= body.subarray(text.startsWith("Exif\0\0Exif\0\0") ? 12 : 6);
    if (code === 0xe1 && text.startsWith("http://ns.adobe.com/xap/1.0/\0")) xmp = text;
    if (code === 0xee && text.startsWith("Adobe")) adobe = body[11];
    if (code >= 0xc0 && code <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(code)) frame ??= readFrame(code, body);
    if (code === 0xda) break;
  }
  if (!frame) throw damaged("it has no picture");
  checkColors(frame, jfif, adobe);
  return { frame, exif, xmp };
}

function readFrame(code, body) {
  const kind = KINDS[code];
  if (!kind) throw refused("is arithmetic-coded or lossless");
  if (body[0] !== 8) throw refused(`has ${body[0]} bits a channel`);
  const components = Array.from({ length: body[5] }, (_, i) => {
    const [id, sampling, table] = body.subarray(6 + 3 * i, 9 + 3 * i);
    return { id, h: sampling >> 4, v: sampling & 15, table };
  });
  return { kind, width: (body[3] << 8) | body[4], height: (body[1] << 8) | body[2], components };
}

function checkColors({ components }, jfif, adobe) {
  if (components.length === 1) {
    [components[0].h, components[0].v] = [1, 1];
    return;
  }
  const ids = String.fromCharCode(...components.map(({ id }) => id));
  const isRgb = !jfif && (adobe === 0 || (adobe === undefined && ids === "RGB"));
  if (components.length !== 3 || isRgb) throw refused("has colors of another kind than YCbCr");
  const [luma, ...others] = components;
  if (!others.every(({ h, v }) => h && v && h <= luma.h && v <= luma.v)) throw refused("has fewer pixels of gray than of color");
}

function decode(bytes, shrunk) {
  const state = { quantization: [], huffman: {}, restart: 0, frame: null };
  for (const { code, at, body } of readMarkers(bytes)) {
    if (code === 0xdb) readQuantization(state, body);
    else if (code === 0xc4) readHuffman(state, body);
    else if (code === 0xdd) state.restart = (body[0] << 8) | body[1];
    else if (KINDS[code]) state.frame ??= prepare(readHead(bytes).frame);
    else if (code === 0xda && state.frame) readScan(state, bytes, at, body);
  }
  const { frame } = state;
  if (!frame || !frame.scale) throw damaged("it has no picture");
  // Each coefficient down to its lowest bit: a progressive file may be cut off between two scans.
  if (frame.final.includes(0)) throw damaged("it ends before its last scan");
  return toPixels(frame, shrunk);
}

// Adds the luma's blocks, `wide` of them in a row in whole MCUs, of 64 coefficients each.
function prepare(frame) {
  const { width, height, components } = frame;
  const { h, v } = components[0];
  const [across, down] = [Math.ceil(width / (8 * h)), Math.ceil(height / (8 * v))];
  const wide = across * h;
  return { ...frame, across, down, wide, scale: null, final: new Uint8Array(64), blocks: new Int16Array(wide * down * v * 64) };
}

function readQuantization(state, body) {
  for (let at = 0; at < body.length;) {
    const [is16, table] = [body[at] >> 4, body[at++] & 15];
    const values = new Int32Array(64);
    for (const place of ZIGZAG) {
      values[place] = is16 ? (body[at] << 8) | body[at + 1] : body[at];
      at += is16 ? 2 : 1;
    }
    if (values.includes(0)) throw damaged("a quantization table holds a zero");
    state.quantization[table] = values;
  }
}

// A table of all 16-bit prefixes: length << 8 | symbol, 0 for none.
function readHuffman(state, body) {
  for (let at = 0; at < body.length;) {
    const name = body[at];
    const counts = body.subarray(at + 1, at + 17);
    at += 17;
    const table = new Uint16Array(65536);
    let prefix = 0;
    counts.forEach((count, i) => {
      const step = 1 << (15 - i);
      for (let n = 0; n < count; n++, prefix += step) table.fill(((i + 1) << 8) | body[at++], prefix, prefix + step);
    });
    const isOfDc = name < 0x10;
    if (isOfDc && table.some((entry) => (entry & 255) > 15)) throw damaged("a Huffman table has an impossible length");
    if (prefix > 65536) throw damaged("a Huffman table has too many codes");
    state.huffman[name] = table;
  }
}

function readScan(state, bytes, at, body) {
  const { frame } = state;
  const parts = Array.from({ length: body[0] }, (_, i) => {
    const component = frame.components.find(({ id }) => id === body[1 + 2 * i]);
    if (!component) throw damaged("a scan is of no part of the picture");
    return { component, dc: state.huffman[body[2 + 2 * i] >> 4], ac: state.huffman[0x10 | (body[2 + 2 * i] & 15)], last: 0 };
  });
  const isWhole = body.length === 4 + 2 * parts.length && new Set(parts.map(({ component }) => component)).size === parts.length;
  if (!isWhole) throw damaged("a scan has an impossible header");
  // The next marker is found without decoding scans of color alone.
  if (!parts.some(({ component }) => component === frame.components[0])) return;
  const [first, final, bits] = body.subarray(1 + 2 * parts.length);
  const isProgressive = frame.kind === "progressive";
  const scan = isProgressive ? { first, final, high: bits >> 4, low: bits & 15 } : { first: 0, final: 63, high: 0, low: 0 };
  if (scan.first > scan.final || scan.final > 63 || (scan.first && parts.length > 1)) throw damaged("a scan has an impossible range");
  frame.scale ??= state.quantization[frame.components[0].table];
  if (!frame.scale) throw damaged("it lacks a quantization table");
  const needsDc = scan.first === 0 && scan.high === 0;
  if (parts.some(({ dc, ac }) => (needsDc && !dc) || (scan.final > 0 && !ac))) throw damaged("it lacks a Huffman table");
  if (scan.low === 0) frame.final.fill(1, scan.first, scan.final + 1);
  const decodeBlock = !isProgressive ? decodeSequential
    : scan.first === 0 ? (scan.high ? refineDc : decodeDc) : scan.high ? refineAc : decodeAc;
  walk(state, parts, new Bits(bytes, at), (...block) => decodeBlock(...block, scan));
}

// Decodes each block of a scan, MCU after MCU; those of color go into one that nobody reads.
function walk({ frame, restart }, parts, bits, decodeBlock) {
  const isAlone = parts.length === 1;
  const [luma] = frame.components;
  const across = isAlone ? Math.ceil(frame.width / 8) : frame.across;
  const count = across * (isAlone ? Math.ceil(frame.height / 8) : frame.down);
  const unread = new Int16Array(64);
  for (let mcu = 0; mcu < count; mcu++) {
    if (restart && mcu && mcu % restart === 0) {
      bits.restart(mcu / restart - 1);
      parts.forEach((part) => { part.last = 0; });
    }
    const [column, row] = [mcu % across, Math.floor(mcu / across)];
    for (const part of parts) {
      const [h, v] = isAlone ? [1, 1] : [part.component.h, part.component.v];
      for (let y = 0; y < v; y++) {
        for (let x = 0; x < h; x++) {
          const start = part.component === luma ? ((row * v + y) * frame.wide + column * h + x) * 64 : -1;
          if (start < 0) unread.fill(0);
          decodeBlock(bits, part, start < 0 ? unread : frame.blocks, Math.max(start, 0));
        }
      }
    }
  }
  bits.finish();
}

function toPixels({ width, height, wide, blocks, scale }, shrunk) {
  const side = 8 / shrunk;
  const [outWidth, outHeight] = [Math.ceil(width / shrunk), Math.ceil(height / shrunk)];
  const [stride, rows] = [wide * side, Math.ceil(outHeight / side)];
  const padded = new Uint8Array(stride * rows * side);
  const block = new Int32Array(64);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < wide; column++) {
      const start = (row * wide + column) * 64;
      for (let i = 0; i < 64; i++) block[i] = (blocks[start + i] * scale[i] << 16) >> 16;
      transform(block, side, padded, row * side * stride + column * side, stride);
    }
  }
  const data = new Uint8Array(outWidth * outHeight);
  for (let y = 0; y < outHeight; y++) data.set(padded.subarray(y * stride, y * stride + outWidth), y * outWidth);
  return { data, width: outWidth, height: outHeight };
}
