// What can be measured on a map: values, peak, and the regions that are high.
import { report } from "../data/dataset";
import { ZERO } from "./heat";
import { state } from "../state/state";
import { number, percent, t } from "../parts/words";
import type { CamCell, ImageRecord, Shaded } from "../data/types";

/** Share of the scale that the boxes surround where no threshold is set. */
const BOX_SHARE = 0.5;

/** Share of the scale from which a value counts as high. */
export const boxShare = () => (state.threshold ? state.threshold / 100 : BOX_SHARE);

export type Region = { left: number; top: number; right: number; bottom: number; pixels: number };

/**
 * The connected regions of what is high, the largest first: pixels of the seen part that share a
 * side, and in a signed map their sign. Of equally large ones the upper left comes first.
 */
export function regions({ index, width }: Shaded, cam: CamCell) {
  const zero = cam.signed ? ZERO : 0;
  const least = boxShare() * (cam.signed ? ZERO : 255);
  const signs = Int8Array.from(index, (level) =>
    Math.abs(level - zero) < least ? 0 : Math.sign(level - zero),
  );
  const found: Region[] = [];
  const open = new Int32Array(index.length);
  for (let start = 0; start < signs.length; start++) {
    const sign = signs[start];
    if (!sign) continue;
    const region = { left: width, top: Infinity, right: 0, bottom: 0, pixels: 0 };
    let count = 0;
    const enter = (i: number) => {
      if (signs[i] !== sign) return;
      signs[i] = 0;
      open[count++] = i;
    };
    enter(start);
    while (count) {
      const i = open[--count];
      const column = i % width;
      const row = (i - column) / width;
      region.left = Math.min(region.left, column);
      region.top = Math.min(region.top, row);
      region.right = Math.max(region.right, column + 1);
      region.bottom = Math.max(region.bottom, row + 1);
      region.pixels += 1;
      enter(i - width);
      enter(i + width);
      if (column > 0) enter(i - 1);
      if (column < width - 1) enter(i + 1);
    }
    found.push(region);
  }
  return found.sort((one, other) => other.pixels - one.pixels);
}

/** Place of the largest value, in pixels of the seen part. */
export function peakAt({ values, width, height }: Shaded, cam: CamCell) {
  const strength = (i: number) => (cam.signed ? Math.abs(values[i] - ZERO) : values[i]);
  let best = 0;
  for (let i = 1; i < values.length; i++) if (strength(i) > strength(best)) best = i;
  const half = state.cells ? 0.5 : 0; // of a raw cell, whose pixels are all alike
  return {
    column: (best % width) + Math.floor((half * width) / cam.width),
    row: Math.floor(best / width) + Math.floor((half * height) / cam.height),
  };
}

/** Width and height of an image as it came, in pixels. */
export const sizeOf = (image: ImageRecord) =>
  report.images.size[report.images.index.indexOf(image.index)];

/** The image's pixel for one of the seen part. */
export function imagePixel(image: ImageRecord, map: Shaded, column: number, row: number) {
  const [width, height] = sizeOf(image);
  const [left, top, right, bottom] = image.seen;
  return [
    Math.floor((left + ((column + 0.5) / map.width) * (right - left)) * width),
    Math.floor((top + ((row + 0.5) / map.height) * (bottom - top)) * height),
  ];
}

/**
 * A map's value at a place of the photograph, in words.
 * @param map none where there is nothing to read
 * @param x share of the photograph's width
 * @param y share of its height
 */
export function valueAt(
  image: ImageRecord,
  cam: CamCell | undefined,
  map: Shaded | null,
  x: number,
  y: number,
) {
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
