// All images at a glance, with one map each: filtered, sorted, a hundred at a time.
import { placeOf, rankIn, report } from "../data/dataset";
import { bdi, button, fold, h, select, slider } from "../parts/dom";
import { SIDES, cellButton, layerFor } from "../maps/frames";
import { enableGrid } from "../parts/roving";
import { badge, chooser, pager } from "./matrix";
import { chosenImages, pageOf } from "../state/selection";
import { change, linkTo, state } from "../state/state";
import { probability, t } from "../parts/words";
import type { State } from "../data/types";

/** Images on a page. */
const IN_OVERVIEW = 100;

export async function overviewView(root: HTMLElement) {
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
  const all = { text: "", predicted: -1, low: 0, high: 100, judged: "all" as const };
  return h(
    "p",
    {},
    t("overview.nothing"),
    " ",
    button(t("overview.reset"), "reset-filter", () => change(all)),
  );
}

function tile(index: number) {
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
        ...predicted.map((index) => [index, report.classes[index]] as [number, string]),
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
          (value) => change({ judged: value as State["judged"], page: 0 }),
        )
      : null,
    select(
      t("overview.sort"),
      "sort",
      ["order", "name", "confident", "doubtful", "class"].map((key) => [key, t(`sort.${key}`)]) as [
        string,
        string,
      ][],
      state.sort,
      (value) => change({ sort: value as State["sort"], page: 0 }),
    ),
  );
}
