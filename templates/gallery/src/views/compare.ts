// Two to four pinned maps: one zoom and one cross-hair for all, and how far they agree.
import { camOf, idOf, imageOf, report } from "../data/dataset";
import { MAX_PINS, openCell, togglePin } from "./dialog";
import { all, button, h, slider } from "../parts/dom";
import { describe, draw, frameOf } from "../maps/frames";
import { shaded } from "../maps/look";
import { valueAt } from "../maps/measure";
import { LETTERS, agreement, pair } from "./pair";
import { change, linkTo, state } from "../state/state";
import { percent, t } from "../parts/words";
import type { Pinned } from "../data/types";

/** The maps in view. */
let pins: Pinned[] = [];

/** What a pin stands for; null where its image is missing. */
async function pinOf(text: string): Promise<Pinned | null> {
  const id = idOf(text);
  const image = report.images.index.includes(id.image) ? await imageOf(id.image) : null;
  return image && { text, id, image, cam: camOf(image, id) };
}

export async function compareView(root: HTMLElement) {
  const found = await Promise.all(state.pins.map(pinOf));
  pins = found.filter((pin) => pin !== null);
  root.append(h("h2", {}, t("view.compare")));
  if (pins.length < 2) {
    root.append(
      h("p", {}, t("compare.empty", { most: MAX_PINS })),
      h("p", {}, h("a", linkTo({ view: "matrix" }), t("compare.toMatrix"))),
    );
  }
  if (pins.length) root.append(zoomControls(), pinned());
  if (pins.length > 1) root.append(agreement(pins), pair(pins));
  moveCompare(root);
}

function zoomControls() {
  return h(
    "div",
    { class: "switches" },
    slider(
      t("compare.zoom"),
      "zoom",
      { min: 1, max: 8, step: 0.5, value: state.zoom },
      (v) => `${v} ×`,
      (zoom) => change({ zoom }),
    ),
    slider(
      t("compare.across"),
      "atX",
      { min: 0, max: 1, step: 0.01, value: state.atX },
      percent,
      (atX) => change({ atX }),
    ),
    slider(
      t("compare.down"),
      "atY",
      { min: 0, max: 1, step: 0.01, value: state.atY },
      percent,
      (atY) => change({ atY }),
    ),
    button(t("compare.clear"), "clear", () => change({ pins: [], pair: "" })),
  );
}

/** Enlarge all pictures around the cross-hair, and say the values there. */
export function moveCompare(root: HTMLElement) {
  const { zoom, atX, atY, swipe } = state;
  const place = { left: `${atX * 100}%`, top: `${atY * 100}%` };
  for (const zoomed of all(".zoomed", root)) {
    zoomed.style.transform = `scale(${zoom})`;
    zoomed.style.transformOrigin = `${place.left} ${place.top}`;
  }
  for (const cross of all(".cross", root)) Object.assign(cross.style, place);
  for (const swiped of all(".swipe", root)) swiped.style.setProperty("--swipe", `${swipe}%`);
  all(".pin output", root).forEach((output, i) => {
    const { image, cam } = pins[i];
    const drawn = cam?.state === "positive" && !cam.picture;
    const map = drawn ? shaded(image, cam, Math.max(image.width, image.height)) : null;
    output.textContent = valueAt(image, cam, map, atX, atY).replace("\n", t("comma"));
  });
}

/** A window that clips an enlarged picture. */
function stage(frame: HTMLElement, name: string) {
  const inner = h("span", { class: "zoomed" }, frame);
  const cross = h("span", { class: "cross", "aria-hidden": "true" });
  return h("span", { class: "window", role: "img", "aria-label": name }, inner, cross);
}

function placeCross(event: MouseEvent) {
  const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
  const share = (at: number, start: number, length: number, around: number) => {
    const seen = (at - start) / length; // in the window, which shows 1 / zoom of the picture
    return (
      Math.round(Math.min(Math.max(around + (seen - around) / state.zoom, 0), 1) * 1000) / 1000
    );
  };
  change({
    atX: share(event.clientX, box.left, box.width, state.atX),
    atY: share(event.clientY, box.top, box.height, state.atY),
  });
}

function pinned() {
  return h(
    "ol",
    { class: "pins" },
    ...pins.map(({ id, image, text }, place) => {
      const frame = frameOf(id, Math.max(image.width, image.height));
      draw(frame);
      const window_ = stage(frame, describe(id, image));
      window_.addEventListener("click", placeCross);
      return h(
        "li",
        { class: "pin" },
        h("h3", {}, `${LETTERS[place]} · `, h("span", {}, describe(id, image))),
        window_,
        h("output", {}),
        h(
          "p",
          { class: "steps" },
          button(t("compare.open"), `open-${place}`, () => openCell(text)),
          button(t("unpin"), `unpin-${place}`, () => togglePin(text)),
        ),
      );
    }),
  );
}
