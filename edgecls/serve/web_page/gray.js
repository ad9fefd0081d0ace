// Pillow's gray of a color, and of a canvas' pixels.

export const luma = (r, g, b) => (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;

// Returns the gray picture of an ImageData, such as a camera's frame.
export function fromRgba({ data, width, height }) {
  const gray = new Uint8Array(width * height);
  for (let i = 0; i < gray.length; i++) gray[i] = luma(data[4 * i], data[4 * i + 1], data[4 * i + 2]);
  return { data: gray, width, height };
}
