// What can be measured on a map: values, peak, and the regions that are high.
import { data, report, state } from "../app";
import type { ImageRecord } from "../data/dataset";
import type { CamCell } from "../data/types";
import { number, percent, t } from "../parts/words";
import { ZERO } from "./heat";
import type { Shaded } from "./look";

/** Fraction of the scale that the boxes surround where no threshold is set. */
const BOX_FRACTION = 0.5;

/** Fraction of the scale from which a value counts as high in the present state. */
export const highFraction = () => (state.threshold ? state.threshold / 100 : BOX_FRACTION);

export interface Region {
  left: number;
  top: number;
  right: number;
  bottom: number;
  pixels: number;
}

/**
 * The connected regions of what is high, the largest first: pixels of the seen part that share a
 * side, and in a signed map their sign. Of equally large ones the upper left comes first.
 * @param fraction of the scale from which a value counts as high
 */
export function regions({ index, width }: Shaded, cam: CamCell, fraction: number) {
  const zero = cam.signed ? ZERO : 0;
  const least = fraction * (cam.signed ? ZERO : 255);
  const signs = Int8Array.from(index, (level) =>
    Math.abs(level - zero) < least ? 0 : Math.sign(level - zero),
  );
  const stack = new Int32Array(index.length);
  const found: Region[] = [];
  for (let start = 0; start < signs.length; start++)
    if (signs[start]) found.push(takeRegion(signs, width, start, stack));
  return found.sort((one, other) => other.pixels - one.pixels);
}

/** The region that a pixel belongs to, taken out of the signs: its pixels become 0. */
function takeRegion(signs: Int8Array, width: number, start: number, stack: Int32Array): Region {
  const sign = signs[start];
  const region = { left: width, top: Infinity, right: 0, bottom: 0, pixels: 0 };
  let count = 0;
  const enter = (i: number) => {
    if (signs[i] !== sign) return;
    signs[i] = 0;
    stack[count++] = i;
  };
  enter(start);
  while (count) {
    const i = stack[--count];
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
  return region;
}

/**
 * Place of the largest value, in pixels of the seen part.
 * @param cells whether the map is drawn in raw cells, whose pixels are all alike
 */
export function peakAt({ values, width, height }: Shaded, cam: CamCell, cells: boolean) {
  const strength = (i: number) => (cam.signed ? Math.abs(values[i] - ZERO) : values[i]);
  let best = 0;
  for (let i = 1; i < values.length; i++) if (strength(i) > strength(best)) best = i;
  const half = cells ? 0.5 : 0;
  return {
    column: (best % width) + Math.floor((half * width) / cam.width),
    row: Math.floor(best / width) + Math.floor((half * height) / cam.height),
  };
}

/** Width and height of an image as it came, in pixels. */
export const sizeOf = (image: ImageRecord) => report.images.size[data.placeOf(image.index)];

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
  if (image.run < 0) return number(share);
  const of = cam.base ? "cell.shareOfRange" : "cell.share";
  const said = t(of, { share: percent(share).replace("-", "−") });
  return `${number(cam.base + share * cam.peak)}\n${said}`;
}
