// Numbers below the maps, where the reader asks for them.
import { data, store } from "../../app";
import { idOf } from "../../data/cells";
import type { CamCell } from "../../data/types";
import type { ImageRecord } from "../../data/dataset";
import { SIDES } from "../../maps/frames";
import { ZERO } from "../../maps/heat";
import { isDrawn, shaded } from "../../maps/look";
import { all, h } from "../../parts/dom";
import { areaPercent, number, t } from "../../parts/words";

/** Write the numbers below all maps in a part of the page, or take them away. */
export function refreshNumbers(root: HTMLElement) {
  for (const old of all(".measures", root)) old.remove();
  if (!store.state.numbers) return;
  for (const cell of all(".cell[data-id]", root)) {
    const id = idOf(cell.dataset.id ?? "");
    const image = data.knownImage(id.image);
    const cam = image && data.camOf(image, id);
    if (image && isDrawn(cam)) cell.after(measures(image, cam));
  }
}

function measures(image: ImageRecord, cam: CamCell) {
  const sign = cam.signed ? "±" : "";
  return h(
    "span",
    { class: "measures" },
    h("span", {}, areaPercent(areaAboveHalf(image, cam))),
    h("span", {}, t("cell.peak", { peak: sign + number(cam.largest) })),
  );
}

/** Share of what the model saw where a map is at least half of its maximum, by magnitude. */
function areaAboveHalf(image: ImageRecord, cam: CamCell) {
  const { values } = shaded(image, cam, SIDES.cell);
  const [zero, half] = cam.signed ? [ZERO, ZERO / 2] : [0, 255 / 2];
  let high = 0;
  for (const value of values) high += Number(Math.abs(value - zero) >= half);
  return high / values.length;
}
