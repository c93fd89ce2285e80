// A grid of numbers over the picture, such as a mean of maps, as a small picture of its own.
import { data, state } from "../../app";
import { bytesOf } from "../../data/bytes";
import { OPAQUE, ZERO, enlarge, indices, paint } from "../../maps/heat";
import { all, h } from "../../parts/dom";

/** Cells of a side, and pixels that they are drawn with. */
const GRID = 14;
const SIDE = 98;

/** Values of 14 × 14 cells; a signed one is drawn in two colours around zero. */
export interface Grid {
  values: ArrayLike<number>;
  signed: boolean;
}

/** The largest value of a grid, by magnitude. */
export const peakOf = ({ values }: Grid) =>
  Array.from(values).reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** The grid at a place among those that share one text of base64. */
export function gridAt(bytes: Uint8Array, peaks: number[], place: number): Grid {
  const levels = bytes.subarray(place * GRID * GRID, (place + 1) * GRID * GRID);
  return {
    values: Float64Array.from(levels, (level) => (level / 255) * peaks[place]),
    signed: false,
  };
}

/** A grid of its own. */
export const gridOf = (base64: string) => gridAt(bytesOf(base64), [1], 0);

/** The same of signed levels: 127 is zero. */
export const signedOf = (base64: string): Grid => ({
  values: Float64Array.from(bytesOf(base64), (level) => (level - ZERO) / ZERO),
  signed: true,
});

export const minus = (one: Grid, other: Grid): Grid => ({
  values: Float64Array.from(one.values, (value, i) => value - other.values[i]),
  signed: true,
});

const painters = new WeakMap<HTMLElement, () => void>();

/**
 * A grid as a picture.
 * @param peak the value that has the last colour
 * @param words what it shows
 */
export function picture(grid: Grid, peak: number, words: string) {
  const canvas = h("canvas.mean", { role: "img", "aria-label": words, title: words });
  const { values, signed } = grid;
  const scale = (value: number) => (peak ? value / peak : 0);
  const levels = Float64Array.from(values, (value) =>
    signed ? ZERO + ZERO * scale(value) : 255 * scale(value),
  );
  const draw = () => {
    const table = data.tables[signed ? "diverging" : state.colormap];
    const drawn = enlarge(levels, { height: GRID, width: GRID }, SIDE, SIDE, !state.cells);
    paint(canvas, indices(drawn, signed, 1), SIDE, SIDE, { ...OPAQUE, table, signed });
  };
  painters.set(canvas, draw);
  draw();
  return canvas;
}

/** Colour all such pictures anew. */
export const repaint = (root: ParentNode) =>
  all("canvas.mean", root).forEach((canvas) => painters.get(canvas)?.());
