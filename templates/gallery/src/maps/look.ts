// How a map looks in the present state: its scale, its colours, its pixels.
import { data, report, state } from "../app";
import { type ImageRecord, levelsOf } from "../data/dataset";
import type { Box, CamCell } from "../data/types";
import { LIFT, type Look, OPAQUE, enlarge, indices } from "./heat";

/** What a map is drawn over, as far as drawing needs it. */
export type Ground = Pick<ImageRecord, "seen" | "width" | "height" | "scale" | "bytes" | "run">;

/** A map enlarged: its levels, and the colour table's index of each pixel. */
export interface Shaded {
  height: number;
  width: number;
  values: Float64Array;
  index: Uint8Array;
}

/** What maps of two runs differ by that gets the last colour, as a fraction of their maxima. */
const MOST_DIFFERENT = 0.5;

/** The value that gets the last colour under the chosen scale. */
export function scaleOf(image: Pick<Ground, "scale" | "run">, cam: CamCell) {
  if (image.run < 0) return MOST_DIFFERENT;
  if (cam.own || state.scale === "map") return cam.peak;
  if (state.scale === "method") return report.peaks[cam.method];
  return state.scale === "image" ? image.scale : Math.max(...Object.values(report.peaks));
}

const gainOf = (image: Pick<Ground, "scale" | "run">, cam: CamCell) =>
  scaleOf(image, cam) === cam.peak ? 1 : cam.peak / scaleOf(image, cam);

/** Name of the colour map that a map is drawn in. */
export const tableName = (cam: { signed: boolean }) => (cam.signed ? "diverging" : state.colormap);

/** Pixels of the seen part when the photograph's longer side has `side`: height and width. */
export function seenSize(image: Pick<Ground, "seen" | "width" | "height">, side: number) {
  const [left, top, right, bottom] = image.seen;
  const factor = side / Math.max(image.width, image.height);
  return [
    Math.max(1, Math.floor(image.height * factor * (bottom - top) + 0.5)),
    Math.max(1, Math.floor(image.width * factor * (right - left) + 0.5)),
  ];
}

/** Lay an element over the part of the photograph that the model saw. */
export function placeSeen(element: HTMLElement, [left, top, right, bottom]: Box) {
  Object.assign(element.style, {
    left: `${left * 100}%`,
    top: `${top * 100}%`,
    width: `${(right - left) * 100}%`,
    height: `${(bottom - top) * 100}%`,
  });
}

/** Degrees between the hues of a class and the next one: no two of a few are alike. */
const HUES_APART = 137.5;

/** Colour of the outline of an object of a class; white where that is not known. */
export const regionColour = (target: number | null) =>
  target === null ? "#fff" : `hsl(${Math.round(200 + target * HUES_APART) % 360} 90% 70%)`;

/** Pixels of a photograph's longer side. */
export const longSide = (image: Pick<Ground, "width" | "height">) =>
  Math.max(image.width, image.height);

/** An image's map over the whole photograph; null where nothing is drawn in colours of the scale. */
export const wholeMap = (image: Ground, cam: CamCell | undefined) =>
  isDrawn(cam) ? shaded(image, cam, longSide(image)) : null;

/** Whether a map is there and drawn from levels. */
export const isDrawn = (cam: CamCell | undefined): cam is CamCell =>
  cam?.state === "positive" && !cam.picture;

/** Give a frame the photograph's shape. */
export function shape(frame: HTMLElement, width: number, height: number) {
  frame.style.aspectRatio = `${width} / ${height}`;
  frame.style.setProperty("--aspect", String(width / height));
}

/**
 * A map enlarged over the seen part of a photograph whose longer side has `side` pixels: its
 * levels, and the colour table's index of each pixel.
 */
export function shaded(image: Ground, cam: CamCell, side: number): Shaded {
  const [height, width] = seenSize(image, side);
  const values = enlarge(levelsOf(image, cam), cam, height, width, !state.cells);
  return { height, width, values, index: indices(values, cam.signed, gainOf(image, cam)) };
}

/** How a map's pixels are coloured; without a photograph below it, a map is opaque. */
export function lookOf(cam: CamCell): Look {
  const { threshold, opacity, byValue, lift, show } = state;
  const own = { table: data.tables[tableName(cam)], signed: cam.signed };
  const drawn = { threshold: threshold / 100 };
  if (show === "heat") return { ...OPAQUE, ...own, ...drawn };
  const power = lift ? LIFT : 1;
  return { ...own, ...drawn, opacity: opacity / 100, power: byValue ? power : 0 };
}
