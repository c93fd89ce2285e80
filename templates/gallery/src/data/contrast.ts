// One class's map minus another's, from what is drawn of them, where no difference of the raw maps
// is shipped.
import type { CamCell } from "./types";

/** The byte of zero in a signed map, as in camreport/report/heatmap.py. */
const ZERO = 127;

/** A map with its levels. */
export interface Levelled {
  cam: CamCell;
  levels: Uint8Array;
}

/** A map's values as fractions of its maximum; zeros where it is empty. */
function fractions({ cam, levels }: Levelled) {
  if (cam.state !== "positive") return new Float64Array(cam.height * cam.width);
  return Float64Array.from(levels, (level) => (cam.signed ? (level - ZERO) / ZERO : level / 255));
}

/**
 * One map minus another of the same method and layer, each as a fraction of its own maximum; null
 * where they cannot be subtracted: pictures in colours, different channels, maps that are no numbers.
 */
export function difference(one: Levelled, other: Levelled, rank: number): Levelled | null {
  const both = [one.cam, other.cam];
  if (both.some((cam) => cam.picture || cam.channel !== undefined || cam.state === "undefined"))
    return null;
  const [a, b] = [fractions(one), fractions(other)];
  const values = a.map((value, i) => Math.min(Math.max(value - b[i], -1), 1));
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const levels = Uint8Array.from(values, (value) => Math.floor(value * ZERO + ZERO + 0.5));
  const { method, layer, height, width, grid } = one.cam;
  const state = largest > 0 ? "positive" : "empty";
  const scale = { peak: 1, largest, base: 0, state, signed: true, own: true } as const;
  return { cam: { method, layer, rank, height, width, grid, ...scale }, levels };
}
