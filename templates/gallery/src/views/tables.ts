// The figures that a coursework asks for, numbered, with captions that can be rewritten.
import {
  camOf,
  classOf,
  imageOf,
  knownImage,
  methodOf,
  ownMethods,
  placeOf,
  report,
} from "../data/dataset";
import { all, bdi, button, h, select } from "../parts/dom";
import { MAX_AHEAD, availability, cellButton, photoOf } from "../maps/frames";
import { enableGrid } from "../parts/roving";
import { chosenImages, pageOf } from "../state/selection";
import { layerList, pager, scaleWords } from "./matrix";
import { legend } from "../shell/shell";
import { change, state } from "../state/state";
import { listed, probability, t } from "../parts/words";
import type { ImageRecord, State } from "../data/types";

/** Most images on one page of the view, and most that are printed together. */
const [MAX_IMAGES, MAX_PRINTED] = [25, 20];

export type CourseTable = {
  key: string;
  caption: string;
  head: string[];
  rows: { name: Node | string; cells: (Node | string)[] }[];
};

/** Captions as rewritten, by figure; kept in the browser where it allows that. */
let rewritten: Record<string, string> = {};

/** Captions that were given up since the page was opened. */
let givenUp: Record<string, string> = {};

const storeName = () => `camreport ${report.id} captions`;

export function readCaptions() {
  try {
    rewritten = JSON.parse(localStorage.getItem(storeName()) ?? "{}");
  } catch {
    rewritten = {}; // a browser that keeps nothing for files
  }
}

function keepCaptions() {
  for (const reset of all('[data-focus="reset"]')) reset.textContent = resetWords();
  try {
    localStorage.setItem(storeName(), JSON.stringify(rewritten));
  } catch {
    // the captions stay as long as the page is open
  }
}

/** Whether captions that were given up can come back. */
const canReturn = () => !Object.keys(rewritten).length && Object.keys(givenUp).length > 0;

const resetWords = () => t(canReturn() ? "tables.undo" : "tables.reset");

/** Give up what was rewritten, or take it back. */
function resetCaptions() {
  [rewritten, givenUp] = canReturn() ? [givenUp, {}] : [{}, { ...givenUp, ...rewritten }];
  keepCaptions();
  document.dispatchEvent(new CustomEvent("rebuild"));
}

export async function tablesView(root: HTMLElement) {
  const chosen = chosenImages();
  const shown = pageOf(chosen, perPage());
  const needed = chosen.length <= MAX_PRINTED ? chosen : shown;
  await Promise.all(needed.map((index) => imageOf(index)));
  const options = ["all", "classes", "methods", "depth"].map((key) => [
    key,
    t(`tables.${key}`),
  ]) as [string, string][];
  root.append(
    h("h2", {}, t("view.tables")),
    h("p", { class: "hint screen-only" }, t("tables.hint", { most: MAX_PRINTED })),
    h(
      "div",
      { class: "switches" },
      select(t("tables.which"), "tables", options, state.tables, (value) =>
        change({ tables: value as State["tables"] }),
      ),
      button(t("print"), "print", () => window.print()),
      button(resetWords(), "reset", resetCaptions),
    ),
  );
  const list = h(
    "div",
    { class: "course" },
    ...courseTables(shown, placeOfPage()).map(([number, table]) => figure(number, table)),
  );
  enableGrid(list);
  const words = h("span", { class: "scale-words" }, scaleWords());
  root.append(h("div", { class: "key" }, legend(), h("p", { class: "figcaption" }, words)), list);
  if (chosen.length > perPage()) root.append(pager(perPage()));
}

/** Lay all chosen images' pages out, as far as they are printed together. */
export function layOutTables(root: HTMLElement) {
  const [chosen, length] = [chosenImages(), perPage()];
  if (chosen.length <= length || chosen.length > MAX_PRINTED) return;
  const pages = Array.from({ length: Math.ceil(chosen.length / length) }, (_, page) =>
    courseTables(chosen.slice(page * length, (page + 1) * length), page),
  );
  root
    .querySelector(".course")
    ?.replaceChildren(...pages.flat().map(([number, table]) => figure(number, table)));
}

/** Images whose figures stand on one page: as many as can be drawn ahead. */
function perPage() {
  const own = ownMethods(state.apart).filter((method) => method.classSpecific);
  const layers = own.flatMap((method) => layersOf(method.key));
  const rows =
    (wanted("classes") ? layers.length : 0) +
    (wanted("methods") ? 1 : 0) +
    (wanted("depth") ? own.length : 0);
  const fit = Math.floor(MAX_AHEAD / (rows * (1 + report.ranks)));
  return Math.min(Math.max(fit, 1), MAX_IMAGES);
}

const wanted = (kind: string) => state.tables === "all" || state.tables === kind;

/** Layers where a method has maps. */
const layersOf = (method: string) =>
  layerList().filter((layer) => availability(method, layer) === "map");

/** The chosen tables with their figure numbers, which go on from page to page. */
function courseTables(shown: number[], page: number): [number, CourseTable][] {
  const known = shown.map((index) => knownImage(index)).filter((image) => image !== undefined);
  const ofImages = wanted("classes") ? known.flatMap(classTables) : [];
  const ofPage = [
    ...(wanted("methods") ? methodTable(known) : []),
    ...(wanted("depth") ? depthTables(known) : []),
  ];
  const ofEach = known.length ? ofImages.length / known.length : 0;
  const before = page * (perPage() * ofEach + ofPage.length);
  return [...ofImages, ...ofPage].map((table, place) => [before + place + 1, table]);
}

/** Number of the present page, from 0. */
const placeOfPage = () =>
  Math.min(state.page, Math.max(0, Math.ceil(chosenImages().length / perPage()) - 1));

/** Original and each class, layer by layer: a table for each method. */
function classTables(image: ImageRecord): CourseTable[] {
  return ownMethods(state.apart)
    .filter((method) => method.classSpecific)
    .map((method) => ({ method, layers: layersOf(method.key) }))
    .map(({ method, layers }) => ({
      key: `classes.${image.index}.${method.key}`,
      caption: t(layers.length > 1 ? "tables.classes.caption" : "tables.classes.one", {
        image: image.file,
        method: method.name,
        classes: listed(image.targets.map((_, rank) => classOf(image, rank))),
        layer: layers[0],
      }),
      head: [
        t("tables.layer"),
        t("original"),
        ...image.targets.map((_, rank) =>
          t("tables.classHead", {
            name: classOf(image, rank),
            probability: probability(image.probabilities[rank]),
          }),
        ),
      ],
      rows: layers.map((layer) => ({
        name: h("code", {}, layer),
        cells: [
          photoOf(image.index),
          ...image.targets.map((_, rank) => map(image, rank, method.key, layer)),
        ],
      })),
    }));
}

/** Original, Grad-CAM, LayerCAM for the predicted class at the last layer, image by image. */
function methodTable(images: ImageRecord[]): CourseTable[] {
  const layer = report.layers[report.layers.length - 1].address;
  const own = ownMethods(state.apart);
  const usual = own.filter((method) => ["grad_cam", "layer_cam"].includes(method.key));
  const methods = usual.length
    ? usual
    : own.filter((method) => availability(method.key, layer) === "map").slice(0, 2);
  if (!methods.length || !images.length) return [];
  return [
    {
      key: `methods.${images[0].index}`,
      caption: t("tables.methods.caption", {
        methods: listed(methods.map((method) => method.name)),
        layer,
      }),
      head: [t("tables.image"), t("original"), ...methods.map((method) => method.name)],
      rows: images.map((image) => ({
        name: nameAndClass(image),
        cells: [
          photoOf(image.index),
          ...methods.map((method) => map(image, predicted(image), method.key, layer)),
        ],
      })),
    },
  ];
}

/** The last layer before a pooling against that pooling, for the predicted class. */
function depthTables(images: ImageRecord[]): CourseTable[] {
  const pool = report.layers.map((layer) => /pool/i.test(layer.type)).lastIndexOf(true);
  const before = report.layers
    .slice(0, Math.max(pool, 0))
    .map((layer) => /pool/i.test(layer.type))
    .lastIndexOf(false);
  if (pool < 0 || before < 0 || !images.length) return [];
  const { address: conv, type } = report.layers[before];
  const pooled = report.layers[pool].address;
  return ownMethods(state.apart)
    .filter(
      (method) =>
        method.classSpecific &&
        availability(method.key, conv) === "map" &&
        availability(method.key, pooled) === "map",
    )
    .map((method) => ({
      key: `depth.${images[0].index}.${method.key}`,
      caption: t("tables.depth.caption", { method: method.name, layer: conv, type, pool: pooled }),
      head: [
        t("tables.image"),
        t("original"),
        t("tables.before", { layer: conv, type }),
        t("tables.pool", { layer: pooled }),
      ],
      rows: images.map((image) => ({
        name: nameAndClass(image),
        cells: [
          photoOf(image.index),
          map(image, predicted(image), method.key, conv),
          map(image, predicted(image), method.key, pooled),
        ],
      })),
    }));
}

/** Place of the most probable class among the explained ones. */
function predicted(image: ImageRecord) {
  const top = report.images.top[placeOf(image.index)][0]?.[0];
  return Math.max(0, image.targets.indexOf(top));
}

function nameAndClass(image: ImageRecord) {
  const rank = predicted(image);
  return h(
    "span",
    {},
    bdi(image.file),
    h(
      "span",
      { class: "hint" },
      bdi(`${classOf(image, rank)} ${probability(image.probabilities[rank])}`),
    ),
  );
}

const map = (image: ImageRecord, rank: number, method: string, layer: string) =>
  camOf(image, {
    image: image.index,
    rank: methodOf(method).classSpecific ? rank : 0,
    method,
    layer,
  })
    ? cellButton({ image: image.index, rank, method, layer })
    : "–";

function figure(number: number, table: CourseTable) {
  const caption = h("p", {
    class: "caption",
    contenteditable: "plaintext-only",
    role: "textbox",
    "aria-label": t("tables.caption", { number }),
    "data-focus": `caption ${table.key}`,
    oninput: () => {
      rewritten[table.key] = caption.textContent ?? "";
      keepCaptions();
    },
    onblur: () => {
      if (caption.textContent?.trim()) return;
      delete rewritten[table.key];
      keepCaptions();
      caption.textContent = table.caption;
    },
  });
  if (!caption.isContentEditable) caption.contentEditable = "true"; // a browser that is older
  caption.textContent = rewritten[table.key] ?? table.caption;
  const matrix = h(
    "table",
    { class: "matrix plain" },
    h("caption", { class: "visually-hidden" }, t("tables.figure", { number })),
    h("thead", {}, h("tr", {}, ...table.head.map((text) => h("th", { scope: "col" }, bdi(text))))),
    h(
      "tbody",
      {},
      ...table.rows.map((row) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, row.name),
          ...row.cells.map((cell) => h("td", {}, cell)),
        ),
      ),
    ),
  );
  matrix.style.setProperty("--columns", String(table.head.length - 1));
  matrix.style.setProperty("--rows", String(table.rows.length));
  return h(
    "figure",
    { class: "course-table" },
    h("div", { class: "scroller" }, matrix),
    h("figcaption", {}, h("strong", {}, t("tables.figure", { number })), " ", caption),
  );
}
