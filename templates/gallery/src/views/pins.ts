// Maps that are pinned for comparison.
import { data, state } from "../app";
import { type CellId, idOf } from "../data/cells";
import type { ImageRecord } from "../data/dataset";
import type { CamCell } from "../data/types";
import { announce } from "../parts/announce";
import { all } from "../parts/dom";
import { t } from "../parts/words";
import { change } from "../state/history";
import { MAX_PINS } from "../state/state";

/** Names of the pinned maps by their place. */
export const LETTERS = "ABCD";

/** A pinned map with all that is known of it. */
export interface Pinned {
  text: string;
  id: CellId;
  image: ImageRecord;
  cam: CamCell | undefined;
}

/** What a pin stands for; null where its image is missing. */
export async function pinOf(text: string): Promise<Pinned | null> {
  const id = idOf(text);
  const image = data.has(id.image) ? await data.imageOf(id.image, id.run) : null;
  return image && { text, id, image, cam: data.camOf(image, id) };
}

/** Pin a map for comparison, or take its pin away. */
export function togglePin(id: string) {
  const { pins } = state;
  const pinned = pins.includes(id);
  if (!pinned && pins.length === MAX_PINS) return announce(t("pins.full", { most: MAX_PINS }));
  const next = pinned ? pins.filter((pin) => pin !== id) : [...pins, id];
  change({ pins: next, pair: "" });
  announce(t("pins.count", { count: next.length, most: MAX_PINS }));
}

/** Show on the maps themselves which are pinned. */
export function markPins() {
  for (const cell of all("#view .cell[data-id]")) {
    const place = state.pins.indexOf(cell.dataset.id ?? "");
    if (place < 0) delete cell.dataset.pin;
    else cell.dataset.pin = LETTERS[place];
  }
}
