// Two to four pinned maps: one zoom and one cross-hair for all, and how far they agree.
import { camOf, idOf, imageOf, report } from "./data.js";
import { MAX_PINS, openCell, togglePin } from "./dialog.js";
import { all, button, h, slider } from "./dom.js";
import { describe, draw, frameOf } from "./frames.js";
import { shaded } from "./look.js";
import { valueAt } from "./measure.js";
import { LETTERS, agreement, pair } from "./pair.js";
import { change, linkTo, state } from "./state.js";
import { percent, t } from "./words.js";

/** The maps in view. @type {Pinned[]} */
let pins = [];

/** What a pin stands for; null where its image is missing. @param {string} text @returns {Promise<Pinned | null>} */
async function pinOf(text) {
  const id = idOf(text);
  const image = report.images.index.includes(id.image) ? await imageOf(id.image) : null;
  return image && { text, id, image, cam: camOf(image, id) };
}

/** @param {HTMLElement} root */
export async function compareView(root) {
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

/** Enlarge all pictures around the cross-hair, and say the values there. @param {HTMLElement} root */
export function moveCompare(root) {
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

/** A window that clips an enlarged picture. @param {HTMLElement} frame @param {string} name */
function stage(frame, name) {
  const inner = h("span", { class: "zoomed" }, frame);
  const cross = h("span", { class: "cross", "aria-hidden": "true" });
  return h("span", { class: "window", role: "img", "aria-label": name }, inner, cross);
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
