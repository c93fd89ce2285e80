// Mean maps: of each class by each method, their spread, and right predictions against wrong ones.
import { data, report, state } from "../../app";
import type { ShippedAtlas } from "../../data/types";
import { layerList } from "../../maps/availability";
import { type Option, select } from "../../parts/controls";
import { bdi, h } from "../../parts/dom";
import { enableRoving } from "../../parts/roving";
import { layerName, number, sentences, t } from "../../parts/words";
import { change } from "../../state/history";
import type { State } from "../../state/state";
import { leadTo } from "../summary/said";
import { type Grid, minus, peakOf, picture } from "./mean";
import {
  type Shown,
  classChoice,
  classQuery,
  classesOf,
  layerShown,
  meanOf,
  methodsOf,
  shownOf,
} from "./read";

/** What of the maps of a class is shown, each in a column where there is one layer. */
const MEASURES = ["all", "spread", "right", "wrong", "difference"] as const;

type Measure = (typeof MEASURES)[number];

/** What of each outcome the query asks for. */
const JUDGED: Partial<Record<Measure, string>> = { right: " right:yes", wrong: " right:no" };

/** A measure of a class's maps; undefined where there is none. */
function gridOf(atlas: ShippedAtlas, method: string, layer: string, target: number, of: Measure) {
  const mean = (outcome: "all" | "right" | "wrong") =>
    meanOf(atlas, method, layer, target, outcome);
  const [all, right, wrong] = [mean("all"), mean("right"), mean("wrong")];
  if (of === "difference")
    return right && wrong && { grid: minus(right.mean, wrong.mean), n: right.n + wrong.n };
  const own = of === "right" ? right : of === "wrong" ? wrong : all;
  if (of === "spread" && own && own.n < 2) return undefined; // one image has none
  return own && { grid: of === "spread" ? own.spread : own.mean, n: own.n };
}

/** The value of the last colour: means of one class, method and layer share it. */
function scaleOf(atlas: ShippedAtlas, method: string, layer: string, target: number, of: Measure) {
  const shared: Measure[] = ["all", "right", "wrong"];
  const peaks = (shared.includes(of) ? shared : [of]).map((one) => {
    const found = gridOf(atlas, method, layer, target, one);
    return found ? peakOf(found.grid) : 0;
  });
  return Math.max(...peaks);
}

export function meansPart(atlas: ShippedAtlas): Shown {
  const { measure } = state;
  const classes = classesOf(atlas);
  const judged = atlas.means.outcome.includes("wrong");
  const blocks = shownOf(classes).map((target) => block(atlas, target, judged));
  const more = atlas.predicted - classes.length;
  const told = sentences(
    t("atlas.means.words"),
    judged ? t("atlas.means.judged") : "",
    more > 0 ? t("atlas.more", { count: more }) : "",
  );
  const choices = [measureChoice(judged), measure === "layer" && layerChoice()];
  return {
    nodes: [h(".switches", ...choices, classChoice(classes)), ...blocks, h("p.figcaption", told)],
  };
}

const measureChoice = (judged: boolean) =>
  select<State["measure"]>(
    t("atlas.show"),
    "measure",
    (["layer", ...MEASURES] as const)
      .filter((one) => judged || ["layer", "all", "spread"].includes(one))
      .map((one): Option => [one, t(`measure.${one}`)]),
    () => state.measure,
    (measure) => change({ measure }, true),
  );

const layerChoice = () =>
  select(
    t("axis.layer"),
    "layer",
    layerList().map((layer): Option => [layer, layerName(layer)]),
    layerShown,
    (layer) => change({ layer }, true),
  );

/** The table of a class: a row for each method. */
function block(atlas: ShippedAtlas, target: number, judged: boolean) {
  const { measure } = state;
  const columns = measure === "layer" ? ofLayer(judged) : ofLayers(atlas, measure);
  const rows = methodsOf().flatMap(({ key }) => {
    const cells = columns.map(({ layer, of }) => cell(atlas, key, layer, target, of));
    if (!cells.some(Boolean)) return [];
    const head = h("th", { scope: "row" }, bdi(data.methodOf(key).name));
    return [h("tr", head, ...cells.map((one) => h("td", one ?? "–")))];
  });
  const table = h(
    "table.frames",
    h("caption.visually-hidden", report.classes[target]),
    h(
      "thead",
      h("tr", h("td"), ...columns.map(({ head }) => h("th", { scope: "col" }, bdi(head)))),
    ),
    h("tbody", ...rows),
  );
  table.style.setProperty("--maps", String(columns.length));
  enableRoving(table, "a");
  const title = h("h3", bdi(report.classes[target]));
  return h("section.part", title, h(".scroller", table));
}

/** All measures at the layer in view. */
function ofLayer(judged: boolean) {
  const measures = MEASURES.filter((one) => judged || one === "all" || one === "spread");
  return measures.map((of) => ({ of, layer: layerShown(), head: t(`atlas.${of}`) }));
}

/** One measure at all layers with means. */
function ofLayers(atlas: ShippedAtlas, of: Measure) {
  const layers = layerList().filter((layer) => atlas.means.layer.includes(layer));
  return layers.map((layer) => ({ of, layer, head: layerName(layer) }));
}

/** A mean as a link to its images, its largest value below it. */
function cell(atlas: ShippedAtlas, method: string, layer: string, target: number, of: Measure) {
  const found = gridOf(atlas, method, layer, target, of);
  if (!found) return null;
  const words = t("atlas.mean.one", {
    measure: t(`atlas.${of}`),
    method: data.methodOf(method).name,
    layer,
    name: report.classes[target],
    count: found.n,
  });
  const query = classQuery(target) + (JUDGED[of] ?? "");
  const link = { ...leadTo({ view: "overview", method, layer, query }), tabindex: "-1" };
  const drawn = picture(found.grid, scaleOf(atlas, method, layer, target, of), words);
  return h("a.mean", link, drawn, h("span.hint", below(found.grid, found.n)));
}

/** The number of maps, and a grid's largest value. */
export const below = (grid: Grid, n: number) =>
  t("atlas.below", { count: n, peak: (grid.signed ? "±" : "") + number(peakOf(grid)) });
