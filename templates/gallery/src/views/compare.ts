// Two to four pinned maps: one zoom and one cross-hair for all, and how far they agree.
import { state } from "../app";
import { openCell } from "../dialog/dialog";
import { describe } from "../maps/describe";
import { drawAll, frameOf } from "../maps/frames";
import { longSide, wholeMap } from "../maps/look";
import { valueAt } from "../maps/measure";
import { button, refreshControls, slider } from "../parts/controls";
import { all, byId, h, keepFocus } from "../parts/dom";
import { percent, t } from "../parts/words";
import { change, linkTo } from "../state/history";
import { concerns, LOOKS, MAX_PINS } from "../state/state";
import { agreement } from "./agreement";
import { beginnings } from "./beginnings";
import { pair } from "./pair";
import { LETTERS, type Pinned, pinOf, togglePin } from "./pins";
import { type View, viewRoot } from "./view";

/** Fields that move pictures. */
const MOVES = ["zoom", "atX", "atY", "swipe"] as const;

export async function compareView(): Promise<View> {
  const found = await Promise.all(state.pins.map(pinOf));
  const pins = found.filter((pin) => pin !== null);
  const root = viewRoot("compare", h("h2", t("view.compare")));
  if (pins.length < 2) root.append(...invitation(pins.length));
  if (pins.length > 1) root.append(zoomControls());
  if (pins.length) root.append(pinned(pins));
  let two = pins.length > 1 ? pair(pins) : null;
  if (two) root.append(agreement(pins), two.root);
  drawAll(root);
  move(root, pins);
  return {
    root,
    uses: pins.length ? LOOKS : [],
    update(changed) {
      if (changed.has("pins")) return false;
      if (two && changed.has("pair")) {
        const next = pair(pins);
        const { root: old } = two;
        keepFocus(byId("view"), () => old.replaceWith(next.root));
        two = next;
      }
      refreshControls(root);
      if (concerns(changed, "pair", ...LOOKS)) drawAll(root);
      if (changed.has("cells")) two?.redraw();
      if (concerns(changed, "pair", "cells", ...MOVES)) move(root, pins);
      return true;
    },
  };
}

/** How maps are chosen, and pairs to begin with. */
const invitation = (chosen: number) => [
  h("h3", t(chosen ? "compare.one" : "compare.choose")),
  h("p", t("compare.empty", { most: MAX_PINS })),
  h("p", h("a", linkTo({ view: "matrix" }), t("compare.toMatrix"))),
  ...(chosen ? [] : beginnings()),
];

function zoomControls() {
  const fraction = { min: 0, max: 1, step: 0.01 };
  return h(
    ".switches",
    slider(
      t("compare.zoom"),
      "zoom",
      { min: 1, max: 8, step: 0.5 },
      () => state.zoom,
      (zoom) => `${zoom} ×`,
      (zoom) => change({ zoom }),
    ),
    slider(
      t("compare.across"),
      "atX",
      fraction,
      () => state.atX,
      percent,
      (atX) => change({ atX }),
    ),
    slider(
      t("compare.down"),
      "atY",
      fraction,
      () => state.atY,
      percent,
      (atY) => change({ atY }),
    ),
    button(t("compare.clear"), "clear", () => change({ pins: [], pair: "" })),
  );
}

/** Enlarge all pictures around the cross-hair, and say the values there. */
function move(root: HTMLElement, pins: Pinned[]) {
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
    const said = valueAt(image, cam, wholeMap(image, cam), atX, atY);
    output.textContent = said.replace("\n", t("comma"));
  });
}

/** A window that clips an enlarged picture. */
function stage(frame: HTMLElement, name: string) {
  const inner = h("span.zoomed", frame);
  const cross = h("span.cross", { "aria-hidden": "true" });
  return h("span.window", { role: "img", "aria-label": name, onclick: placeCross }, inner, cross);
}

function placeCross(event: MouseEvent) {
  const box = (event.currentTarget as Element).getBoundingClientRect();
  const { zoom, atX, atY } = state;
  // The window shows 1 / zoom of the picture, around the cross-hair.
  const fraction = (seen: number, around: number) =>
    Math.round(Math.min(Math.max(around + (seen - around) / zoom, 0), 1) * 1000) / 1000;
  change({
    atX: fraction((event.clientX - box.left) / box.width, atX),
    atY: fraction((event.clientY - box.top) / box.height, atY),
  });
}

const pinned = (pins: Pinned[]) =>
  h(
    "ol.pins",
    ...pins.map(({ id, image, text }, place) =>
      h(
        "li.pin",
        h("h3", `${LETTERS[place]} · `, h("span", describe(id, image))),
        stage(frameOf(id, longSide(image)), describe(id, image)),
        h("output"),
        h(
          "p.steps",
          button(t("compare.open"), `open-${place}`, () => openCell(text)),
          button(t("unpin"), `unpin-${place}`, () => togglePin(text)),
        ),
      ),
    ),
  );
