// How far pinned maps agree: in numbers, and two of them in one place.
import { levelsOf, tables } from "../data/dataset";
import { button, h, select, slider } from "../parts/dom";
import { describe, draw, frameOf } from "../maps/frames";
import { ZERO, enlarge, paint, paintBar, rankCorrelation, topOverlap } from "../maps/heat";
import { placeSeen, seenSize, shape } from "../maps/look";
import { change, state } from "../state/state";
import { percent, sentences, t } from "../parts/words";
import type { CamCell, Pinned } from "../data/types";

/** Milliseconds between two pictures that take turns. */
const FLICKER = 700;

let turning: number | undefined;

/** Names of the pinned maps by their place. */
export const LETTERS = "ABCD";

/** Two maps on the finer of their grids, as shares of their own maximum. */
function onOneGrid(one: Pinned, other: Pinned) {
  if (
    one.cam?.state !== "positive" ||
    other.cam?.state !== "positive" ||
    one.cam.picture ||
    other.cam.picture
  )
    return null;
  const height = Math.max(one.cam.height, other.cam.height);
  const width = Math.max(one.cam.width, other.cam.width);
  const [first, second] = [one, other].map(({ image, cam }) => {
    const own = cam as CamCell;
    const values = enlarge(levelsOf(image, own), own, height, width);
    return values.map((level) => (own.signed ? (level - ZERO) / ZERO : level / 255));
  });
  return { height, width, first, second };
}

export function agreement(pins: Pinned[]) {
  const remarks = [t("compare.caution")];
  if (new Set(pins.map((pin) => pin.image.index)).size > 1) remarks.push(t("compare.otherImages"));
  const rows = [];
  for (let a = 0; a < pins.length; a++) {
    for (let b = a + 1; b < pins.length; b++) {
      const maps = onOneGrid(pins[a], pins[b]);
      const correlation = maps ? rankCorrelation(maps.first, maps.second) : NaN;
      const overlap = maps ? topOverlap(maps.first, maps.second) : NaN;
      rows.push(
        h(
          "tr",
          {},
          h("th", { scope: "row" }, `${LETTERS[a]} ${t("compare.with")} ${LETTERS[b]}`),
          h("td", {}, Number.isNaN(correlation) ? "–" : correlation.toFixed(2).replace("-", "−")),
          h("td", {}, Number.isNaN(overlap) ? "–" : percent(overlap)),
        ),
      );
    }
  }
  return h(
    "div",
    { class: "scroller" },
    h(
      "table",
      { class: "numbers" },
      h("caption", {}, t("compare.agreement")),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("td"),
          h("th", { scope: "col" }, t("compare.correlation")),
          h("th", { scope: "col" }, t("compare.overlap")),
        ),
      ),
      h("tbody", {}, ...rows),
    ),
    h("p", { class: "hint" }, sentences(...remarks)),
  );
}

/** Places of all pairs among so many. */
function pairsOf(count: number) {
  const places = Array.from({ length: count }, (_, place) => place);
  return places.flatMap((a) => places.slice(a + 1).map((b) => `${a}${b}`));
}

/** Two pinned maps swiped, in turns, and subtracted. */
export function pair(pins: Pinned[]) {
  const pairs = pairsOf(pins.length);
  const chosen = pairs.includes(state.pair) ? state.pair : pairs[0];
  const [one, other] = [...chosen].map((place) => pins[Number(place)]);
  const lettersOf = (text: string) => [...text].map((place) => LETTERS[Number(place)]);
  const options = pairs.map(
    (text) => [text, lettersOf(text).join(` ${t("compare.with")} `)] as [string, string],
  );
  const which = select(t("compare.which"), "pair", options, chosen, (value) =>
    change({ pair: value }),
  );
  const [first, second] = lettersOf(chosen);
  const maps = onOneGrid(one, other);
  return h(
    "section",
    { class: "pair" },
    h("h3", {}, t("compare.pair")),
    pairs.length > 1 ? which : null,
    h(
      "div",
      { class: "ways" },
      swipe(one, other, t("compare.swipeWords", { first, second })),
      flicker(one, other, first, second),
      maps
        ? difference(one, maps, first, second)
        : h("p", { class: "note" }, t("compare.noDifference")),
    ),
  );
}

function large({ id, image }: Pinned) {
  const frame = frameOf(id, Math.max(image.width, image.height));
  draw(frame);
  return h("span", { class: "zoomed" }, frame);
}

const windowOf = (words: string, kind: string, ...layers: Node[]) =>
  h("span", { class: `window ${kind}`, role: "img", "aria-label": words }, ...layers);

function swipe(one: Pinned, other: Pinned, words: string) {
  const cut = h("span", { class: "cut" }, large(one));
  const range = { min: 0, max: 100, step: 1, value: state.swipe };
  return h(
    "figure",
    {},
    windowOf(words, "swipe", large(other), cut),
    slider(
      t("compare.swipe"),
      "swipe",
      range,
      (v) => `${v} %`,
      (value) => change({ swipe: value }),
    ),
    h("figcaption", {}, words),
  );
}

function flicker(one: Pinned, other: Pinned, first: string, second: string) {
  const [front, back] = [large(one), large(other)];
  back.hidden = true;
  const said = h("output", {}, first);
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
    "figure",
    { class: "screen-only" },
    view,
    h("p", { class: "steps" }, still ? null : start, button(t("compare.turn"), "turn", turn), said),
    h("figcaption", {}, t(still ? "compare.still" : "compare.flickerWords")),
  );
}

export function stopFlicker() {
  window.clearInterval(turning);
  turning = undefined;
}

/** One map minus the other, each as a share of its maximum. */
function difference(
  { image }: Pinned,
  maps: NonNullable<ReturnType<typeof onOneGrid>>,
  first: string,
  second: string,
) {
  const [height, width] = seenSize(image, Math.max(image.width, image.height));
  const levels = maps.first.map(
    (share, i) => Math.min(Math.max(share - maps.second[i], -1), 1) * ZERO + ZERO,
  );
  const values = enlarge(levels, maps, height, width, !state.cells);
  const index = Uint8Array.from(values, (value) => Math.floor(value + 0.5));
  const canvas = h("canvas", { class: "heat opaque" });
  const look = { table: tables.diverging, signed: true, threshold: 0, byValue: false };
  paint(canvas, index, height, width, look);
  const seen = h("span", { class: "seen" }, canvas);
  placeSeen(seen, image.seen);
  const photo = h("img", { src: image.photo, alt: "" });
  const frame = h("span", { class: "frame positive difference" }, photo, seen);
  shape(frame, image.width, image.height);
  const words = t("compare.differenceWords", { first, second });
  const bar = h("canvas", { role: "img", "aria-label": t("compare.bar") });
  paintBar(bar, tables.diverging, 2 * ZERO + 1);
  return h(
    "figure",
    {},
    windowOf(words, "", h("span", { class: "zoomed" }, frame)),
    h(
      "p",
      { class: "bar-row" },
      h("span", {}, t("compare.more", { name: second })),
      bar,
      h("span", {}, t("compare.more", { name: first })),
    ),
    h("figcaption", {}, words),
  );
}
