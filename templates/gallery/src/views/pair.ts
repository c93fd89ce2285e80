// Two pinned maps in one place: swiped, in turns, and subtracted.
import { data, state } from "../app";
import { describe } from "../maps/describe";
import { frameOf, over } from "../maps/frames";
import { ZERO, enlarge, paint } from "../maps/heat";
import { longSide, seenSize, shape } from "../maps/look";
import { type Option, button, select, slider } from "../parts/controls";
import { h } from "../parts/dom";
import { colourBar } from "../parts/legend";
import { t } from "../parts/words";
import { change } from "../state/history";
import { pairsOf } from "./agreement";
import { type OneGrid, onOneGrid } from "./grids";
import { LETTERS, type Pinned } from "./pins";

/** Milliseconds between two pictures that take turns. */
const FLICKER = 700;

/** What takes turns at present. */
let turning: number | undefined;

/** A pair that is looked at: its maps and their letters. */
interface Pair {
  one: Pinned;
  other: Pinned;
  first: string;
  second: string;
}

/** The chosen pair; `redraw` draws what is computed from both anew. */
export function pair(pins: Pinned[]) {
  stopFlicker();
  const pairs = pairsOf(pins.length);
  const [a, b] = pairs.find((places) => places.join("") === state.pair) ?? pairs[0];
  const shown = { one: pins[a], other: pins[b], first: LETTERS[a], second: LETTERS[b] };
  const maps = onOneGrid(shown.one, shown.other);
  const minus = maps && difference(shown, maps);
  const root = h(
    "section.pair",
    h("h3", t("compare.pair")),
    pairs.length > 1 ? choice(pairs, `${a}${b}`) : null,
    h(
      ".ways",
      swipe(shown),
      flicker(shown),
      minus ? minus.root : h("p.note", t("compare.noDifference")),
    ),
  );
  return { root, redraw: () => minus?.redraw() };
}

function choice(pairs: number[][], chosen: string) {
  const options = pairs.map((places): Option => [
    places.join(""),
    places.map((place) => LETTERS[place]).join(` ${t("compare.with")} `),
  ]);
  return select(
    t("compare.which"),
    "pair",
    options,
    () => chosen,
    (value) => change({ pair: value }),
  );
}

const large = ({ id, image }: Pinned) => h("span.zoomed", frameOf(id, longSide(image)));

const windowOf = (words: string, kind: string, ...layers: Node[]) =>
  h("span", { class: `window ${kind}`, role: "img", "aria-label": words }, ...layers);

function swipe({ one, other, first, second }: Pair) {
  const words = t("compare.swipeWords", { first, second });
  const cut = h("span.cut", large(one));
  return h(
    "figure",
    windowOf(words, "swipe", large(other), cut),
    slider(
      t("compare.swipe"),
      "swipe",
      { min: 0, max: 100, step: 1 },
      () => state.swipe,
      (value) => `${value}%`,
      (value) => change({ swipe: value }),
    ),
    h("figcaption", words),
  );
}

function flicker({ one, other, first, second }: Pair) {
  const [front, back] = [large(one), large(other)];
  back.hidden = true;
  const said = h("output", first);
  const view = windowOf(describe(one.id, one.image), "", front, back);
  const turn = () => {
    [front.hidden, back.hidden] = [back.hidden, front.hidden];
    said.textContent = back.hidden ? first : second;
    const shown = back.hidden ? one : other;
    view.setAttribute("aria-label", describe(shown.id, shown.image));
  };
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const start = button(t("compare.flicker"), "flicker", () => {
    if (turning) stopFlicker();
    else turning = window.setInterval(turn, FLICKER);
    start.setAttribute("aria-pressed", String(Boolean(turning)));
  });
  start.setAttribute("aria-pressed", "false");
  return h(
    "figure.screen-only",
    view,
    h("p.steps", still ? null : start, button(t("compare.turn"), "turn", turn), said),
    h("figcaption", t(still ? "compare.still" : "compare.flickerWords")),
  );
}

export function stopFlicker() {
  window.clearInterval(turning);
  turning = undefined;
}

/** One map minus the other, each as a fraction of its maximum. */
function difference({ one: { image }, first, second }: Pair, maps: OneGrid) {
  const canvas = h("canvas.heat");
  const photo = h("img", { src: image.photo, alt: "" });
  const frame = h("span.frame.positive.difference", photo, over(image, canvas));
  shape(frame, image.width, image.height);
  const levels = maps.first.map(
    (value, i) => Math.min(Math.max(value - maps.second[i], -1), 1) * ZERO + ZERO,
  );
  const [height, width] = seenSize(image, longSide(image));
  const look = { table: data.tables.diverging, signed: true, threshold: 0, opacity: 0.9, power: 1 };
  const redraw = () => {
    const values = enlarge(levels, maps, height, width, !state.cells);
    const index = Uint8Array.from(values, (value) => Math.floor(value + 0.5));
    paint(canvas, index, height, width, look);
  };
  redraw();
  const words = t("compare.differenceWords", { first, second });
  const root = h(
    "figure",
    windowOf(words, "", h("span.zoomed", frame)),
    h(
      "p.bar-row",
      h("span", t("compare.more", { name: second })),
      colourBar("diverging", t("compare.bar")),
      h("span", t("compare.more", { name: first })),
    ),
    h("figcaption", words),
  );
  return { root, redraw };
}
