// A photograph with its map as one picture, in the present look: for paper and for files.
import { data, state } from "../app";
import type { CellId } from "../data/cells";
import type { ImageRecord } from "../data/dataset";
import type { Box, CamCell } from "../data/types";
import { h } from "../parts/dom";
import { paint, paintContours } from "./heat";
import { isDrawn, longSide, lookOf, regionColour, shaded } from "./look";

/** Lengths in a picture's longer side of which an outline takes one and a half. */
const REGION_UNITS = 400;

/**
 * The picture.
 * @param id none for the photograph alone
 * @param side pixels of the longer side
 */
export function composite(image: ImageRecord, id: CellId | null, side: number) {
  const factor = side / longSide(image);
  const canvas = h("canvas", {
    width: Math.round(image.width * factor),
    height: Math.round(image.height * factor),
  });
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  const cam = id ? data.camOf(image, id) : undefined;
  drawPhoto(context, image, cam?.state === "positive", id !== null);
  if (id) shadeUnseen(context, image.seen);
  if (isDrawn(cam)) context.drawImage(mapLayer(image, cam, side), ...pixelsOf(image.seen, canvas));
  if (state.boxes) outline(context, image);
  return canvas;
}

/** The photograph: grey and pale where a map is wanted and there is none. */
function drawPhoto(
  context: CanvasRenderingContext2D,
  { picture }: ImageRecord,
  positive: boolean,
  wanted: boolean,
) {
  const { width, height } = context.canvas;
  const { grey, show } = state;
  const faded = wanted && !positive;
  context.fillStyle = "#eee";
  context.fillRect(0, 0, width, height);
  if (show === "heat" && positive) return;
  const filters = [grey || faded ? "grayscale(1)" : "", faded ? "opacity(0.35)" : ""];
  context.filter = filters.join(" ").trim() || "none";
  context.drawImage(picture, 0, 0, width, height);
  context.filter = "none";
}

/** A box of fractions in a canvas's pixels: left, top, width and height. */
const pixelsOf = ([left, top, right, bottom]: Box, { width, height }: HTMLCanvasElement) =>
  [left * width, top * height, (right - left) * width, (bottom - top) * height] as const;

/** Darken what the model did not see. */
function shadeUnseen(context: CanvasRenderingContext2D, seen: Box) {
  const [left, top, right, bottom] = seen;
  if (left <= 0 && top <= 0 && right >= 1 && bottom >= 1) return;
  const { canvas } = context;
  context.fillStyle = "rgb(0 0 0 / 60%)";
  context.beginPath();
  context.rect(0, 0, canvas.width, canvas.height);
  context.rect(...pixelsOf(seen, canvas));
  context.fill("evenodd");
}

/** Outline the known regions of objects. */
function outline(context: CanvasRenderingContext2D, { regions }: ImageRecord) {
  const { canvas } = context;
  const unit = Math.max(canvas.width, canvas.height) / REGION_UNITS;
  for (const [left, top, right, bottom, target] of regions)
    for (const [width, colour] of [
      [3 * unit, "rgb(0 0 0 / 60%)"],
      [1.5 * unit, regionColour(target)],
    ] as const) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.strokeRect(...pixelsOf([left, top, right, bottom], canvas));
    }
}

/** A map over the part of a photograph that the model saw, with its contours where they are wanted. */
export function mapLayer(image: ImageRecord, cam: CamCell, side: number) {
  const { show, contours } = state;
  const { height, width, index } = shaded(image, cam, side);
  const layer = h("canvas", { width, height });
  if (show !== "photo") paint(layer, index, height, width, lookOf(cam));
  if (!contours) return layer;
  const lines = h("canvas");
  paintContours(lines, index, height, width, cam.signed);
  layer.getContext("2d")?.drawImage(lines, 0, 0);
  return layer;
}
