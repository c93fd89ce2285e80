// Numbers below the maps, where the reader asks for them.
import { data, state } from "../../app";
import { idOf } from "../../data/cells";
import type { CamCell } from "../../data/types";
import type { ImageRecord } from "../../data/dataset";
import { peakOf } from "../../maps/describe";
import { SIDES } from "../../maps/frames";
import { ZERO } from "../../maps/heat";
import { isDrawn, shaded } from "../../maps/look";
import { all, h } from "../../parts/dom";
import { areaPercent } from "../../parts/words";

/** Write numbers below the maps in a part of the page: where they are asked for, and of one channel. */
export function refreshNumbers(root: HTMLElement) {
  for (const old of all(".measures", root)) old.remove();
  const wanted = (cam: CamCell) => state.numbers || cam.channel !== undefined;
  for (const cell of all(".cell[data-id]", root)) {
    const id = idOf(cell.dataset.id ?? "");
    const image = data.knownImage(id.image, id.run);
    const cam = image && data.camOf(image, id);
    if (image && cam?.state === "positive" && wanted(cam)) cell.after(measures(image, cam));
  }
}

const measures = (image: ImageRecord, cam: CamCell) =>
  h(
    "span.measures",
    h("span", isDrawn(cam) ? areaPercent(areaAboveHalf(image, cam)) : ""),
    h("span", peakOf(cam)),
  );

/** Share of what the model saw where a map is at least half of its maximum, by magnitude. */
function areaAboveHalf(image: ImageRecord, cam: CamCell) {
  const { values } = shaded(image, cam, SIDES.cell);
  const [zero, half] = cam.signed ? [ZERO, ZERO / 2] : [0, 255 / 2];
  let high = 0;
  for (const value of values) high += Number(Math.abs(value - zero) >= half);
  return high / values.length;
}
