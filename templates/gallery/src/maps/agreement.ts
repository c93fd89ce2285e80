// How far two maps agree, with the numbers of camreport/insight/numbers.py: what of them is positive,
// on one common grid. A browser test holds the two equal.
import type { ImageRecord } from "../data/dataset";
import { levelsOf } from "../data/dataset";
import { fractionsOf, onCommonGrid } from "../data/grid";
import type { CamCell } from "../data/types";

/** A map that is drawn, on the common grid. */
export const commonGrid = (image: ImageRecord, cam: CamCell) =>
  onCommonGrid(fractionsOf({ cam, levels: levelsOf(image, cam) }), cam.height, cam.width);

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
