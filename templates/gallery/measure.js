// What can be measured on a map: values, peak, and the box around what is high.
import { report } from "./data.js";
import { ZERO } from "./heat.js";
import { state } from "./state.js";
import { number, percent, t } from "./words.js";

/** Share of the scale that the bounding box surrounds where no threshold is set. */
const BOX_SHARE = 0.5;

/** Share of the scale from which a value counts as high. */
export const boxShare = () => (state.threshold ? state.threshold / 100 : BOX_SHARE);

/**
 * Rectangle around what is high, in pixels of the seen part, and the share of the area that is.
 * @param {Shaded} map
 * @param {CamCell} cam
 */
export function boundingBox({ index, width }, cam) {
  const least = boxShare() * (cam.signed ? ZERO : 255);
  const box = { left: Infinity, top: Infinity, right: 0, bottom: 0, share: 0 };
  for (let i = 0; i < index.length; i++) {
    if ((cam.signed ? Math.abs(index[i] - ZERO) : index[i]) < least) continue;
    const [row, column] = [Math.floor(i / width), i % width];
    box.left = Math.min(box.left, column);
    box.top = Math.min(box.top, row);
    box.right = Math.max(box.right, column + 1);
    box.bottom = Math.max(box.bottom, row + 1);
    box.share += 1 / index.length;
  }
  return box.share ? box : null;
}

/** Place of the largest value, in pixels of the seen part. @param {Shaded} map @param {CamCell} cam */
export function peakAt({ values, width, height }, cam) {
  const strength = (/** @type {number} */ i) =>
    cam.signed ? Math.abs(values[i] - ZERO) : values[i];
  let best = 0;
  for (let i = 1; i < values.length; i++) if (strength(i) > strength(best)) best = i;
  const half = state.cells ? 0.5 : 0; // of a raw cell, whose pixels are all alike
  return {
    column: (best % width) + Math.floor((half * width) / cam.width),
    row: Math.floor(best / width) + Math.floor((half * height) / cam.height),
  };
}

/** Width and height of an image as it came, in pixels. @param {ImageRecord} image */
export const sizeOf = (image) => report.images.size[report.images.index.indexOf(image.index)];

/** The image's pixel for one of the seen part. @param {ImageRecord} image @param {Shaded} map @param {number} column @param {number} row */
export function imagePixel(image, map, column, row) {
  const [width, height] = sizeOf(image);
  const [left, top, right, bottom] = image.seen;
  return [
    Math.floor((left + ((column + 0.5) / map.width) * (right - left)) * width),
    Math.floor((top + ((row + 0.5) / map.height) * (bottom - top)) * height),
  ];
}

/**
 * A map's value at a place of the photograph, in words.
 * @param {ImageRecord} image
 * @param {CamCell | undefined} cam
 * @param {Shaded | null} map none where there is nothing to read
 * @param {number} x share of the photograph's width
 * @param {number} y share of its height
 */
export function valueAt(image, cam, map, x, y) {
  if (cam?.picture) return t("cell.picture");
  if (!cam || !map) return t(`cell.${cam?.state ?? "absent"}`);
  const [left, top, right, bottom] = image.seen;
  const column = Math.floor(((x - left) / (right - left)) * map.width);
  const row = Math.floor(((y - top) / (bottom - top)) * map.height);
  const outside = column < 0 || row < 0 || column >= map.width || row >= map.height;
  if (outside) return t("cell.notSeen");
  const level = map.values[row * map.width + column];
  const share = cam.signed ? (level - ZERO) / ZERO : level / 255;
  const of = cam.base ? "cell.shareOfRange" : "cell.share";
  const said = t(of, { share: percent(share).replace("-", "−") });
  return `${number(cam.base + share * cam.peak)}\n${said}`;
}
