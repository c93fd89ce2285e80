// What the piece of the Atlas holds, as its parts ask for it.
import { data, report, state } from "../../app";
import { bytesOf } from "../../data/bytes";
import type { CellId } from "../../data/cells";
import { PREDICTED } from "../../data/dataset";
import type { Atlas, ShippedAtlas } from "../../data/types";
import { layerFor } from "../../maps/availability";
import { cellButton } from "../../maps/cell";
import { SIDES } from "../../maps/frames";
import { type Option, select } from "../../parts/controls";
import { h } from "../../parts/dom";
import { badge } from "../../parts/image";
import { enableRoving } from "../../parts/roving";
import { t } from "../../parts/words";
import { isRight } from "../../query/match";
import { type Condition, parse, quote } from "../../query/parse";
import { change } from "../../state/history";
import { queryWith, vocabularyOf } from "../../state/selection";
import type { State } from "../../state/state";
import { leadToImage } from "../summary/said";
import { type Grid, gridAt } from "./mean";

/** A part of the Atlas; `refresh` lets it follow the selection. */
export interface Shown {
  nodes: (Node | null | false)[];
  refresh?: () => void;
}

/** Most classes that are shown at a time. */
export const MAX_CLASSES = 6;

export type Outcome = ShippedAtlas["means"]["outcome"][number];

/** A mean map, and of how many maps. */
export interface Mean {
  mean: Grid;
  spread: Grid;
  n: number;
}

let known: { of: ShippedAtlas; means: Map<string, Mean> } | null = null;

/** All mean maps, unpacked once. */
function means(atlas: ShippedAtlas) {
  if (known?.of === atlas) return known.means;
  const { method, layer, target, outcome, n, mean, meanPeak, spread, spreadPeak } = atlas.means;
  const [levels, spreads] = [bytesOf(mean), bytesOf(spread)];
  const found = n.map((count, i): [string, Mean] => [
    [method[i], layer[i], target[i], outcome[i]].join(" "),
    { mean: gridAt(levels, meanPeak, i), spread: gridAt(spreads, spreadPeak, i), n: count },
  ]);
  known = { of: atlas, means: new Map(found) };
  return known.means;
}

/** The mean map of a class by a method at a layer; undefined where there is none. */
export const meanOf = (
  atlas: ShippedAtlas,
  method: string,
  layer: string,
  target: number,
  outcome: Outcome = "all",
) => means(atlas).get([method, layer, target, outcome].join(" "));

/** Classes with mean maps, the most frequent first. */
export const classesOf = (atlas: ShippedAtlas) => [...new Set(atlas.means.target)];

/** Of classes those to show: the chosen one, or the first ones. */
export const shownOf = (classes: number[]) =>
  classes.includes(state.atlasClass) ? [state.atlasClass] : classes.slice(0, MAX_CLASSES);

/** Methods with columns of their own. */
export const methodsOf = () => data.ownMethods(state.apart);

/** The layer in view; where a method has no map there, it has no mean. */
export const layerShown = () => layerFor(state.method, state.layer);

/** The images of a class, as a query asks for them. */
export const classQuery = (target: number) => `class:${quote(report.classes[target])}`;

/** A cluster's name in queries, of the kind in view: "cat/2". */
export const clusterName = (target: number, number: number) =>
  quote(`${report.classes[target]}/${number}${state.alike === "what" ? "/what" : ""}`);

/** Whether the query has a term. */
export const asksFor = (term: string) =>
  parse(state.query, vocabularyOf(report)).some(({ text }) => text === term);

/** Choose the images of a term in place of others of its kind, or no longer. */
export function choose(kind: Condition["kind"], term: string) {
  const terms = asksFor(term) ? [] : [term];
  change({ query: queryWith((condition) => condition.kind === kind, ...terms), page: 0 }, true);
}

/** Places of the points among the images; -1 where one is not shown. */
export const placesOf = ({ points }: Atlas) => points.images.map((index) => data.placeOf(index));

/** By what images are alike, where there is a choice. */
export const alikeChoice = ({ whatLayer }: Atlas) =>
  whatLayer !== null &&
  select<State["alike"]>(
    t("atlas.alike"),
    "alike",
    (["where", "what"] as const).map((kind): Option => [kind, t(`alike.${kind}`)]),
    () => state.alike,
    (alike) => change({ alike }, true),
  );

/** Which class is shown, of those that there are; nothing to choose where there is one. */
export function classChoice(classes: number[]) {
  if (classes.length < 2) return null;
  const few = classes.length <= MAX_CLASSES;
  return select(
    t("axis.class"),
    "atlas-class",
    [
      [-1, t(few ? "atlas.every" : "atlas.first")],
      ...classes.map((target): Option => [target, report.classes[target]]),
    ],
    () => (classes.includes(state.atlasClass) ? state.atlasClass : -1),
    (target) => change({ atlasClass: Number(target) }, true),
  );
}

/** A map of an image in view: of its predicted class. */
export function mapOf(image: number): CellId {
  const { run, method } = state;
  const rank = data.rankIn(image, PREDICTED);
  return { image, run, rank, method, layer: layerFor(method, state.layer) };
}

/** An image as a tile: its photograph with its map, and its name; only its name if it is not shown. */
export function tile(image: number, key: string, ...more: (Node | null)[]) {
  if (!data.has(image)) return h("li", h("span.hint", t("atlas.unshown", { image })));
  const place = data.placeOf(image);
  const file = report.images.file[place];
  return h(
    "li",
    cellButton(mapOf(image), { side: SIDES.tile, tile: report.folder, caption: false, place: key }),
    h("a.name", { ...leadToImage(image), tabindex: "-1", dir: "auto", title: file }, file),
    isRight(report.images, place) === false ? badge(place) : null,
    ...more,
  );
}

/** Tiles as one stop of the tab key. */
export function tiles(images: number[], key: string) {
  const list = h("ul.chosen", ...images.map((image) => tile(image, `${key} ${image}`)));
  enableRoving(list);
  return list;
}
