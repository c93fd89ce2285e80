// How far two maps agree, with the numbers of camreport/insight/numbers.py: what of them is positive,
// on one common grid. A browser test holds the two equal.
import type { ImageRecord } from "../data/dataset";
import { levelsOf } from "../data/dataset";
import type { CamCell } from "../data/types";
import { ZERO } from "./heat";

/** Cells of a side of the common grid. */
export const COMMON = 14;

/** Levels of the common grid's values, so that rounding orders no equal cells. */
const LEVELS = 60_000;

/** For each cell of one axis of the common grid, what share of it each of `source` cells has. */
function sharesOf(source: number) {
  return Array.from({ length: COMMON }, (_, cell) => {
    const shares = new Float64Array(source);
    if (source > COMMON) {
      const [from, to] = [(cell * source) / COMMON, ((cell + 1) * source) / COMMON];
      for (let i = Math.floor(from); i < Math.min(to, source); i++)
        shares[i] = ((Math.min(i + 1, to) - Math.max(i, from)) * COMMON) / source;
    } else {
      const middle = ((cell + 0.5) * source) / COMMON - 0.5;
      const position = Math.min(Math.max(middle, 0), source - 1);
      const first = Math.floor(position);
      shares[first] = 1 - (position - first);
      if (first + 1 < source) shares[first + 1] = position - first;
    }
    return shares;
  });
}

/**
 * The positive part of a map on the common grid, in whole levels: averaged where its own grid is
 * finer, else interpolated.
 * @param values fractions of the map's maximum
 */
export function onCommonGrid(values: ArrayLike<number>, height: number, width: number) {
  const [down, across] = [sharesOf(height), sharesOf(width)];
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

/** A map that is drawn, on the common grid. */
export function commonGrid(image: ImageRecord, cam: CamCell) {
  const fractions = Float64Array.from(levelsOf(image, cam), (level) =>
    cam.signed ? (level - ZERO) / ZERO : level / 255,
  );
  return onCommonGrid(fractions, cam.height, cam.width);
}

/** The rank of every value, equal ones sharing the mean of theirs. */
function ranks(values: Float64Array) {
  const order = Uint32Array.from(values, (_, i) => i).sort((a, b) => values[a] - values[b]);
  const rank = new Float64Array(values.length);
  for (let start = 0; start < order.length;) {
    let end = start;
    while (end < order.length && values[order[end]] === values[order[start]]) end++;
    for (let i = start; i < end; i++) rank[order[i]] = (start + end - 1) / 2;
    start = end;
  }
  return rank;
}

/** Spearman's rank correlation of two maps on one grid; NaN where one is flat. */
export function rankCorrelation(one: Float64Array, other: Float64Array) {
  const [a, b] = [ranks(one), ranks(other)];
  const mean = (a.length - 1) / 2;
  let product = 0;
  let squareA = 0;
  let squareB = 0;
  for (let i = 0; i < a.length; i++) {
    product += (a[i] - mean) * (b[i] - mean);
    squareA += (a[i] - mean) ** 2;
    squareB += (b[i] - mean) ** 2;
  }
  return product / Math.sqrt(squareA * squareB);
}

/**
 * Overlap of the highest fifths of two maps on one grid, as far as they are above zero: intersection
 * over union, 0 to 1; NaN where both are zero.
 */
export function topOverlap(one: Float64Array, other: Float64Array) {
  const count = Math.max(1, Math.floor(one.length / 5));
  const least = [one, other].map((values) =>
    Math.max(Float64Array.from(values).sort()[values.length - count], Number.MIN_VALUE),
  );
  let both = 0;
  let either = 0;
  for (let i = 0; i < one.length; i++) {
    const a = one[i] >= least[0];
    const b = other[i] >= least[1];
    both += Number(a && b);
    either += Number(a || b);
  }
  return both / either;
}
