// Maps of different layers on one grid.
import { levelsOf } from "../data/dataset";
import type { CamCell } from "../data/types";
import { ZERO, enlarge } from "../maps/heat";
import { isDrawn } from "../maps/look";
import type { Pinned } from "./pins";

/** Two maps on the finer of their grids, as fractions of their own maximum; null where one has none. */
export function onOneGrid(one: Pinned, other: Pinned) {
  if (!isDrawn(one.cam) || !isDrawn(other.cam)) return null;
  const height = Math.max(one.cam.height, other.cam.height);
  const width = Math.max(one.cam.width, other.cam.width);
  const enlarged = ({ image }: Pinned, cam: CamCell) =>
    enlarge(levelsOf(image, cam), cam, height, width).map((level) =>
      cam.signed ? (level - ZERO) / ZERO : level / 255,
    );
  return { height, width, first: enlarged(one, one.cam), second: enlarged(other, other.cam) };
}

export type OneGrid = NonNullable<ReturnType<typeof onOneGrid>>;
