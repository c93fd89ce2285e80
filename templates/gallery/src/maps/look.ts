// How a map looks in the present state: its scale, its colours, its pixels.
import { camOf, levelsOf, report, tables } from "../data/dataset";
import { h } from "../parts/dom";
import { enlarge, indices, paint, paintContours } from "./heat";
import { state } from "../state/state";
import { number, t } from "../parts/words";
import type { CamCell, CellId, ImageRecord } from "../data/types";

/** The value that gets the last colour under the chosen scale. */
export function scaleOf(image: { scale: number }, cam: CamCell) {
  if (cam.own || state.scale === "map") return cam.peak;
  if (state.scale === "method") return report.peaks[cam.method];
  return state.scale === "image" ? image.scale : Math.max(...Object.values(report.peaks));
}

const gainOf = (image: { scale: number }, cam: CamCell) =>
  scaleOf(image, cam) === cam.peak ? 1 : cam.peak / scaleOf(image, cam);

export const tableOf = (cam: CamCell) => tables[cam.signed ? "diverging" : state.colormap];

/** Pixels of the seen part when the photograph's longer side has `side`: height and width. */
export function seenSize(image: { seen: number[]; width: number; height: number }, side: number) {
  const [left, top, right, bottom] = image.seen;
  const factor = side / Math.max(image.width, image.height);
  return [
    Math.max(1, Math.floor(image.height * factor * (bottom - top) + 0.5)),
    Math.max(1, Math.floor(image.width * factor * (right - left) + 0.5)),
  ];
}

/** Lay an element over the part of the photograph that the model saw. */
export function placeSeen(element: HTMLElement, [left, top, right, bottom]: number[]) {
  Object.assign(element.style, {
    left: `${left * 100}%`,
    top: `${top * 100}%`,
    width: `${(right - left) * 100}%`,
    height: `${(bottom - top) * 100}%`,
  });
}

/** Give a frame the photograph's shape. */
export function shape(frame: HTMLElement, width: number, height: number) {
  frame.style.aspectRatio = `${width} / ${height}`;
  frame.style.setProperty("--aspect", String(width / height));
}

/**
 * A map enlarged over the seen part of a photograph whose longer side has `side` pixels: its
 * levels, and the colour table's index of each pixel.
 */
export function shaded(
  image: { seen: number[]; width: number; height: number; scale: number; bytes: Uint8Array },
  cam: CamCell,
  side: number,
) {
  const [height, width] = seenSize(image, side);
  const values = enlarge(levelsOf(image, cam), cam, height, width, !state.cells);
  return { height, width, values, index: indices(values, cam.signed, gainOf(image, cam)) };
}

/** How its pixels are coloured. */
export const lookOf = (cam: CamCell) => ({
  table: tableOf(cam),
  signed: cam.signed,
  threshold: state.threshold / 100,
  byValue: state.byValue,
});

/** A map's largest value in words. */
export function peakOf(cam: CamCell) {
  const sign = cam.signed ? "±" : "";
  let text = t("cell.peak", { peak: sign + number(cam.largest) });
  if (cam.base) text = t("cell.range", { base: number(cam.base), peak: number(cam.largest) });
  if (cam.layer === "fused") text = t("cell.ofOne", { peak: text });
  return cam.channel === undefined ? text : t("cell.channel", { channel: cam.channel, peak: text });
}

/**
 * A photograph with its map as one picture, in the present look: for paper and for files.
 * @param id none for the photograph alone
 * @param side pixels of the longer side
 */
export function composite(image: ImageRecord, id: CellId | null, side: number) {
  const factor = side / Math.max(image.width, image.height);
  const canvas = h("canvas", {
    width: Math.round(image.width * factor),
    height: Math.round(image.height * factor),
  });
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  const cam = id && camOf(image, id);
  const [left, top, right, bottom] = image.seen;
  const box = [
    left * canvas.width,
    top * canvas.height,
    (right - left) * canvas.width,
    (bottom - top) * canvas.height,
  ] as const;
  context.fillStyle = "#eee";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const positive = cam?.state === "positive";
  const faded = id !== null && !positive;
  if (state.show !== "heat" || !positive) {
    const filters = [state.grey || faded ? "grayscale(1)" : "", faded ? "opacity(0.35)" : ""];
    context.filter = filters.join(" ").trim() || "none";
    context.drawImage(image.picture, 0, 0, canvas.width, canvas.height);
    context.filter = "none";
  }
  if (id && (left > 0 || top > 0 || right < 1 || bottom < 1)) {
    context.fillStyle = "rgb(0 0 0 / 60%)"; // what the model did not see
    context.beginPath();
    context.rect(0, 0, canvas.width, canvas.height);
    context.rect(...box);
    context.fill("evenodd");
  }
  if (!cam || !positive || cam.picture) return canvas;
  const { height, width, index } = shaded(image, cam, side);
  const layer = h("canvas");
  if (state.show !== "photo") {
    paint(layer, index, height, width, lookOf(cam));
    context.globalAlpha = state.show === "heat" ? 1 : state.opacity / 100;
    context.drawImage(layer, ...box);
    context.globalAlpha = 1;
  }
  if (state.contours) {
    paintContours(layer, index, height, width, cam.signed);
    context.drawImage(layer, ...box);
  }
  return canvas;
}
