// How far two maps on one grid agree.

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
 * Overlap of the highest values of two maps on one grid: intersection over union, 0 to 1.
 * @param share of the positions that count as highest
 */
export function topOverlap(one: Float64Array, other: Float64Array, share = 0.2) {
  const count = Math.max(1, Math.round(share * one.length));
  const least = [one, other].map(
    (values) => Float64Array.from(values).sort()[values.length - count],
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
