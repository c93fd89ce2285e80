// Two to four pinned maps: one zoom and one cross-hair for all, and how far they agree.
import { camOf, idOf, imageOf, levelsOf, report, tables } from "./data.js";
import { all, button, h, select, slider } from "./dom.js";
import { describe, draw, frameOf, placeSeen, seenSize } from "./frames.js";
import { MOST_PINS, openCell, togglePin, valueAt } from "./dialog.js";
import { ZERO, enlarge, paint, paintBar, rankCorrelation, topOverlap } from "./heat.js";
import { change, link, state } from "./state.js";
import { percent, t } from "./words.js";

/** Milliseconds between two pictures that take turns. */
const FLICKER = 700;

/** @typedef {{text: string, id: CellId, image: ImageRecord, cam: CamCell | undefined}} Pinned */

/** @type {number | undefined} */
let turning;

/** @param {HTMLElement} root */
export async function compareView(root) {
  stopFlicker();
  const found = await Promise.all(
    state.pins.map(async (text) => {
      const id = idOf(text);
      const image = report.images.index.includes(id.image) ? await imageOf(id.image) : null;
      return image && { text, id, image, cam: camOf(image, id) };
    }),
  );
  const pins = /** @type {Pinned[]} */ (found.filter(Boolean));
  root.append(h("h2", {}, t("view.compare")));
  if (pins.length < 2) {
    root.append(
      h("p", {}, t("compare.empty", { most: MOST_PINS })),
      h("p", {}, h("a", { href: link({ view: "matrix" }) }, t("compare.toMatrix"))),
    );
    if (!pins.length) return;
  }
  root.append(zoomControls(), pinned(pins));
  if (pins.length < 2) return;
  root.append(agreement(pins), pair(pins));
  showCross(root, pins);
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
    button(t("compare.clear"), "clear", () => change({ pins: [], pair: "" }, true)),
  );
}

/** Enlarge all pictures around the cross-hair, and say the values there. @param {HTMLElement} root */
export function followCross(root) {
  for (const zoomed of all(".zoomed", root)) {
    zoomed.style.transform = `scale(${state.zoom})`;
    zoomed.style.transformOrigin = `${state.atX * 100}% ${state.atY * 100}%`;
  }
  for (const cross of all(".cross", root)) {
    Object.assign(cross.style, { left: `${state.atX * 100}%`, top: `${state.atY * 100}%` });
  }
  for (const swiped of all(".swipe", root)) swiped.style.setProperty("--swipe", `${state.swipe}%`);
}

/** @param {HTMLElement} root @param {Pinned[]} pins */
function showCross(root, pins) {
  followCross(root);
  const readings = all(".pin output", root);
  pins.forEach(({ image, cam }, place) => {
    const [height, width] = seenSize(image, 224);
    const values =
      cam?.state === "positive" && !cam.picture
        ? enlarge(levelsOf(image, cam), cam, height, width, !state.cells)
        : new Float64Array();
    readings[place].textContent = valueAt(
      image,
      cam,
      values,
      height,
      width,
      state.atX,
      state.atY,
    ).replace("\n", t("comma"));
  });
}

/** Tell the view that zoom, place or swipe have changed. @param {HTMLElement} root */
export async function moveCompare(root) {
  const pins = await Promise.all(
    state.pins.map(async (text) => ({
      text,
      id: idOf(text),
      image: await imageOf(idOf(text).image),
    })),
  );
  const known = pins
    .filter((pin) => pin.image)
    .map((pin) => ({
      ...pin,
      image: /** @type {ImageRecord} */ (pin.image),
      cam: camOf(/** @type {ImageRecord} */ (pin.image), pin.id),
    }));
  if (all(".pin", root).length === known.length && known.length > 1) showCross(root, known);
  else followCross(root);
}

/** A window that clips an enlarged picture. @param {HTMLElement} frame @param {string} extra */
function stage(frame, extra = "") {
  const inner = h("span", { class: "zoomed" }, frame);
  const cross = h("span", { class: "cross", "aria-hidden": "true" });
  return h("span", { class: `window ${extra}` }, inner, cross);
}

/** @param {MouseEvent} event */
function placeCross(event) {
  const box = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
  const share = (
    /** @type {number} */ at,
    /** @type {number} */ start,
    /** @type {number} */ length,
    /** @type {number} */ around,
  ) => {
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

/** @param {Pinned[]} pins */
function pinned(pins) {
  return h(
    "ol",
    { class: "pins" },
    ...pins.map(({ id, image, text }, place) => {
      const frame = frameOf(id, Math.max(image.width, image.height));
      draw(frame);
      const window_ = stage(frame);
      window_.addEventListener("click", placeCross);
      return h(
        "li",
        { class: "pin" },
        h("h3", {}, `${"ABCD"[place]} · `, h("span", {}, describe(id, image))),
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

/** Two maps on the finer of their grids, as shares of their own maximum. @param {Pinned} one @param {Pinned} other */
function onOneGrid(one, other) {
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
    const own = /** @type {CamCell} */ (cam);
    const values = enlarge(levelsOf(image, own), own, height, width);
    return values.map((level) => (own.signed ? (level - ZERO) / ZERO : level / 255));
  });
  return { height, width, first, second };
}

/** @param {Pinned[]} pins */
function agreement(pins) {
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
          h("th", { scope: "row" }, `${"ABCD"[a]} ${t("compare.with")} ${"ABCD"[b]}`),
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
    h("p", { class: "hint" }, t("compare.caution")),
  );
}

/** @param {Pinned[]} pins */
function pair(pins) {
  const pairs = [];
  for (let a = 0; a < pins.length; a++)
    for (let b = a + 1; b < pins.length; b++) pairs.push(`${a}${b}`);
  const chosen = pairs.includes(state.pair) ? state.pair : pairs[0];
  const [one, other] = [...chosen].map((place) => pins[Number(place)]);
  const name = (/** @type {string} */ text) =>
    [...text].map((place) => "ABCD"[Number(place)]).join(` ${t("compare.with")} `);
  const maps = onOneGrid(one, other);
  return h(
    "section",
    { class: "pair" },
    h("h3", {}, t("compare.pair")),
    pairs.length > 1
      ? select(
          t("compare.which"),
          "pair",
          pairs.map((text) => [text, name(text)]),
          chosen,
          (value) => change({ pair: value }),
        )
      : null,
    h(
      "div",
      { class: "ways" },
      h(
        "figure",
        {},
        swipe(one, other),
        slider(
          t("compare.swipe"),
          "swipe",
          { min: 0, max: 100, step: 1, value: state.swipe },
          (v) => `${v} %`,
          (value) => change({ swipe: value }),
        ),
        h(
          "figcaption",
          {},
          t("compare.swipeWords", {
            first: "ABCD"[Number(chosen[0])],
            second: "ABCD"[Number(chosen[1])],
          }),
        ),
      ),
      flicker(one, other, chosen),
      maps ? difference(one, maps, chosen) : h("p", { class: "note" }, t("compare.noDifference")),
    ),
  );
}

/** @param {Pinned} pin */
function large({ id, image }) {
  const frame = frameOf(id, Math.max(image.width, image.height));
  draw(frame);
  return h("span", { class: "zoomed" }, frame);
}

/** @param {Pinned} one @param {Pinned} other */
const swipe = (one, other) =>
  h("span", { class: "window swipe" }, large(other), h("span", { class: "cut" }, large(one)));

/** @param {Pinned} one @param {Pinned} other @param {string} chosen */
function flicker(one, other, chosen) {
  const [first, second] = [large(one), large(other)];
  second.hidden = true;
  const said = h("output", {}, "ABCD"[Number(chosen[0])]);
  const turn = () => {
    first.hidden = !first.hidden;
    second.hidden = !second.hidden;
    said.textContent = "ABCD"[Number(chosen[second.hidden ? 0 : 1])];
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
    {},
    h("span", { class: "window" }, first, second),
    h("p", { class: "steps" }, still ? null : start, button(t("compare.turn"), "turn", turn), said),
    h("figcaption", {}, t(still ? "compare.still" : "compare.flickerWords")),
  );
}

export function stopFlicker() {
  window.clearInterval(turning);
  turning = undefined;
}

/**
 * One map minus the other, each as a share of its maximum.
 * @param {Pinned} one
 * @param {NonNullable<ReturnType<typeof onOneGrid>>} maps
 * @param {string} chosen
 */
function difference(one, maps, chosen) {
  const [height, width] = seenSize(one.image, Math.max(one.image.width, one.image.height));
  const levels = maps.first.map(
    (share, i) => Math.min(Math.max(share - maps.second[i], -1), 1) * ZERO + ZERO,
  );
  const values = enlarge(levels, maps, height, width, !state.cells);
  const index = Uint8Array.from(values, (value) => Math.floor(value + 0.5));
  const canvas = h("canvas", { class: "heat opaque" });
  paint(canvas, index, height, width, {
    table: tables.diverging,
    signed: true,
    threshold: 0,
    byValue: false,
  });
  const seen = h("span", { class: "seen" }, canvas);
  placeSeen(seen, one.image.seen);
  const photo = h("img", { src: one.image.photo, alt: "" });
  const frame = h("span", { class: "frame positive difference" }, photo, seen);
  frame.style.aspectRatio = `${one.image.width} / ${one.image.height}`;
  const bar = h("canvas", { role: "img", "aria-label": t("compare.bar") });
  paintBar(bar, tables.diverging, 2 * ZERO + 1);
  const [first, second] = [...chosen].map((place) => "ABCD"[Number(place)]);
  return h(
    "figure",
    {},
    h("span", { class: "window" }, h("span", { class: "zoomed" }, frame)),
    h(
      "p",
      { class: "bar-row" },
      h("span", {}, t("compare.more", { name: second })),
      bar,
      h("span", {}, t("compare.more", { name: first })),
    ),
    h("figcaption", {}, t("compare.differenceWords", { first, second })),
  );
}
