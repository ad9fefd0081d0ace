// The entropy-coded data of JPEG files: Huffman codes, and the coefficients of one block from them. Damaged data is
// refused where libjpeg would go on with other values.

export const ZIGZAG = [
  0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
  35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55,
  62, 63,
];
// Some cameras write up to four bytes after the last block.
const SURPLUS = 4;

export const damaged = (found) => new Error(`This JPEG file is damaged: ${found}.`);

// The bits of one scan's data, which ends at the next marker.
export class Bits {
  constructor(bytes, at) {
    Object.assign(this, { bytes, at, buffer: 0, count: 0, added: 0, run: 0 });
  }

  // Makes at least 16 bits available; zeros follow the end of the data.
  fill() {
    while (this.count <= 16) {
      let byte = this.bytes[this.at];
      if (byte === 0xff && this.bytes[this.at + 1] !== 0) byte = undefined;
      if (byte === undefined) this.added += 8;
      else this.at += byte === 0xff ? 2 : 1;
      this.buffer = ((this.buffer << 8) | (byte ?? 0)) & 0xffffff;
      this.count += 8;
    }
  }

  read(length) {
    if (!length) return 0;
    if (this.count < length) this.fill();
    this.count -= length;
    return (this.buffer >> this.count) & ((1 << length) - 1);
  }

  symbol(table) {
    if (this.count < 16) this.fill();
    const found = table[(this.buffer >> (this.count - 16)) & 0xffff];
    if (!found) throw damaged("its data has a code that is in no table");
    this.count -= found >> 8;
    return found & 255;
  }

  // A value of `length` bits, of which the first is 0 for negative ones.
  value(length) {
    const bits = this.read(length);
    return length && bits < 1 << (length - 1) ? bits - (1 << length) + 1 : bits;
  }

  restart(number) {
    this.finish();
    while (this.bytes[this.at] === 0xff && this.bytes[this.at + 1] === 0xff) this.at++;
    if (this.bytes[this.at] !== 0xff || this.bytes[this.at + 1] !== 0xd0 + (number % 8)) {
      throw damaged(`restart marker ${number + 1} is missing`);
    }
    this.at += 2;
    this.run = 0;
  }

  // Checks that the data end where the last block does, and moves to the marker.
  finish() {
    if (this.added > this.count) throw damaged("its picture data ends before its last block");
    let surplus = (this.count - this.added) >> 3;
    [this.buffer, this.count, this.added] = [0, 0, 0];
    for (; this.at < this.bytes.length && (this.bytes[this.at] !== 0xff || this.bytes[this.at + 1] === 0); this.at++) {
      if (this.bytes[this.at]) surplus++;
    }
    if (surplus > 2 * SURPLUS) throw damaged("its picture data goes on after its last block");
  }
}

function placeOf(k) {
  if (k > 63) throw damaged("a block has more than 64 coefficients");
  return ZIGZAG[k];
}

export function decodeSequential(bits, part, blocks, start) {
  part.last += bits.value(bits.symbol(part.dc));
  blocks[start] = part.last;
  for (let k = 1; k < 64; k++) {
    const code = bits.symbol(part.ac);
    k += code >> 4;
    if (code & 15) blocks[start + placeOf(k)] = bits.value(code & 15);
    else if (code !== 0xf0) return;
  }
}

export function decodeDc(bits, part, blocks, start, { low }) {
  part.last += bits.value(bits.symbol(part.dc));
  blocks[start] = part.last << low;
}

export function refineDc(bits, _, blocks, start, { low }) {
  if (bits.read(1)) blocks[start] |= 1 << low;
}

export function decodeAc(bits, part, blocks, start, { first, final, low }) {
  if (bits.run) {
    bits.run--;
    return;
  }
  for (let k = first; k <= final; k++) {
    const code = bits.symbol(part.ac);
    const [zeros, length] = [code >> 4, code & 15];
    if (!length && zeros < 15) {
      bits.run = (1 << zeros) + bits.read(zeros) - 1;
      return;
    }
    k += zeros;
    if (length) blocks[start + placeOf(k)] = bits.value(length) << low;
  }
}

export function refineAc(bits, part, blocks, start, { first, final, low }) {
  const one = 1 << low;
  const refine = (at) => {
    if (bits.read(1) && !(blocks[at] & one)) blocks[at] += blocks[at] < 0 ? -one : one;
  };
  let k = first;
  while (!bits.run && k <= final) {
    const code = bits.symbol(part.ac);
    let zeros = code >> 4;
    let value = 0;
    if (code & 15) value = bits.read(1) ? one : -one;
    else if (zeros < 15) {
      bits.run = (1 << zeros) + bits.read(zeros);
      break;
    }
    for (; k <= final; k++) {
      const at = start + ZIGZAG[k];
      if (blocks[at]) refine(at);
      else if (zeros-- === 0) {
        if (value) blocks[at] = value;
        break;
      }
    }
    if (value && k > final) throw damaged("a block has more coefficients than its scan");
    k++;
  }
  if (!bits.run) return;
  for (; k <= final; k++) if (blocks[start + ZIGZAG[k]]) refine(start + ZIGZAG[k]);
  bits.run--;
}
