// One map, large: its values, its peak, its bounding box, its neighbours; saved as a picture.
import {
  camOf,
  classOf,
  idOf,
  idText,
  imageOf,
  knownImage,
  levelsOf,
  methodOf,
  report,
} from "./data.js";
import { all, announce, bdi, button, byId, h } from "./dom.js";
import {
  composite,
  describe,
  draw,
  frameOf,
  gainOf,
  scaleOf,
  seenSize,
  tableOf,
} from "./frames.js";
import { ZERO, enlarge, indices, paintBar } from "./heat.js";
import { change, state } from "./state.js";
import { number, percent, probability, t } from "./words.js";

/** Most cells that can be pinned. */
export const MOST_PINS = 4;

/** Share of the scale that the bounding box surrounds where no threshold is set. */
const BOX_SHARE = 0.5;

/** @typedef {{id: CellId, image: ImageRecord, cam: CamCell | undefined, values: Float64Array, index: Uint8Array, height: number, width: number, x: number, y: number}} Shown */

/** @type {Shown | null} */
let shown = null;

/** What had the focus before. @type {string} */
let returnTo = "";

const dialog = () => /** @type {HTMLDialogElement} */ (byId("cell"));

/** Open a map. @param {string} id */
export function openCell(id) {
  change({ open: id }, true);
}

/** Follow the state: open, change or close the dialog. */
export async function showCell() {
  if (!state.open) {
    if (dialog().open) dialog().close();
    return;
  }
  const id = idOf(state.open);
  const image = report.images.index.includes(id.image) ? await imageOf(id.image) : null;
  if (!image || state.open !== idText(id)) return change({ open: "" });
  const side = Math.max(image.width, image.height);
  const [height, width] = seenSize(image, side);
  const cam = camOf(image, id);
  const drawn = cam?.state === "positive" && !cam.picture;
  const values = drawn
    ? enlarge(levelsOf(image, cam), cam, height, width, !state.cells)
    : new Float64Array();
  const index = drawn ? indices(values, cam.signed, gainOf(image, cam)) : new Uint8Array();
  const [x, y] = shown?.id.image === id.image ? [shown.x, shown.y] : [0.5, 0.5];
  shown = { id, image, cam, values, index, height, width, x, y };
  build(shown);
  if (!dialog().open) {
    const focused = /** @type {HTMLElement | null} */ (
      document.activeElement?.closest("[data-focus]")
    );
    returnTo = focused?.dataset.focus ?? `cell ${state.open}`;
    dialog().showModal();
  }
}

/** @param {Shown} now */
function build(now) {
  const { id, image, cam } = now;
  const kept = /** @type {HTMLElement | null} */ (
    document.activeElement?.closest("#cell [data-focus]")
  )?.dataset.focus;
  const frame = frameOf(id, Math.max(image.width, image.height));
  const cross = h("span", { class: "cross", "aria-hidden": "true" });
  frame.append(cross);
  frame.id = "probe";
  frame.tabIndex = 0;
  frame.dataset.focus = "probe";
  frame.setAttribute("role", "application");
  frame.setAttribute("aria-label", t("cell.probe", { what: describe(id, image) }));
  frame.setAttribute("aria-describedby", "reading");
  draw(frame);
  const box = boundingBox(now);
  if (box) frame.append(marked(now, box));
  const title = [
    image.file,
    methodOf(id.method).classSpecific ? classOf(image, id.rank) : t("class.any"),
    methodOf(id.method).name,
    id.layer,
  ];
  dialog().replaceChildren(
    h(
      "header",
      {},
      h("h2", { id: "cell-title" }, bdi(title.join(" · "))),
      button(t("close"), "close", () => dialog().close()),
    ),
    h(
      "div",
      { class: "stage" },
      frame,
      h(
        "div",
        { class: "beside" },
        ways(),
        colourBar(now),
        h("output", { id: "reading" }),
        facts(now, box),
        h(
          "p",
          { class: "steps" },
          button(t("previous"), "previous", () => step(-1), { disabled: !neighbour(-1) }),
          button(t("next"), "next", () => step(1), { disabled: !neighbour(1) }),
          button(
            state.pins.includes(state.open) ? t("unpin") : t("pin"),
            "pin",
            () => togglePin(state.open),
            {
              "aria-pressed": String(state.pins.includes(state.open)),
            },
          ),
          cam ? button(t("save"), "save", () => save(now)) : null,
        ),
      ),
    ),
  );
  showReading();
  if (kept) focusIn(kept);
}

/** @param {string} key */
const focusIn = (key) =>
  /** @type {HTMLElement | null} */ (
    dialog().querySelector(`[data-focus="${key}"]:not([disabled])`) ??
      dialog().querySelector("button")
  )?.focus();

/** Photograph, heat, overlay or contours. */
function ways() {
  /** @type {[string, Partial<State>][]} */
  const choices = [
    ["overlay", { show: "overlay", contours: false }],
    ["heat", { show: "heat", contours: false }],
    ["photo", { show: "photo", contours: false }],
    ["contours", { show: "photo", contours: true }],
  ];
  return h(
    "div",
    { class: "segments", role: "group", "aria-label": t("show") },
    ...choices.map(([name, changes]) => {
      const on =
        state.show === changes.show &&
        (state.contours === changes.contours || name === "heat" || name === "overlay");
      return button(t(`show.${name}`), `show-${name}`, () => change(changes), {
        "aria-pressed": String(on),
      });
    }),
  );
}

/** @param {Shown} now */
function colourBar({ image, cam }) {
  if (!cam || cam.picture || cam.state !== "positive") return null;
  const canvas = h("canvas", { role: "img", "aria-label": t("cell.bar") });
  paintBar(canvas, tableOf(cam), cam.signed ? 2 * ZERO + 1 : 256);
  const top = scaleOf(image, cam);
  return h(
    "p",
    { class: "bar-row" },
    h("span", { class: "bar-bottom" }, number(cam.signed ? -top : cam.base)),
    canvas,
    h("span", { class: "bar-top" }, number(cam.base + top)),
  );
}

/** Rectangle around what reaches the threshold, in pixels of the seen part. @param {Shown} now */
function boundingBox({ cam, index, width }) {
  if (!index.length || !cam) return null;
  const most = cam.signed ? ZERO : 255;
  const least = (state.threshold ? state.threshold / 100 : BOX_SHARE) * most;
  let [left, top, right, bottom, count] = [Infinity, Infinity, -1, -1, 0];
  for (let i = 0; i < index.length; i++) {
    if ((cam.signed ? Math.abs(index[i] - ZERO) : index[i]) < least) continue;
    const [row, column] = [Math.floor(i / width), i % width];
    left = Math.min(left, column);
    right = Math.max(right, column);
    top = Math.min(top, row);
    bottom = Math.max(bottom, row);
    count++;
  }
  return right < 0
    ? null
    : { left, top, right: right + 1, bottom: bottom + 1, share: count / index.length };
}

/** Place of the largest value in the seen part. @param {Shown} now */
function peakAt({ cam, values, width }) {
  let best = 0;
  for (let i = 1; i < values.length; i++) {
    const larger = cam?.signed
      ? Math.abs(values[i] - ZERO) > Math.abs(values[best] - ZERO)
      : values[i] > values[best];
    if (larger) best = i;
  }
  return { column: best % width, row: Math.floor(best / width) };
}

/** The photograph's pixel for one of the seen part. @param {Shown} now @param {number} column @param {number} row */
function photoPixel({ image, width, height }, column, row) {
  const [full, high] = report.images.size[report.images.index.indexOf(image.index)];
  const [left, top, right, bottom] = image.seen;
  return [
    Math.floor((left + ((column + 0.5) / width) * (right - left)) * full),
    Math.floor((top + ((row + 0.5) / height) * (bottom - top)) * high),
  ];
}

/** The box and the peak, drawn over the map. @param {Shown} now @param {{left: number, top: number, right: number, bottom: number}} box */
function marked(now, box) {
  const overlay = h("span", { class: "marks", "aria-hidden": "true" });
  const [left, top, right, bottom] = now.image.seen;
  const x = (/** @type {number} */ column) => (left + (column / now.width) * (right - left)) * 100;
  const y = (/** @type {number} */ row) => (top + (row / now.height) * (bottom - top)) * 100;
  const rectangle = h("span", { class: "box" });
  Object.assign(rectangle.style, {
    left: `${x(box.left)}%`,
    top: `${y(box.top)}%`,
    width: `${x(box.right) - x(box.left)}%`,
    height: `${y(box.bottom) - y(box.top)}%`,
  });
  const { column, row } = peakAt(now);
  const peak = h("span", { class: "peak-mark" }, "+");
  Object.assign(peak.style, { left: `${x(column + 0.5)}%`, top: `${y(row + 0.5)}%` });
  overlay.append(rectangle, peak);
  return overlay;
}

/** @param {Shown} now @param {ReturnType<typeof boundingBox>} box */
function facts(now, box) {
  const { id, image, cam } = now;
  const rows = [];
  if (methodOf(id.method).classSpecific) {
    rows.push([
      t("fact.class"),
      [
        classOf(image, id.rank),
        t("fact.probability", { probability: probability(image.probabilities[id.rank]) }),
      ].join(t("comma")),
    ]);
  }
  if (cam)
    rows.push([t("fact.grid"), t("fact.cells", { cells: `${cam.grid[1]} × ${cam.grid[0]}` })]);
  if (cam)
    rows.push([
      t("fact.largest"),
      cam.state === "positive" ? number(cam.base + cam.peak) : t(`cell.${cam.state}`),
    ]);
  if (box) {
    const { column, row } = peakAt(now);
    const share = percent(state.threshold ? state.threshold / 100 : BOX_SHARE);
    const [x0, y0] = photoPixel(now, box.left, box.top);
    const [x1, y1] = photoPixel(now, box.right - 1, box.bottom - 1);
    rows.push([
      t("fact.peak"),
      t("fact.at", { x: photoPixel(now, column, row)[0], y: photoPixel(now, column, row)[1] }),
    ]);
    rows.push([t("fact.box", { share }), t("fact.rectangle", { x0, y0, x1, y1 })]);
    rows.push([t("fact.area", { share }), percent(box.share)]);
  }
  if (cam && !cam.picture)
    rows.push([
      t("fact.scale"),
      t(cam.own || state.scale === "map" ? "scale.map" : `scale.${state.scale}`),
    ]);
  return h(
    "dl",
    { id: "facts" },
    ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, bdi(value)))),
  );
}

/** Say the value at the cross-hair, which is kept in shares of the photograph. */
function showReading() {
  if (!shown) return;
  const { image, cam, values, width, height, x, y } = shown;
  const cross = /** @type {HTMLElement | null} */ (dialog().querySelector(".cross"));
  if (cross) Object.assign(cross.style, { left: `${x * 100}%`, top: `${y * 100}%` });
  const [full, high] = report.images.size[report.images.index.indexOf(image.index)];
  byId("reading").textContent =
    `x ${Math.floor(x * full)}, y ${Math.floor(y * high)}\n${valueAt(image, cam, values, height, width, x, y)}`;
}

/**
 * A map's value at a place of the photograph, in words.
 * @param {ImageRecord} image
 * @param {CamCell | undefined} cam
 * @param {Float64Array} values
 * @param {number} height
 * @param {number} width
 * @param {number} x share of the photograph's width
 * @param {number} y share of its height
 */
export function valueAt(image, cam, values, height, width, x, y) {
  if (!cam || cam.state !== "positive") return t(`cell.${cam?.state ?? "absent"}`);
  if (cam.picture) return t("cell.picture");
  const [left, top, right, bottom] = image.seen;
  const column = Math.floor(((x - left) / (right - left)) * width);
  const row = Math.floor(((y - top) / (bottom - top)) * height);
  if (column < 0 || row < 0 || column >= width || row >= height) return t("cell.notSeen");
  const level = values[row * width + column];
  const share = cam.signed ? (level - ZERO) / ZERO : level / 255;
  return `${number(cam.base + share * cam.peak)}\n${t("cell.share", { share: percent(share).replace("-", "−") })}`;
}

/** The map before or behind in the view. @param {number} by */
function neighbour(by) {
  const ids = all("#view .cell[data-id]")
    .filter((cell) => cell.offsetParent)
    .map((cell) => cell.dataset.id ?? "");
  const place = ids.indexOf(state.open);
  return place < 0 ? undefined : ids[place + by];
}

/** @param {number} by */
export function step(by) {
  const next = neighbour(by);
  if (next) change({ open: next });
}

/** The same map of the next or previous class. @param {number} by */
export function stepClass(by) {
  const id = idOf(state.open);
  const image = knownImage(id.image);
  const count = image?.targets.length ?? report.ranks;
  change({ open: idText({ ...id, rank: (id.rank + by + count) % count }) });
}

/** Pin a map for comparison, or take its pin away. @param {string} id */
export function togglePin(id) {
  const pins = state.pins.includes(id)
    ? state.pins.filter((pin) => pin !== id)
    : [...state.pins, id].slice(-MOST_PINS);
  change({ pins, pair: "" });
  announce(t("pins.count", { count: pins.length, most: MOST_PINS }));
}

/** Short ASCII of a name, for a file. @param {string} text */
const plain = (text) =>
  text
    .normalize("NFKD")
    .replace(/[^A-Za-z0-9.]+/g, "-")
    .replace(/^[-.]+|[-.]+$/g, "")
    .slice(0, 40);

/** @param {Shown} now */
function save({ id, image }) {
  const classes = methodOf(id.method).classSpecific
    ? [`class${image.targets[id.rank]}`, plain(classOf(image, id.rank))].filter(Boolean).join("-")
    : "any-class";
  const name = [
    plain(image.file.replace(/\.[^.]*$/, "")) || "image",
    classes,
    id.method,
    plain(id.layer),
  ].join("_");
  composite(image, id, Math.max(image.width, image.height)).toBlob((blob) => {
    if (!blob) return;
    const address = URL.createObjectURL(blob);
    h("a", { href: address, download: `${name}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
}

/** @param {number} x @param {number} y */
function moveTo(x, y) {
  if (!shown) return;
  shown.x = Math.min(Math.max(x, 0), 1 - 1e-9);
  shown.y = Math.min(Math.max(y, 0), 1 - 1e-9);
  showReading();
}

/** @param {MouseEvent} event */
function followPointer(event) {
  const probe = /** @type {HTMLElement} */ (event.target).closest("#probe");
  if (!probe) return;
  const box = probe.getBoundingClientRect();
  moveTo((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
}

export function startDialog() {
  dialog().addEventListener("pointermove", followPointer);
  dialog().addEventListener("pointerdown", followPointer);
  dialog().addEventListener("click", (event) => {
    if (event.target === dialog()) dialog().close();
  });
  dialog().addEventListener("close", () => {
    change({ open: "" });
    all("#view [data-focus]")
      .find((element) => element.dataset.focus === returnTo)
      ?.focus();
  });
  dialog().addEventListener("keydown", (event) => {
    /** @type {Record<string, [number, number]>} */
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (
      !shown ||
      !steps[event.key] ||
      !(/** @type {HTMLElement} */ (event.target).closest("#probe"))
    )
      return;
    event.preventDefault();
    const by = event.shiftKey ? 0.1 : 0.01;
    moveTo(shown.x + steps[event.key][0] * by, shown.y + steps[event.key][1] * by);
  });
}
