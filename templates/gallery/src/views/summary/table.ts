// A few images, what was predicted for them, and their maps at one layer: the result of a report.
import { data, report, state } from "../../app";
import { type CellId } from "../../data/cells";
import { PREDICTED } from "../../data/dataset";
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
export const lastLayer = () => report.glance.layer;

/** Methods with a map at the table's layer, without those that repeat another. */
export const methodsHere = () =>
  data.ownMethods(state.apart).filter(({ key }) => layerFor(key, lastLayer()) === lastLayer());

/** The columns of maps: each class's methods side by side where they are few. */
function columns(): Column[] {
  const methods = methodsHere();
  const every = Array.from({ length: report.ranks }, (_, rank) => rank);
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

/** The table of all images; where an image's file is missing, its maps say so. */
export function resultTable() {
  const all = columns();
  const shown = all.slice(0, MAX_MAPS);
  const root = h(
    "table.result",
    { role: "table" },
    h("caption.visually-hidden", t("summary.table", { layer: lastLayer() })),
    h("thead", classHeads(shown), methodHeads(shown)),
    h("tbody", ...report.images.index.map((index) => line(index, shown))),
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
    both("image", t("axis.image")),
    both("image", t("predictions")),
    ...heads,
    agreed() && both("agreement", t("summary.agreement")),
  );
}

const methodHeads = (columns: Column[]) =>
  h("tr", ...columns.map(({ method }) => h("th", { scope: "col" }, data.methodOf(method).name)));

/** Whether there are two methods that can agree. */
const agreed = () => report.images.numbers.disagreement.some((value) => value !== null);

function line(index: number, columns: Column[]) {
  const place = data.placeOf(index);
  const reasons = report.summary.first.find((one) => one.image === index)?.reasons ?? [];
  const picture = photoOf(index);
  picture.querySelector("img")?.setAttribute("alt", ""); // its name stands below
  const photo = h("a.photo", { ...leadToImage(index) }, picture, bdi(report.images.file[place]));
  const wrong = isRight(report.images, place) === false;
  const told = reasons.map((reason) => h("span.reason", said(reason)));
  return h(
    "tr",
    h("th", { scope: "row" }, photo),
    h("td.predicted", predictions(place), wrong ? badge(place) : null, ...told),
    ...columns.map((column) => h("td.map", ...map(index, column))),
    agreed() && agreementOf(place),
  );
}

/** How far the methods' maps of an image's predicted class agree. */
function agreementOf(place: number) {
  const { disagreement, overlap } = report.images.numbers;
  const [distance, shared] = [disagreement[place], overlap[place]];
  return h(
    "td.agreement",
    h("span", "ρ ", h("strong", distance === null ? "–" : signed(1 - distance))),
    h("span", shared === null ? "" : t("summary.overlap", { share: percent(shared) })),
  );
}

const signed = (value: number) => value.toFixed(2).replace("-", "−");

/** A map, with the words of its heads for where these are not shown. */
function map(index: number, { rank, method }: Column) {
  const image = data.knownImage(index) ?? null;
  const own = rank === null ? 0 : data.rankIn(index, rank);
  if (image && own >= image.targets.length) return ["–"];
  const id: CellId = { image: index, run: state.run, rank: own, method, layer: lastLayer() };
  const of = rank === null || !image ? "" : `${data.classOf(image, own)} · `;
  const tag = h("span.tag", { "aria-hidden": "true" }, of, data.methodOf(method).name);
  const named =
    image &&
    rank === PREDICTED &&
    `${data.classOf(image, own)} ${probability(image.probabilities[own])}`;
  const cell = cellButton(id, { caption: false, place: "result" });
  return [tag, cell, named && h("span.hint", bdi(named))];
}
