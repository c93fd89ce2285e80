// All images at a glance, with one map each: filtered, sorted, a hundred at a time.
import { data, store } from "../app";
import { layerFor } from "../maps/availability";
import { cellButton } from "../maps/cell";
import { SIDES } from "../maps/frames";
import { chooser, pager } from "../parts/chooser";
import {
  type Option,
  button,
  fold,
  refreshControls,
  search,
  select,
  slider,
} from "../parts/controls";
import { bdi, byId, h, keepFocus } from "../parts/dom";
import { badge, topHint } from "../parts/image";
import { enableRoving } from "../parts/roving";
import { t } from "../parts/words";
import { change, linkTo } from "../state/history";
import { chosenImages, pageOf } from "../state/selection";
import { APPEARANCE, FILTER, type State, concerns } from "../state/state";
import { type View, viewRoot } from "./view";

/** Images on a page. */
const MAX_TILES = 100;

export function overviewView(): View {
  const controls = filters();
  const status = h("p", { class: "hint", role: "status" }, countWords());
  const title = h("h2", { class: "visually-hidden" }, t("view.overview"));
  let shown = results();
  const root = viewRoot("overview", title, controls, status, ...shown);
  return {
    root,
    uses: [...APPEARANCE, "rank"],
    update(changed) {
      if (changed.has("apart")) return false; // the methods to choose from
      refreshControls(controls);
      if (!concerns(changed, ...FILTER, "page", "method", "layer", "rank")) return true;
      status.textContent = countWords();
      const [first, ...others] = shown;
      shown = results();
      keepFocus(byId("view"), () => {
        for (const other of others) other.remove();
        first.replaceWith(...shown);
      });
      return true;
    },
  };
}

/** How many images pass the filter. */
function countWords() {
  const counts = [chosenImages().length, data.report.images.index.length];
  const [shown, all] = counts.map((count) => count.toLocaleString("en"));
  return t("overview.count", { shown, all });
}

/** The images of the present page. */
function results() {
  const images = chosenImages();
  const shown = pageOf(images, MAX_TILES);
  const tiles = h("ul", { class: shown.length <= 6 ? "tiles few" : "tiles" }, ...shown.map(tile));
  enableRoving(tiles);
  if (!images.length) return [tiles, nothing()];
  return images.length > MAX_TILES ? [tiles, pager(MAX_TILES)] : [tiles];
}

/** What to do where no image passes the filter. */
function nothing() {
  const all = { text: "", predicted: -1, low: 0, high: 100, judged: "all" } as const;
  const reset = button(t("overview.reset"), "reset-filter", () => change(all));
  return h("p", {}, t("overview.nothing"), " ", reset);
}

function tile(index: number) {
  const place = data.placeOf(index);
  const { method } = store.state;
  const layer = layerFor(method, store.state.layer);
  const id = { image: index, rank: data.rankIn(index, store.state.rank), method, layer };
  return h(
    "li",
    { class: "tile" },
    cellButton(id, { side: SIDES.tile, tile: data.report.folder, caption: false }),
    h(
      "a",
      {
        class: "name",
        ...linkTo({ view: "matrix", image: index, rows: "layer", columns: "method" }),
      },
      bdi(data.report.images.file[place]),
    ),
    topHint(index),
    badge(place),
  );
}

/** What is shown of which images. */
const filters = () =>
  fold(
    t("overview.filters"),
    "filters",
    chooser("method"),
    chooser("layer"),
    search(
      t("overview.name"),
      "text",
      () => store.state.text,
      (text) => change({ text, page: 0 }),
    ),
    byPrediction(),
    ...byProbability(),
    data.report.images.label.some((label) => label !== null) ? byJudgement() : null,
    order(),
  );

function byPrediction() {
  const { classes, images } = data.report;
  const found = new Set(images.top.flatMap(([first]) => (first ? [first[0]] : [])));
  const options = [...found].sort((a, b) => a - b).map((index): Option => [index, classes[index]]);
  return select(
    t("overview.predicted"),
    "predicted",
    [[-1, t("overview.any")], ...options],
    () => store.state.predicted,
    (value) => change({ predicted: Number(value), page: 0 }),
  );
}

function byProbability() {
  const range = { min: 0, max: 100, step: 1 };
  const say = (value: number) => (value / 100).toFixed(2);
  const low = (value: number) =>
    change({ low: value, high: Math.max(value, store.state.high), page: 0 });
  const high = (value: number) =>
    change({ high: value, low: Math.min(value, store.state.low), page: 0 });
  return [
    slider(t("overview.from"), "low", range, () => store.state.low, say, low, false),
    slider(t("overview.to"), "high", range, () => store.state.high, say, high, false),
  ];
}

const byJudgement = () =>
  select<State["judged"]>(
    t("overview.judged"),
    "judged",
    [
      ["all", t("overview.any")],
      ["right", t("overview.right")],
      ["wrong", t("overview.wrong")],
    ],
    () => store.state.judged,
    (judged) => change({ judged, page: 0 }),
  );

const order = () =>
  select<State["sort"]>(
    t("overview.sort"),
    "sort",
    ["order", "name", "confident", "doubtful", "class"].map((key) => [key, t(`sort.${key}`)]),
    () => store.state.sort,
    (sort) => change({ sort, page: 0 }),
  );
