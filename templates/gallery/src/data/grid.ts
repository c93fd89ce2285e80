// Maps on one common grid, with the arithmetic of camreport/insight/numbers.py.
import type { CamCell } from "./types";

/** The level of zero in a signed map, as in camreport/report/heatmap.py: 0 is -peak, 254 is +peak. */
export const ZERO = 127;

/** A map with its levels. */
export interface Levelled {
  cam: CamCell;
  levels: Uint8Array;
}

/** A map's values as fractions of its maximum; zeros where it is empty. */
export function fractionsOf({ cam, levels }: Levelled) {
  if (cam.state !== "positive") return new Float64Array(cam.height * cam.width);
  return Float64Array.from(levels, (level) => (cam.signed ? (level - ZERO) / ZERO : level / 255));
}

/** Cells of a side of the common grid. */
export const COMMON = 14;

/** Levels of the common grid's values, so that rounding orders no equal cells. */
export const LEVELS = 60_000;

/** A part of a map, as fractions of its width or height. */
export type Span = [from: number, to: number];

/**
 * For each cell of one axis of the common grid over a part of a map, what share of it each of the
 * map's `source` cells has.
 */
function sharesOf(source: number, [begin, end]: Span) {
  const [start, length] = [begin * source, (end - begin) * source];
  return Array.from({ length: COMMON }, (_, cell) => {
    const shares = new Float64Array(source);
    if (length > COMMON) {
      const [from, to] = [cell, cell + 1].map((at) => start + (at * length) / COMMON);
      for (let i = Math.floor(from); i < Math.min(to, source); i++)
        shares[i] = ((Math.min(i + 1, to) - Math.max(i, from)) * COMMON) / length;
    } else {
      const middle = start + ((cell + 0.5) * length) / COMMON - 0.5;
      const position = Math.min(Math.max(middle, 0), source - 1);
      const first = Math.floor(position);
      shares[first] = 1 - (position - first);
      if (first + 1 < source) shares[first + 1] = position - first;
    }
    return shares;
  });
}

const WHOLE: Span = [0, 1];

/**
 * The positive part of a map on the common grid, in whole levels: averaged where its own grid is
 * finer, else interpolated.
 * @param values fractions of the map's maximum
 * @param part that the grid lies over: from left to right and from top to bottom
 */
export function onCommonGrid(
  values: ArrayLike<number>,
  height: number,
  width: number,
  [along, below]: Span[] = [WHOLE, WHOLE],
) {
  const [down, across] = [sharesOf(height, below), sharesOf(width, along)];
  const found = new Float64Array(COMMON * COMMON);
  for (let y = 0; y < COMMON; y++) {
    const row = new Float64Array(width); // the rows that lie in this one
    for (let i = 0; i < height; i++)
      if (down[y][i])
        for (let j = 0; j < width; j++) row[j] += down[y][i] * Math.max(values[i * width + j], 0);
    for (let x = 0; x < COMMON; x++) {
      let sum = 0;
      for (let j = 0; j < width; j++) sum += across[x][j] * row[j];
      found[y * COMMON + x] = Math.floor(sum * LEVELS + 0.5);
    }
  }
  return found;
}
