// A photo to the network's input, as training does it: upright, the short side resized, the centre cropped, in one step;
// bicubic (a = -0.5) with antialiasing, in the fixed-point arithmetic of Pillow. Of equal decoded pixels it makes equal
// pixels; what remains is how a browser decodes a JPEG, and that training decodes a large one at a fraction of its size.

const PRECISION = 22; // bits of a weight's fraction
const LONGEST = 4096; // pixels: phones have no room for a larger canvas, so a browser first scales such a photo down

// RGB pixels, Uint8Array of size * size * 3, of a photo (Blob). Throws if this browser cannot read it.
export async function pixels(blob, size) {
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  try {
    const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
    const width = Math.max(1, Math.round(bitmap.width * scale));
    const height = Math.max(1, Math.round(bitmap.height * scale));
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "white"; // under transparency
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, width, height);
    return resized(context.getImageData(0, 0, width, height).data, width, height, size);
  } finally {
    bitmap.close();
  }
}

// RGBA to RGB: first the rows to the new width, rounded to whole numbers, then the columns.
export function resized(rgba, width, height, size) {
  const side = Math.min(width, height);
  const across = weights((width - side) / 2, side, width, size);
  const down = weights((height - side) / 2, side, height, size);
  const top = down[0].first;
  const bottom = down[size - 1].first + down[size - 1].weights.length;
  const narrow = new Uint8Array((bottom - top) * size * 3);
  for (let y = top, out = 0; y < bottom; y++) {
    for (const { first, weights } of across) {
      out = sum(rgba, (y * width + first) * 4, 4, weights, narrow, out);
    }
  }
  const found = new Uint8Array(size * size * 3);
  let out = 0;
  for (const { first, weights } of down) {
    for (let x = 0; x < size; x++) out = sum(narrow, ((first - top) * size + x) * 3, size * 3, weights, found, out);
  }
  return found;
}

function sum(from, at, step, weights, to, out) {
  let red = 2 ** (PRECISION - 1);
  let green = red;
  let blue = red;
  for (const weight of weights) {
    red += from[at] * weight;
    green += from[at + 1] * weight;
    blue += from[at + 2] * weight;
    at += step;
  }
  to[out] = whole(red);
  to[out + 1] = whole(green);
  to[out + 2] = whole(blue);
  return out + 3;
}

function whole(value) {
  return Math.min(255, Math.max(0, value >> PRECISION));
}

// For each new pixel, the first old one that counts, and the weights of those from it on.
function weights(start, length, limit, size) {
  const scale = length / size;
  const stretch = Math.max(scale, 1);
  const support = 2 * stretch;
  return Array.from({ length: size }, (_, index) => {
    const centre = start + (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(limit, Math.trunc(centre + support + 0.5)) - first;
    const exact = Array.from({ length: count }, (_, place) => cubic((place + first - centre + 0.5) * (1 / stretch)));
    const total = exact.reduce((sum, weight) => sum + weight, 0);
    const normal = exact.map((weight) => (total === 0 ? weight : weight * (1 / total)));
    return { first, weights: normal.map((weight) => Math.trunc(weight * 2 ** PRECISION + (weight < 0 ? -0.5 : 0.5))) };
  });
}

function cubic(x) {
  const distance = Math.abs(x);
  if (distance < 1) return (1.5 * distance - 2.5) * distance * distance + 1;
  return distance < 2 ? (((distance - 5) * distance + 8) * distance - 4) * -0.5 : 0;
}
