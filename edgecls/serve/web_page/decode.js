// From an image file to the network's input: what edgecls/images/decode.py does, with the same bytes, for PNG and JPEG.

import { openJpeg } from "./jpeg.js";
import { openPng, SIGNATURE } from "./png.js";
import { chooseShrink, fit, place, turn, uprightSize } from "./resize.js";

const [MAX_SIDE, MAX_PIXELS] = [65535, 64 * 1024 * 1024];

// Returns the network's input, height * width bytes; `info` has width, height, resize, roi and bits.
export async function loadGray(bytes, info) {
  const file = open(bytes);
  const orientation = readOrientation(file);
  const stored = [file.width, file.height];
  const placement = place(uprightSize(stored, orientation), info);
  const shrunk = file.canShrink ? chooseShrink(placement) : 1;
  const gray = await file.decode(info.bits, shrunk);
  return fit({ gray, stored, shrunk, orientation }, info);
}

// Returns the whole picture in its own size, upright.
export async function decodeGray(bytes, bits) {
  const file = open(bytes);
  return turn(await file.decode(bits, 1), readOrientation(file));
}

function open(bytes) {
  const starts = (...magic) => magic.every((byte, i) => bytes[i] === byte);
  const file = starts(...SIGNATURE) ? openPng(bytes) : starts(0xff, 0xd8, 0xff) ? openJpeg(bytes) : null;
  if (!file) throw new Error("This page reads PNG and JPEG images. Convert the image to one of them.");
  const { width, height } = file;
  if (!(width && height)) throw new Error("This image has no pixels.");
  if (Math.max(width, height) > MAX_SIDE || width * height > MAX_PIXELS) {
    throw new Error(`This image has ${width} x ${height} pixels; at most ${MAX_PIXELS} are read. Make it smaller.`);
  }
  return file;
}

// EXIF's orientation, or that of XMP; 1 (upright) if there is none.
function readOrientation({ exif, xmp }) {
  return (exif && readExif(exif)) ?? Number(/tiff:Orientation(?:="|>)([0-9])/.exec(xmp || "")?.[1] ?? 1);
}

function readExif(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const little = bytes[0] === 0x49;
  try {
    if (![0x49492a00, 0x4d4d002a].includes(view.getUint32(0))) return undefined;
    const start = view.getUint32(4, little);
    const count = view.getUint16(start, little);
    for (let i = 0, at = start + 2; i < count; i++, at += 12) {
      if (view.getUint16(at, little) !== 0x0112) continue;
      const isShort = view.getUint16(at + 2, little) === 3;
      return isShort ? view.getUint16(at + 8, little) : view.getUint32(at + 8, little);
    }
  } catch { /* cut off: as if there were none */ }
  return undefined;
}
