// Where a picture goes in the network's input, and its resize: what edgecls/images/resizing.py does, with the same
// bytes as Pillow. A gray picture is { data: Uint8Array, width, height }; sizes are [width, height], boxes
// [left, top, right, bottom].

const SPARE = 2;
const PAD_GRAY = 128;
const PRECISION_BITS = 22;
const isSideways = (orientation) => orientation >= 5 && orientation <= 8;

export const uprightSize = ([width, height], orientation) => (isSideways(orientation) ? [height, width] : [width, height]);

// Returns { box, size, offset } for an upright picture; `info` has width, height, resize and roi.
export function place([pictureWidth, pictureHeight], info) {
  let [left, top, width, height] = info.roi || [0, 0, pictureWidth, pictureHeight];
  if (left + width > pictureWidth || top + height > pictureHeight) {
    throw new Error(`This image has ${pictureWidth} x ${pictureHeight} pixels; the region of interest ${info.roi.join()} ` +
      "(left, top, width, height) reaches beyond it. Take an image that is as large as those of the training.");
  }
  const wanted = [info.width, info.height];
  let [size, offset] = [wanted, [0, 0]];
  if (info.resize === "crop") {
    const part = largest([width, height], wanted);
    [left, top] = [left + Math.floor((width - part[0]) / 2), top + Math.floor((height - part[1]) / 2)];
    [width, height] = part;
  } else if (info.resize === "pad") {
    size = largest(wanted, [width, height]);
    offset = [Math.floor((wanted[0] - size[0]) / 2), Math.floor((wanted[1] - size[1]) / 2)];
  }
  return { box: [left, top, left + width, top + height], size, offset };
}

function largest([width, height], like) {
  const rounded = (side, by, of) => Math.max(1, Math.floor((2 * side * by + of) / (2 * of)));
  if (width * like[1] > height * like[0]) return [rounded(height, like[0], like[1]), height];
  return [width, rounded(width, like[1], like[0])];
}

// The largest of 1, 2, 4 and 8 by which a JPEG decoder may shrink and leave enough pixels.
export function chooseShrink({ box, size }) {
  const room = Math.min(...[0, 1].map((axis) => Math.floor((box[axis + 2] - box[axis]) / (SPARE * size[axis]))));
  return [8, 4, 2].find((factor) => factor <= room) || 1;
}

// Returns the network's input, height * width bytes. `picture` has gray, stored (the size in full), shrunk, orientation.
export function fit({ gray, stored, shrunk, orientation }, info) {
  const { box, size, offset } = place(uprightSize(stored, orientation), info);
  const [left, top, right, bottom] = toStored(box, stored, orientation).map((side) => side / shrunk);
  const outer = [Math.floor(left), Math.floor(top), Math.ceil(right), Math.ceil(bottom)];
  const part = crop(gray, outer);
  const inside = [left - outer[0], top - outer[1], right - outer[0], bottom - outer[1]];
  return pad(turn(resize(part, inside, uprightSize(size, orientation)), orientation), [info.width, info.height], offset);
}

function toStored(box, stored, orientation) {
  let [left, top, right, bottom] = isSideways(orientation) ? [box[1], box[0], box[3], box[2]] : box;
  if ([2, 3, 7, 8].includes(orientation)) [left, right] = [stored[0] - right, stored[0] - left];
  if ([3, 4, 6, 7].includes(orientation)) [top, bottom] = [stored[1] - bottom, stored[1] - top];
  return [left, top, right, bottom];
}

function crop(gray, [left, top, right, bottom]) {
  const [width, height] = [right - left, bottom - top];
  if (width === gray.width && height === gray.height) return gray;
  const data = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const start = (top + y) * gray.width + left;
    data.set(gray.data.subarray(start, start + width), y * width);
  }
  return { data, width, height };
}

function pad(gray, [width, height], [left, top]) {
  if (gray.width === width && gray.height === height) return gray.data;
  const data = new Uint8Array(width * height).fill(PAD_GRAY);
  for (let y = 0; y < gray.height; y++) {
    data.set(gray.data.subarray(y * gray.width, (y + 1) * gray.width), (top + y) * width + left);
  }
  return data;
}

// A stored picture rotated as EXIF's orientation says.
export function turn(gray, orientation) {
  if (!(orientation >= 2 && orientation <= 8)) return gray;
  const [width, height] = uprightSize([gray.width, gray.height], orientation);
  const data = new Uint8Array(width * height);
  const flipX = [2, 3, 7, 8].includes(orientation);
  const flipY = [3, 4, 6, 7].includes(orientation);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let [column, row] = isSideways(orientation) ? [y, x] : [x, y];
      if (flipX) column = gray.width - 1 - column;
      if (flipY) row = gray.height - 1 - row;
      data[y * width + x] = gray.data[row * gray.width + column];
    }
  }
  return { data, width, height };
}

function resize(gray, [left, top, right, bottom], wanted) {
  const across = Math.max(Math.trunc((right - left) / wanted[0] / SPARE), 1);
  const down = Math.max(Math.trunc((bottom - top) / wanted[1] / SPARE), 1);
  const small = across > 1 || down > 1 ? reduce(gray, across, down) : gray;
  const narrow = resample(small, wanted[0], left / across, right / across, false);
  return resample(narrow, wanted[1], top / down, bottom / down, true);
}

// Pillow's Image.reduce: the mean of whole boxes, of fewer pixels at the right and the bottom edge.
function reduce(gray, across, down) {
  const [width, height] = [Math.ceil(gray.width / across), Math.ceil(gray.height / down)];
  const data = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const rows = Math.min(down, gray.height - y * down);
    for (let x = 0; x < width; x++) {
      const columns = Math.min(across, gray.width - x * across);
      const count = rows * columns;
      let sum = Math.floor(count / 2);
      for (let row = 0; row < rows; row++) {
        const start = (y * down + row) * gray.width + x * across;
        for (let column = 0; column < columns; column++) sum += gray.data[start + column];
      }
      // C computes this factor in 32-bit floats.
      const factor = Math.trunc(Math.fround(2 ** 32 / Math.fround(256 * count)));
      data[y * width + x] = Math.floor((sum * factor) / 2 ** 24);
    }
  }
  return { data, width, height };
}

// Pillow's Image.resize with BILINEAR along one axis, from `begin` to `end` (32-bit floats in C).
function resample(gray, size, begin, end, isDown) {
  const length = isDown ? gray.height : gray.width;
  const [from, to] = [Math.fround(begin), Math.fround(end)];
  if (size === length && from === 0 && to === size) return gray;
  const [width, height] = isDown ? [gray.width, size] : [size, gray.height];
  const data = new Uint8Array(width * height);
  const [step, lines, stride] = isDown ? [gray.width, gray.width, 1] : [1, gray.height, gray.width];
  const [outStep, outStride] = isDown ? [width, 1] : [1, width];
  for (let i = 0; i < size; i++) {
    const { first, weights } = weigh(i, length, Math.fround(to - from) / size, from);
    for (let line = 0; line < lines; line++) {
      let sum = 1 << (PRECISION_BITS - 1);
      let at = line * stride + first * step;
      for (let k = 0; k < weights.length; k++, at += step) sum += gray.data[at] * weights[k];
      data[line * outStride + i * outStep] = Math.min(sum >> PRECISION_BITS, 255);
    }
  }
  return { data, width, height };
}

// The first pixel that output pixel `i` is made of, and the fixed-point weights of it and of those that follow.
function weigh(i, length, scale, from) {
  const support = Math.max(scale, 1);
  const center = from + (i + 0.5) * scale;
  const first = Math.max(Math.trunc(center - support + 0.5), 0);
  const last = Math.min(Math.trunc(center + support + 0.5), length);
  const weights = [];
  let total = 0;
  for (let at = first; at < last; at++) {
    const weight = Math.max(1 - Math.abs((at - center + 0.5) * (1 / support)), 0);
    weights.push(weight);
    total += weight;
  }
  return { first, weights: weights.map((weight) => Math.trunc(0.5 + (weight / total) * (1 << PRECISION_BITS))) };
}
