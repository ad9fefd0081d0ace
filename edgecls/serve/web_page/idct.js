// The inverse cosine transforms of libjpeg ("islow"), for blocks of 8, 4, 2 and 1 pixels a side, in its fixed point:
// other transforms differ by a gray value here and there. `block` holds 64 coefficients, multiplied by their
// quantization; the pixels go to out[at], row by row, with `stride` between rows.

const WORK = new Int16Array(64);
const clamp = (value) => (value < 0 ? 0 : value > 255 ? 255 : value);
const descale = (value, bits) => (value + (1 << (bits - 1))) >> bits;

export function transform(block, side, out, at, stride) {
  if (side === 1) out[at] = clamp(descale(block[0], 3) + 128);
  else (side === 8 ? idct8 : side === 4 ? idct4 : idct2)(block, out, at, stride);
}

// Calls `line` for each column into WORK, then for each row into the pixels.
function bothWays(block, side, columns, line, out, at, stride, bits) {
  for (const x of columns) {
    line(block, x, 8, (i, value) => { WORK[8 * i + x] = descale(value, bits); });
  }
  for (let y = 0; y < side; y++) {
    line(WORK, 8 * y, 1, (i, value) => { out[at + y * stride + i] = clamp(descale(value, bits + 7) + 128); });
  }
}

const COLUMNS_4 = [0, 1, 2, 3, 5, 6, 7];
const COLUMNS_2 = [0, 1, 3, 5, 7];

const idct4 = (block, out, at, stride) => bothWays(block, 4, COLUMNS_4, line4, out, at, stride, 12);
const idct2 = (block, out, at, stride) => bothWays(block, 2, COLUMNS_2, line2, out, at, stride, 13);

function line4(from, at, step, put) {
  const [z1, z2, z3, z4] = [from[at + 7 * step], from[at + 5 * step], from[at + 3 * step], from[at + step]];
  const dc = from[at] << 14;
  const even = from[at + 2 * step] * 15137 + from[at + 6 * step] * -6270;
  const inner = z1 * -1730 + z2 * 11893 + z3 * -17799 + z4 * 8697;
  const outer = z1 * -4176 + z2 * -4926 + z3 * 7373 + z4 * 20995;
  put(0, dc + even + outer);
  put(3, dc + even - outer);
  put(1, dc - even + inner);
  put(2, dc - even - inner);
}

function line2(from, at, step, put) {
  const dc = from[at] << 15;
  const odd = from[at + 7 * step] * -5906 + from[at + 5 * step] * 6967 + from[at + 3 * step] * -10426 + from[at + step] * 29692;
  put(0, dc + odd);
  put(1, dc - odd);
}

// Written out, because most pixels of large pictures come through here.
function idct8(block, out, at, stride) {
  for (let x = 0; x < 8; x++) {
    line8(block, x, 8);
    for (let i = 0; i < 8; i++) WORK[8 * i + x] = descale(LINE[i], 11);
  }
  for (let y = 0; y < 8; y++) {
    line8(WORK, 8 * y, 1);
    for (let i = 0; i < 8; i++) out[at + y * stride + i] = clamp(descale(LINE[i], 18) + 128);
  }
}

const LINE = new Int32Array(8);

function line8(from, at, step) {
  const [v0, v1, v2, v3] = [from[at], from[at + step], from[at + 2 * step], from[at + 3 * step]];
  const [v4, v5, v6, v7] = [from[at + 4 * step], from[at + 5 * step], from[at + 6 * step], from[at + 7 * step]];
  const turn = (v2 + v6) * 4433;
  const [low, high] = [turn + v6 * -15137, turn + v2 * 6270];
  const [sum, difference] = [(v0 + v4) << 13, (v0 - v4) << 13];
  const [e0, e3, e1, e2] = [sum + high, sum - high, difference + low, difference - low];
  const both = (v7 + v3 + v5 + v1) * 9633;
  const [z1, z2] = [(v7 + v1) * -7373, (v5 + v3) * -20995];
  const [z3, z4] = [(v7 + v3) * -16069 + both, (v5 + v1) * -3196 + both];
  const [o0, o1] = [v7 * 2446 + z1 + z3, v5 * 16819 + z2 + z4];
  const [o2, o3] = [v3 * 25172 + z2 + z3, v1 * 12299 + z1 + z4];
  LINE[0] = e0 + o3;
  LINE[7] = e0 - o3;
  LINE[1] = e1 + o2;
  LINE[6] = e1 - o2;
  LINE[2] = e2 + o1;
  LINE[5] = e2 - o1;
  LINE[3] = e3 + o0;
  LINE[4] = e3 - o0;
}
