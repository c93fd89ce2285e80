// All images at a glance, with one map each: filtered, sorted, a hundred at a time.
import { placeOf, rankIn, report } from "./data.js";
import { bdi, button, fold, h, select, slider } from "./dom.js";
import { SIDES, cellButton, layerFor } from "./frames.js";
import { enableGrid } from "./grid.js";
import { badge, chooser, pager } from "./matrix.js";
import { change, linkTo, state } from "./state.js";
import { probability, t } from "./words.js";

/** Images on a page. */
const IN_OVERVIEW = 100;

/** @type {{key: string, images: number[]}} */
let chosen = { key: "", images: [] };

/** Indices of the images that pass the filter, in the chosen order. */
export function chosenImages() {
  const { text, predicted, low, high, judged, sort } = state;
  const key = JSON.stringify([text, predicted, low, high, judged, sort]);
  if (chosen.key === key) return chosen.images;
  const { index, file, top, label } = report.images;
  const wanted = text.toLowerCase();
  const places = index
    .map((_, place) => place)
    .filter((place) => {
      const [first] = top[place];
      const share = (first?.[1] ?? 0) * 100;
      const right = label[place] === null ? null : first?.[0] === label[place];
      return (
        file[place].toLowerCase().includes(wanted) &&
        (predicted < 0 || first?.[0] === predicted) &&
        share >= low &&
        share <= high &&
        (judged === "all" || right === (judged === "right"))
      );
    });
  const confidence = (/** @type {number} */ place) => top[place][0]?.[1] ?? -1;
  const orders = {
    order: () => 0,
    name: (/** @type {number} */ a, /** @type {number} */ b) =>
      file[a].localeCompare(file[b], undefined, { numeric: true }),
    confident: (/** @type {number} */ a, /** @type {number} */ b) => confidence(b) - confidence(a),
    doubtful: (/** @type {number} */ a, /** @type {number} */ b) => confidence(a) - confidence(b),
    class: (/** @type {number} */ a, /** @type {number} */ b) =>
      (top[a][0]?.[0] ?? -1) - (top[b][0]?.[0] ?? -1) || confidence(b) - confidence(a),
  };
  places.sort(orders[sort]);
  chosen = { key, images: places.map((place) => index[place]) };
  return chosen.images;
}

/** Those of the present page. @param {number[]} images @param {number} length */
export function pageOf(images, length) {
  const page = Math.min(state.page, Math.max(0, Math.ceil(images.length / length) - 1));
  return images.slice(page * length, (page + 1) * length);
}

/** @param {HTMLElement} root */
export async function overviewView(root) {
  const images = chosenImages();
  const shown = pageOf(images, IN_OVERVIEW);
  const all = report.images.index.length;
  root.append(
    h("h2", { class: "visually-hidden" }, t("view.overview")),
    filters(),
    h(
      "p",
      { class: "hint", role: "status" },
      t("overview.count", {
        shown: images.length.toLocaleString("en"),
        all: all.toLocaleString("en"),
      }),
    ),
  );
  const tiles = h("ul", { class: shown.length <= 6 ? "tiles few" : "tiles" }, ...shown.map(tile));
  enableGrid(tiles);
  root.append(tiles);
  if (!images.length) root.append(nothing());
  if (images.length > IN_OVERVIEW) root.append(pager(IN_OVERVIEW));
}

/** What to do where no image passes the filter. */
function nothing() {
  const all = { text: "", predicted: -1, low: 0, high: 100, judged: /** @type {const} */ ("all") };
  return h(
    "p",
    {},
    t("overview.nothing"),
    " ",
    button(t("overview.reset"), "reset-filter", () => change(all)),
  );
}

/** @param {number} index */
function tile(index) {
  const place = placeOf(index);
  const [top] = report.images.top[place];
  const { method } = state;
  const layer = layerFor(method, state.layer);
  const id = { image: index, rank: rankIn(index, state.rank), method, layer };
  return h(
    "li",
    { class: "tile" },
    cellButton(id, { side: SIDES.tile, tile: report.folder, caption: false }),
    h(
      "a",
      {
        class: "name",
        ...linkTo({ view: "matrix", image: index, rows: "layer", columns: "method" }),
      },
      bdi(report.images.file[place]),
    ),
    top
      ? h("span", { class: "hint" }, bdi(`${report.classes[top[0]]} ${probability(top[1])}`))
      : null,
    badge(place),
  );
}

/** What is shown of which images. */
function filters() {
  const predicted = [
    ...new Set(report.images.top.map((top) => top[0]?.[0]).filter((index) => index !== undefined)),
  ];
  predicted.sort((a, b) => a - b);
  const search = h("input", {
    type: "search",
    value: state.text,
    "data-focus": "text",
    oninput: () => change({ text: search.value, page: 0 }),
  });
  const judged = report.images.label.some((label) => label !== null);
  return fold(
    t("overview.filters"),
    "filters",
    chooser("method"),
    chooser("layer"),
    report.ranks > 1 ? chooser("class") : null,
    h("label", { class: "control" }, h("span", {}, t("overview.name")), search),
    select(
      t("overview.predicted"),
      "predicted",
      [
        [-1, t("overview.any")],
        ...predicted.map(
          (index) => /** @type {[number, string]} */ ([index, report.classes[index]]),
        ),
      ],
      state.predicted,
      (value) => change({ predicted: Number(value), page: 0 }),
    ),
    slider(
      t("overview.from"),
      "low",
      { min: 0, max: 100, step: 1, value: state.low },
      (v) => (v / 100).toFixed(2),
      (low) => change({ low, high: Math.max(low, state.high), page: 0 }),
      false,
    ),
    slider(
      t("overview.to"),
      "high",
      { min: 0, max: 100, step: 1, value: state.high },
      (v) => (v / 100).toFixed(2),
      (high) => change({ high, low: Math.min(high, state.low), page: 0 }),
      false,
    ),
    judged
      ? select(
          t("overview.judged"),
          "judged",
          [
            ["all", t("overview.any")],
            ["right", t("overview.right")],
            ["wrong", t("overview.wrong")],
          ],
          state.judged,
          (value) => change({ judged: /** @type {State["judged"]} */ (value), page: 0 }),
        )
      : null,
    select(
      t("overview.sort"),
      "sort",
      /** @type {[string, string][]} */ (
        ["order", "name", "confident", "doubtful", "class"].map((key) => [key, t(`sort.${key}`)])
      ),
      state.sort,
      (value) => change({ sort: /** @type {State["sort"]} */ (value), page: 0 }),
    ),
  );
}
