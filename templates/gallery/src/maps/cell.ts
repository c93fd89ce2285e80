// A map in a table: a button that opens it.
import { data } from "../app";
import { type CellId, idText } from "../data/cells";
import type { ImageRecord } from "../data/dataset";
import { h } from "../parts/dom";
import { t } from "../parts/words";
import { describe, peakOf } from "./describe";
import { SIDES, frameOf } from "./frames";

interface CellOptions {
  side?: number;
  tile?: boolean;
  caption?: boolean;
  place?: string;
}

/**
 * The button; `tile` as for `frameOf`, `caption` for the map's largest value below it, `place` for
 * where it lies, by which it finds its focus again: a map may stand at several places.
 */
export function cellButton(
  id: CellId,
  { side = SIDES.cell, tile = false, caption = true, place = "cell" }: CellOptions = {},
) {
  const text = idText(id);
  const cell = h(
    "button.cell",
    { type: "button", tabindex: "-1", "data-id": text, "data-focus": `${place} ${text}` },
    frameOf(id, side, tile),
  );
  const known = data.knownImage(id.image, id.run);
  const peak = h("span.peak");
  if (caption) cell.append(peak);
  label(cell, peak, id, known);
  if (!known && !tile)
    data.imageOf(id.image, id.run).then((image) => label(cell, peak, id, image ?? undefined));
  return cell;
}

/** Say in words what a cell shows. */
function label(cell: HTMLElement, peak: HTMLElement, id: CellId, image: ImageRecord | undefined) {
  cell.setAttribute("aria-label", t("cell.button", { what: describe(id, image) }));
  const cam = image && data.camOf(image, id);
  if (cam?.state === "positive") peak.textContent = peakOf(cam);
}
