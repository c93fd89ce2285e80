// How a map looks in the present state: its scale, its colours, its pixels.
import { camOf, levelsOf, report, tables } from "./data.js";
import { h } from "./dom.js";
import { enlarge, indices, paint, paintContours } from "./heat.js";
import { state } from "./state.js";
import { number, t } from "./words.js";

/** The value that gets the last colour under the chosen scale. @param {{scale: number}} image @param {CamCell} cam */
export function scaleOf(image, cam) {
  if (cam.own || state.scale === "map") return cam.peak;
  if (state.scale === "method") return report.peaks[cam.method];
  return state.scale === "image" ? image.scale : Math.max(...Object.values(report.peaks));
}

/** @param {{scale: number}} image @param {CamCell} cam */
const gainOf = (image, cam) =>
  scaleOf(image, cam) === cam.peak ? 1 : cam.peak / scaleOf(image, cam);

/** @param {CamCell} cam */
export const tableOf = (cam) => tables[cam.signed ? "diverging" : state.colormap];

/** Pixels of the seen part when the photograph's longer side has `side`: height and width. @param {{seen: number[], width: number, height: number}} image @param {number} side */
export function seenSize(image, side) {
  const [left, top, right, bottom] = image.seen;
  const factor = side / Math.max(image.width, image.height);
  return [
    Math.max(1, Math.floor(image.height * factor * (bottom - top) + 0.5)),
    Math.max(1, Math.floor(image.width * factor * (right - left) + 0.5)),
  ];
}

/** Lay an element over the part of the photograph that the model saw. @param {HTMLElement} element @param {number[]} seen */
export function placeSeen(element, [left, top, right, bottom]) {
  Object.assign(element.style, {
    left: `${left * 100}%`,
    top: `${top * 100}%`,
    width: `${(right - left) * 100}%`,
    height: `${(bottom - top) * 100}%`,
  });
}

/** Give a frame the photograph's shape. @param {HTMLElement} frame @param {number} width @param {number} height */
export function shape(frame, width, height) {
  frame.style.aspectRatio = `${width} / ${height}`;
  frame.style.setProperty("--aspect", String(width / height));
}

/**
 * A map enlarged over the seen part of a photograph whose longer side has `side` pixels: its
 * levels, and the colour table's index of each pixel.
 * @param {{seen: number[], width: number, height: number, scale: number, bytes: Uint8Array}} image
 * @param {CamCell} cam
 * @param {number} side
 */
export function shaded(image, cam, side) {
  const [height, width] = seenSize(image, side);
  const values = enlarge(levelsOf(image, cam), cam, height, width, !state.cells);
  return { height, width, values, index: indices(values, cam.signed, gainOf(image, cam)) };
}

/** How its pixels are coloured. @param {CamCell} cam */
export const lookOf = (cam) => ({
  table: tableOf(cam),
  signed: cam.signed,
  threshold: state.threshold / 100,
  byValue: state.byValue,
});

/** A map's largest value in words. @param {CamCell} cam */
export function peakOf(cam) {
  const sign = cam.signed ? "±" : "";
  let text = t("cell.peak", { peak: sign + number(cam.largest) });
  if (cam.base) text = t("cell.range", { base: number(cam.base), peak: number(cam.largest) });
  if (cam.layer === "fused") text = t("cell.ofOne", { peak: text });
  return cam.channel === undefined ? text : t("cell.channel", { channel: cam.channel, peak: text });
}

/**
 * A photograph with its map as one picture, in the present look: for paper and for files.
 * @param {ImageRecord} image
 * @param {CellId | null} id none for the photograph alone
 * @param {number} side pixels of the longer side
 */
export function composite(image, id, side) {
  const factor = side / Math.max(image.width, image.height);
  const canvas = h("canvas", {
    width: Math.round(image.width * factor),
    height: Math.round(image.height * factor),
  });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const cam = id && camOf(image, id);
  const [left, top, right, bottom] = image.seen;
  const box = /** @type {const} */ ([
    left * canvas.width,
    top * canvas.height,
    (right - left) * canvas.width,
    (bottom - top) * canvas.height,
  ]);
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
