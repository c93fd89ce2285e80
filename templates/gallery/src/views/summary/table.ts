// A few images, what was predicted for them, and their maps at one layer: the result of a report.
import { data, store } from "../../app";
import { type CellId } from "../../data/cells";
import { type ImageRecord, PREDICTED } from "../../data/dataset";
import { layerFor } from "../../maps/availability";
import { cellButton } from "../../maps/cell";
import { photoOf } from "../../maps/frames";
import { bdi, h } from "../../parts/dom";
import { badge, predictions } from "../../parts/image";
import { enableRoving } from "../../parts/roving";
import { layerName, percent, probability, rankName, t } from "../../parts/words";
import { isRight } from "../../query/match";
import { leadToImage, said } from "./said";

/** Most maps of an image; of more only those of the predicted class are shown. */
const MAX_MAPS = 6;

/** A column of maps; of a method that looks at no class, `rank` is null. */
interface Column {
  rank: number | null;
  method: string;
}

/** The layer that the table is about: the last one that repeats no other. */
export const lastLayer = () => data.report.glance.layer;

/** Methods with a map at the table's layer, without those that repeat another. */
export const methodsHere = () =>
  data
    .ownMethods(store.state.apart)
    .filter(({ key }) => layerFor(key, lastLayer()) === lastLayer());

/** The columns of maps: each class's methods side by side where they are few. */
function columns(): Column[] {
  const methods = methodsHere();
  const every = Array.from({ length: data.report.ranks }, (_, rank) => rank);
  const specific = methods.filter((method) => method.classSpecific);
  const ranks = every.length * specific.length <= MAX_MAPS ? every : [PREDICTED];
  const ofClasses = ranks.flatMap((rank) => specific.map(({ key }) => ({ rank, method: key })));
  const agnostic = methods.filter((method) => !method.classSpecific);
  return [...ofClasses, ...agnostic.map(({ key }) => ({ rank: null, method: key }))];
}

/** Methods whose maps are in the table. */
export const methodsShown = () =>
  columns()
    .slice(0, MAX_MAPS)
    .map(({ method }) => data.methodOf(method));

export function resultTable(images: ImageRecord[]) {
  const all = columns();
  const shown = all.slice(0, MAX_MAPS);
  const root = h(
    "table",
    { class: "result", role: "table" },
    h("caption", { class: "visually-hidden" }, t("summary.table", { layer: lastLayer() })),
    h("thead", {}, classHeads(shown), methodHeads(shown)),
    h("tbody", {}, ...images.map((image) => line(image, shown))),
  );
  root.style.setProperty("--maps", String(shown.length));
  enableRoving(root);
  return root;
}

/** Names of the classes above their methods. */
function classHeads(columns: Column[]) {
  const ranks = [...new Set(columns.map(({ rank }) => rank))];
  const count = (rank: number | null) => columns.filter((one) => one.rank === rank).length;
  const heads = ranks.map((rank) =>
    h(
      "th",
      { scope: "colgroup", colSpan: count(rank) },
      bdi(rank === null ? t("class.any") : rankName(rank)),
      " · ",
      bdi(layerName(lastLayer()).replace(" · ", " ")),
    ),
  );
  const both = (kind: string, words: string) =>
    h("th", { class: kind, scope: "col", rowSpan: 2 }, words);
  return h(
    "tr",
    {},
    both("image", t("axis.image")),
    both("image", t("predictions")),
    ...heads,
    agreed() && both("agreement", t("summary.agreement")),
  );
}

const methodHeads = (columns: Column[]) =>
  h(
    "tr",
    {},
    ...columns.map(({ method }) => h("th", { scope: "col" }, data.methodOf(method).name)),
  );

/** Whether there are two methods that can agree. */
const agreed = () => data.report.images.numbers.disagreement.some((value) => value !== null);

function line(image: ImageRecord, columns: Column[]) {
  const place = data.placeOf(image.index);
  const reasons = data.report.summary.first.find((one) => one.image === image.index)?.reasons ?? [];
  const picture = photoOf(image.index);
  picture.querySelector("img")?.setAttribute("alt", ""); // its name stands below
  const photo = h(
    "a",
    { class: "photo", ...leadToImage(image.index) },
    picture,
    bdi(data.report.images.file[place]),
  );
  const wrong = isRight(data.report.images, place) === false;
  const told = reasons.map((reason) => h("span", { class: "reason" }, said(reason)));
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, photo),
    h("td", { class: "predicted" }, predictions(place), wrong ? badge(place) : null, ...told),
    ...columns.map((column) => h("td", { class: "map" }, ...map(image, column))),
    agreed() && agreementOf(place),
  );
}

/** How far the methods' maps of an image's predicted class agree. */
function agreementOf(place: number) {
  const { disagreement, overlap } = data.report.images.numbers;
  const [distance, shared] = [disagreement[place], overlap[place]];
  return h(
    "td",
    { class: "agreement" },
    h("span", {}, "ρ ", h("strong", {}, distance === null ? "–" : signed(1 - distance))),
    h("span", {}, shared === null ? "" : t("summary.overlap", { share: percent(shared) })),
  );
}

const signed = (value: number) => value.toFixed(2).replace("-", "−");

/** A map, with the words of its heads for where these are not shown. */
function map(image: ImageRecord, { rank, method }: Column) {
  const own = rank === null ? 0 : data.rankIn(image.index, rank);
  if (own >= image.targets.length) return ["–"];
  const id: CellId = { image: image.index, rank: own, method, layer: lastLayer() };
  const of = rank === null ? "" : `${data.classOf(image, own)} · `;
  const tag = h("span", { class: "tag", "aria-hidden": "true" }, of, data.methodOf(method).name);
  const named =
    rank === PREDICTED && `${data.classOf(image, own)} ${probability(image.probabilities[own])}`;
  const cell = cellButton(id, { caption: false, place: "result" });
  return [tag, cell, named && h("span", { class: "hint" }, bdi(named))];
}
