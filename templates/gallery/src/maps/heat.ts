// From 8-bit levels to pixels, with the arithmetic of camreport/report/heatmap.py: float64, half-pixel
// centres, floor(x + 0.5). A browser test holds the two equal.
import { ZERO } from "../data/grid";

export { ZERO };

/** The power of a value that its opacity follows where small values are lifted. */
export const LIFT = 0.6;

/** Shares of the scale at which contours run. */
const CONTOURS = [0.25, 0.5, 0.75];

/** For each target pixel its two source pixels and the share of the second. */
function neighbours(source: number, target: number) {
  const first = new Int32Array(target);
  const second = new Int32Array(target);
  const share = new Float64Array(target);
  for (let i = 0; i < target; i++) {
    const position = Math.min(Math.max(((i + 0.5) * source) / target - 0.5, 0), source - 1);
    first[i] = Math.floor(position);
    second[i] = Math.min(first[i] + 1, source - 1);
    share[i] = position - first[i];
  }
  return { first, second, share };
}

/** Levels enlarged to height × width: bilinear, or each pixel its cell's own level. */
export function enlarge(
  levels: ArrayLike<number>,
  grid: { height: number; width: number },
  height: number,
  width: number,
  smooth = true,
) {
  const out = new Float64Array(width * height);
  if (!smooth) {
    for (let row = 0; row < height; row++) {
      const from = Math.floor(((row + 0.5) * grid.height) / height) * grid.width;
      for (let column = 0; column < width; column++) {
        out[row * width + column] =
          levels[from + Math.floor(((column + 0.5) * grid.width) / width)];
      }
    }
    return out;
  }
  const x = neighbours(grid.width, width);
  const y = neighbours(grid.height, height);
  const across = new Float64Array(grid.height * width); // each source row, enlarged along x
  for (let row = 0; row < grid.height; row++) {
    for (let column = 0; column < width; column++) {
      const along = x.share[column];
      across[row * width + column] =
        levels[row * grid.width + x.first[column]] * (1 - along) +
        levels[row * grid.width + x.second[column]] * along;
    }
  }
  for (let row = 0; row < height; row++) {
    const down = y.share[row];
    const upper = y.first[row] * width;
    const lower = y.second[row] * width;
    for (let column = 0; column < width; column++) {
      out[row * width + column] =
        across[upper + column] * (1 - down) + across[lower + column] * down;
    }
  }
  return out;
}

/**
 * The colour table's index of every pixel.
 * @param values enlarged levels
 * @param gain what the map's own maximum is multiplied by under the chosen scale
 */
export function indices(values: Float64Array, signed: boolean, gain: number) {
  const index = new Uint8Array(values.length);
  if (signed) {
    for (let i = 0; i < values.length; i++) {
      const offset = Math.floor((values[i] - ZERO) * gain + 0.5);
      index[i] = Math.min(Math.max(offset, -ZERO), ZERO) + ZERO;
    }
  } else {
    for (let i = 0; i < values.length; i++) {
      index[i] = Math.min(Math.max(Math.floor(values[i] * gain + 0.5), 0), 255);
    }
  }
  return index;
}

/** How the pixels of a map are coloured. */
export interface Look {
  /** RGB of each index. */
  table: Uint8Array;
  signed: boolean;
  /** Share of the scale below which nothing is drawn. */
  threshold: number;
  /** Of the largest value, 0 to 1. */
  opacity: number;
  /** The power of a value that its opacity follows; 0 draws all alike. */
  power: number;
}

/** A look without transparency. */
export const OPAQUE = { threshold: 0, opacity: 1, power: 0 };

/** A colour for each index as the bytes of RGBA; nothing below the threshold. */
function colours({ table, signed, threshold, opacity, power }: Look) {
  const bytes = new Uint8ClampedArray(4 * 256);
  for (let i = 0; i < (signed ? 2 * ZERO + 1 : 256); i++) {
    const strength = signed ? Math.abs(i - ZERO) : i;
    const most = signed ? ZERO : 255;
    if (strength < threshold * most) continue;
    const alpha = Math.floor(opacity * (strength / most) ** power * 255 + 0.5);
    bytes.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], alpha], 4 * i);
  }
  return new Uint32Array(bytes.buffer);
}

/** Colour a map into a canvas. */
export function paint(
  canvas: HTMLCanvasElement,
  index: Uint8Array,
  height: number,
  width: number,
  look: Look,
) {
  const pixels = new ImageData(width, height);
  const colour = colours(look);
  const out = new Uint32Array(pixels.data.buffer);
  for (let i = 0; i < index.length; i++) out[i] = colour[index[i]];
  put(canvas, pixels);
}

/** Draw the lines at 25, 50 and 75 % into a canvas: black within, white without. */
export function paintContours(
  canvas: HTMLCanvasElement,
  index: Uint8Array,
  height: number,
  width: number,
  signed: boolean,
) {
  const pixels = new ImageData(width, height);
  const out = new Uint32Array(pixels.data.buffer);
  const [inner, outer] = new Uint32Array(new Uint8Array([0, 0, 0, 255, 255, 255, 255, 255]).buffer);
  const most = signed ? ZERO : 255;
  const reached = Uint8Array.from({ length: 256 }, (_, i) => {
    const strength = signed ? Math.abs(i - ZERO) : i;
    return CONTOURS.filter((share) => strength >= share * most).length;
  });
  const band = index.map((i) => reached[i]); // how many of the lines a pixel lies within
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const i = row * width + column;
      const own = band[i];
      const above = row > 0 ? band[i - width] : own;
      const below = row < height - 1 ? band[i + width] : own;
      const left = column > 0 ? band[i - 1] : own;
      const right = column < width - 1 ? band[i + 1] : own;
      if (own > above || own > below || own > left || own > right) out[i] = inner;
      else if (own < above || own < below || own < left || own < right) out[i] = outer;
    }
  }
  put(canvas, pixels);
}

/**
 * Paint a colour table into a canvas as a bar from left to right.
 * @param upright from bottom to top instead
 */
export function paintBar(
  canvas: HTMLCanvasElement,
  table: Uint8Array,
  count: number,
  upright = false,
) {
  const pixels = upright ? new ImageData(1, count) : new ImageData(count, 1);
  for (let i = 0; i < count; i++) {
    const from = 3 * (upright ? count - 1 - i : i);
    pixels.data.set([table[from], table[from + 1], table[from + 2], 255], 4 * i);
  }
  put(canvas, pixels);
}

function put(canvas: HTMLCanvasElement, pixels: ImageData) {
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  (canvas.getContext("2d") as CanvasRenderingContext2D).putImageData(pixels, 0, 0);
}
