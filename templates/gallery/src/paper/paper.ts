// The report on paper: a cover, each image's figure with its caption, methods and provenance.
import { camOf, classOf, knownImage, methodOf, ownMethods, placeOf, report } from "../data/dataset";
import { bdi, byId, h, linked } from "../parts/dom";
import { SIDES, availability } from "../maps/frames";
import { composite, peakOf } from "../maps/look";
import {
  badge,
  labels,
  layerList,
  leftOut,
  predictions,
  scaleWords,
  scores,
} from "../views/matrix";
import { failedList } from "../views/reading";
import { legend } from "../shell/shell";
import { state } from "../state/state";
import { layerDetails, listed, methodDetails, prose, sentences, t } from "../parts/words";
import type { ImageRecord } from "../data/types";

/** Most columns of a table: what a sheet of paper holds. */
const WIDEST = 7;

/** Views that are printed as they stand on the screen. */
const AS_SHOWN = ["tables", "compare", "channels"];

/** Views of a folder's report that are: it is too large to print as a whole. */
const OF_MANY = ["overview"];

export type Column = { rank: number | null; method: string };

/** Lay out the pages; called when printing begins, and not before. */
export function layOut() {
  const paper = byId("paper");
  const asShown = [...AS_SHOWN, ...(report.folder ? OF_MANY : [])].includes(state.view);
  document.body.classList.toggle("as-shown", asShown);
  if (asShown) return paper.replaceChildren();
  const indices = report.folder ? [state.image] : report.images.index;
  const images = indices.map(knownImage).filter((image) => image !== undefined);
  let figure = 0;
  paper.replaceChildren(
    cover(),
    ...images.map((image) => {
      const parts = blocks(image);
      return h(
        "section",
        { class: "sheet" },
        h("h2", {}, bdi(image.file)),
        ...parts.map((columns) =>
          h(
            "figure",
            {},
            mapsTable(image, columns),
            h(
              "figcaption",
              {},
              h("strong", {}, t("tables.figure", { number: ++figure })),
              " ",
              sentences(
                sheetCaption(image),
                parts.length > 1 ? columnWords(image, columns) : "",
                scaleWords(),
              ),
            ),
            legend(),
          ),
        ),
        ...labels(image),
      );
    }),
    appendix(),
  );
}

function cover() {
  const { title, lede, facts, warning, failed } = prose();
  return h(
    "section",
    { class: "cover" },
    h("h1", {}, title),
    h("p", { class: "lede" }, lede),
    warning ? h("p", { class: "notice alarm" }, t("warning", { text: warning })) : null,
    h(
      "dl",
      { class: "facts" },
      ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, bdi(value)))),
    ),
    failed.length ? failedOnPaper() : null,
    report.folder
      ? h("p", {}, t("paper.folder", { count: report.images.index.length.toLocaleString("en") }))
      : null,
    h(
      "ul",
      { class: "at-a-glance" },
      ...(report.folder ? [] : report.images.index).map((index, place) =>
        h(
          "li",
          {},
          h("img", { src: knownImage(index)?.photo ?? "", alt: "" }),
          h(
            "div",
            {},
            h("strong", {}, bdi(report.images.file[place])),
            badge(place),
            predictions(place),
          ),
        ),
      ),
    ),
  );
}

/** Inputs that could not be read. */
function failedOnPaper() {
  const { failed, inputs } = prose();
  const title = t("failed.title", { failed: failed.length, all: inputs });
  return h("div", { class: "notice" }, h("h2", {}, title), failedList());
}

/** Columns of an image's tables: all classes in one where they fit. */
function blocks(image: ImageRecord): Column[][] {
  const ofClass = ownMethods(state.apart).filter((method) => method.classSpecific);
  const ofNone = ownMethods(state.apart)
    .filter((method) => !method.classSpecific)
    .map((method) => ({ rank: null, method: method.key }));
  const groups = image.targets.map((_, rank) =>
    ofClass.map((method) => ({ rank, method: method.key })),
  );
  if (groups.flat().length + ofNone.length <= WIDEST) return [[...groups.flat(), ...ofNone]];
  const layered = (column: Column) => methodOf(column.method).perLayer;
  return [...groups, ofNone].flatMap((columns) => [
    ...cut(columns.filter(layered)),
    ...cut(columns.filter((column) => !layered(column))),
  ]);
}

function cut(columns: Column[]) {
  const parts = Math.ceil(columns.length / WIDEST);
  const length = Math.ceil(columns.length / parts);
  return Array.from({ length: parts }, (_, i) => columns.slice(i * length, (i + 1) * length));
}

function mapsTable(image: ImageRecord, columns: Column[]) {
  const layers = layerList().filter((layer) =>
    columns.some((column) => availability(column.method, layer) === "map"),
  );
  const ranks = [...new Set(columns.map((column) => column.rank))];
  const table = h(
    "table",
    { class: "matrix" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("td"),
        ...ranks.map((rank) =>
          h(
            "th",
            { scope: "colgroup", colSpan: columns.filter((column) => column.rank === rank).length },
            bdi(rank === null ? t("class.any") : classOf(image, rank)),
            rank !== null && h("span", {}, scores(image, rank)),
          ),
        ),
      ),
      h(
        "tr",
        {},
        h("td"),
        ...columns.map(({ method }) =>
          h(
            "th",
            { scope: "col" },
            methodOf(method).name,
            ...methodDetails(method).map((detail) => h("span", {}, detail)),
          ),
        ),
      ),
    ),
    h(
      "tbody",
      {},
      ...layers.map((layer) =>
        h(
          "tr",
          {},
          h(
            "th",
            { scope: "row" },
            h("code", {}, layer),
            ...layerDetails(layer).map((detail) => h("span", {}, detail)),
          ),
          ...columns.map((column) => h("td", {}, ...cell(image, column, layer))),
        ),
      ),
    ),
  );
  table.style.setProperty("--columns", String(columns.length));
  table.style.setProperty("--rows", String(layers.length));
  return table;
}

function cell(image: ImageRecord, column: Column, layer: string): (Node | string)[] {
  const there = availability(column.method, layer);
  if (there !== "map") return [there === "absent" ? "–" : t("matrix.notComputed")];
  const id = { image: image.index, rank: column.rank ?? 0, method: column.method, layer };
  const cam = camOf(image, id);
  if (cam?.picture) return [h("img", { src: cam.picture, alt: "" })];
  const words = cam?.state === "positive" ? peakOf(cam) : t(`cell.${cam?.state ?? "absent"}`);
  return [composite(image, id, SIDES.paper), h("span", { class: "peak" }, words)];
}

const sheetCaption = (image: ImageRecord) =>
  t("paper.caption", {
    image: image.file,
    width: report.images.size[placeOf(image.index)][0],
    height: report.images.size[placeOf(image.index)][1],
  });

/** Which class and methods a part of an image's figure shows. */
function columnWords(image: ImageRecord, columns: Column[]) {
  const [{ rank }] = columns;
  return t("paper.columns", {
    name: rank === null ? t("class.any") : t("class.named", { name: classOf(image, rank) }),
    methods: listed(columns.map((column) => methodOf(column.method).name)),
  });
}

function appendix() {
  return h(
    "section",
    { class: "appendix" },
    h("h2", {}, t("view.methods")),
    h(
      "div",
      { class: "methods" },
      ...Object.values(prose().methods).map((method) =>
        h(
          "section",
          {},
          h("h3", {}, method.name),
          h("p", {}, sentences(method.meaning, method.caution)),
          h("p", { class: "formula" }, method.formula),
          h("p", { class: "hint" }, ...linked(method.source)),
        ),
      ),
    ),
    ...[...prose().leftOut, ...leftOut()].map((reason) => h("p", { class: "note" }, reason)),
    h("h2", {}, t("view.provenance")),
    h(
      "dl",
      { class: "rows" },
      ...prose().provenance.map(([name, value]) =>
        h("div", {}, h("dt", {}, name), h("dd", {}, bdi(value))),
      ),
    ),
  );
}
