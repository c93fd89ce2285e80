// The figures that a coursework asks for, numbered, with captions that can be rewritten.
import { data, store } from "../app";
import { layersOf } from "../maps/availability";
import { MAX_AHEAD } from "../maps/frames";
import { pager } from "../parts/chooser";
import { type Option, button, select } from "../parts/controls";
import { bdi, h } from "../parts/dom";
import { figureCaption } from "../parts/legend";
import { enableRoving } from "../parts/roving";
import { t } from "../parts/words";
import { change } from "../state/history";
import { chosenImages, pageAmong, pageOf } from "../state/selection";
import { APPEARANCE, FILTER, type State } from "../state/state";
import { captionOf, resetButton } from "./captions";
import { type CourseTable, classTables, depthTables, methodTable } from "./course";
import { type View, rebuiltBy, viewRoot } from "./view";

/** Most images on one page of the view. */
const MAX_IMAGES = 25;

/** Most images that are printed together. */
const MAX_PRINTED = 20;

type Kind = State["tables"];

/** The chosen tables with their figure numbers. */
type Numbered = [number: number, table: CourseTable][];

export async function tablesView(): Promise<View> {
  const chosen = chosenImages();
  const shown = pageOf(chosen, perPage());
  const needed = chosen.length <= MAX_PRINTED ? chosen : shown;
  await Promise.all(needed.map((index) => data.imageOf(index)));
  const list = figureList(shown);
  const root = viewRoot(
    "tables",
    h("h2", {}, t("view.tables")),
    h("p", { class: "hint screen-only" }, t("tables.hint", { most: MAX_PRINTED })),
    h("div", { class: "switches" }, choice(), button(t("print"), "print", print), resetButton()),
    figureCaption(),
    list,
  );
  if (chosen.length > perPage()) root.append(pager(perPage()));
  return { root, update: rebuiltBy("tables", "page", "apart", ...FILTER), uses: APPEARANCE };
}

const print = () => window.print();

const choice = () =>
  select<Kind>(
    t("tables.which"),
    "tables",
    ["all", "classes", "methods", "depth"].map((key): Option => [key, t(`tables.${key}`)]),
    () => store.state.tables,
    (tables) => change({ tables }),
  );

function figureList(images: number[]) {
  const page = pageAmong(chosenImages().length, perPage());
  const list = h("div", { class: "course" }, ...courseTables(images, page).map(figure));
  enableRoving(list);
  return list;
}

/** Lay all chosen images' pages out, as far as they are printed together. */
export function layOutTables(root: HTMLElement) {
  const [chosen, length] = [chosenImages(), perPage()];
  if (chosen.length <= length || chosen.length > MAX_PRINTED) return;
  const pages = Array.from({ length: Math.ceil(chosen.length / length) }, (_, page) =>
    courseTables(chosen.slice(page * length, (page + 1) * length), page),
  );
  root.querySelector(".course")?.replaceChildren(...pages.flat().map(figure));
}

/** Images whose figures stand on one page: as many as can be drawn ahead. */
function perPage() {
  const own = data.ownMethods(store.state.apart).filter((method) => method.classSpecific);
  const layers = own.flatMap((method) => layersOf(method.key));
  const rows =
    (wanted("classes") ? layers.length : 0) +
    (wanted("methods") ? 1 : 0) +
    (wanted("depth") ? own.length : 0);
  const fit = Math.floor(MAX_AHEAD / (rows * (1 + data.report.ranks)));
  return Math.min(Math.max(fit, 1), MAX_IMAGES);
}

const wanted = (kind: Kind) => store.state.tables === "all" || store.state.tables === kind;

/** The chosen tables of a page; their numbers go on from page to page. */
function courseTables(shown: number[], page: number): Numbered {
  const known = shown.map((index) => data.knownImage(index)).filter((image) => image !== undefined);
  const ofImages = wanted("classes") ? known.flatMap(classTables) : [];
  const ofPage = [
    ...(wanted("methods") ? methodTable(known) : []),
    ...(wanted("depth") ? depthTables(known) : []),
  ];
  const ofEach = known.length ? ofImages.length / known.length : 0;
  const before = page * (perPage() * ofEach + ofPage.length);
  return [...ofImages, ...ofPage].map((table, place) => [before + place + 1, table]);
}

function figure([number, { key, caption, head, rows }]: Numbered[number]) {
  const name = t("tables.figure", { number });
  const heads = head.map((text) => h("th", { scope: "col" }, bdi(text)));
  const lines = rows.map((row) => {
    const cells = row.cells.map((cell) => h("td", {}, cell));
    return h("tr", {}, h("th", { scope: "row" }, row.name), ...cells);
  });
  const matrix = h(
    "table",
    { class: "matrix plain" },
    h("caption", { class: "visually-hidden" }, name),
    h("thead", {}, h("tr", {}, ...heads)),
    h("tbody", {}, ...lines),
  );
  matrix.style.setProperty("--columns", String(head.length - 1));
  matrix.style.setProperty("--rows", String(rows.length));
  return h(
    "figure",
    { class: "course-table" },
    h("div", { class: "scroller" }, matrix),
    h("figcaption", {}, h("strong", {}, name), " ", captionOf(key, caption, number)),
  );
}
