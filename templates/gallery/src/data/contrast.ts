// One map minus another, from what is drawn of both, where no difference of the raw maps is shipped.
import { COMMON, type Levelled, LEVELS, type Span, ZERO, fractionsOf, onCommonGrid } from "./grid";
import type { Box, CamCell } from "./types";

type Size = Pick<CamCell, "height" | "width" | "grid" | "rank">;

/** A signed map of a difference, from -1 to 1; empty where there is none. */
function signed({ method, layer }: CamCell, size: Size, values: Float64Array): Levelled {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const levels = Uint8Array.from(values, (value) => Math.floor(value * ZERO + ZERO + 0.5));
  const state = largest > 0 ? "positive" : "empty";
  const scale = { peak: 1, largest, base: 0, state, signed: true, own: true } as const;
  return { cam: { method, layer, ...size, ...scale }, levels };
}

const isNumbers = ({ cam }: Levelled) =>
  !cam.picture && cam.channel === undefined && cam.state !== "undefined";

/**
 * One map minus another of the same method and layer, each as a fraction of its own maximum; null
 * where they cannot be subtracted: pictures in colours, different channels, maps that are no numbers.
 */
export function difference(one: Levelled, other: Levelled, rank: number): Levelled | null {
  if (![one, other].every(isNumbers)) return null;
  const { height, width, grid } = one.cam;
  const [a, b] = [one, other].map(fractionsOf);
  const values = a.map((value, i) => Math.min(Math.max(value - b[i], -1), 1));
  return signed(one.cam, { height, width, grid, rank }, values);
}

/** The part of a photograph that two models saw. */
export const shared = ([a, b, c, d]: Box, [e, f, g, h]: Box): Box => [
  Math.max(a, e),
  Math.max(b, f),
  Math.min(c, g),
  Math.min(d, h),
];

/** What a map that lies over one part of a photograph is in another, on the common grid. */
function over([left, top, right, bottom]: Box, part: Box, own: Levelled) {
  const x = (at: number) => (at - left) / (right - left);
  const y = (at: number) => (at - top) / (bottom - top);
  const spans: Span[] = [
    [x(part[0]), x(part[2])],
    [y(part[1]), y(part[3])],
  ];
  return onCommonGrid(fractionsOf(own), own.cam.height, own.cam.width, spans);
}

/** A map with the part of the photograph that it lies over. */
export type Placed = Levelled & { seen: Box };

/**
 * What is positive of a map minus what is of another one, on the common grid over what both lie
 * over, each as a fraction of its own maximum; null where they cannot be subtracted.
 */
export function minus(one: Placed, other: Placed, rank: number): Levelled | null {
  const part = shared(one.seen, other.seen);
  if (![one, other].every(isNumbers)) return null;
  const [a, b] = [one, other].map((own) => over(own.seen, part, own));
  const size = { height: COMMON, width: COMMON, grid: [COMMON, COMMON], rank } satisfies Size;
  return signed(
    one.cam,
    size,
    a.map((value, i) => (value - b[i]) / LEVELS),
  );
}
