// A button over the map that the pointer is on: it puts the map into the comparison.
import { state } from "../../app";
import { button } from "../../parts/controls";
import { t } from "../../parts/words";
import { togglePin } from "../pins";

/** Offer the button over each map in a part of the page; the key for it is p. */
export function offerPin(root: HTMLElement) {
  let id = "";
  const offer = button("+", "pin-here", () => togglePin(id), { class: "pin-here", tabIndex: -1 });
  root.addEventListener("pointerover", (event) => {
    const place = (event.target as Element).closest<HTMLElement>("td");
    const cell = place?.querySelector<HTMLElement>(".cell[data-id]");
    if (!place || !cell || place.contains(offer)) return;
    id = cell.dataset.id ?? "";
    const name = t(state.pins.includes(id) ? "unpin" : "pin");
    offer.textContent = state.pins.includes(id) ? "−" : "+";
    offer.title = name;
    offer.setAttribute("aria-label", name);
    place.append(offer);
  });
  root.addEventListener("pointerleave", () => offer.remove());
}
