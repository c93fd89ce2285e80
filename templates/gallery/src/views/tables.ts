// The figures that a coursework asks for, numbered, with captions that can be rewritten.
import { data, report, state } from "../app";
import { idOf } from "../data/cells";
import { layersOf } from "../maps/availability";
import { MAX_AHEAD } from "../maps/frames";
import { pager } from "../parts/chooser";
import { type Option, button, select } from "../parts/controls";
import { bdi, h } from "../parts/dom";
import { figureCaption } from "../parts/legend";
import { enableRoving } from "../parts/roving";
import { t } from "../parts/words";
import { isRight } from "../query/match";
import { change } from "../state/history";
import { chosenImages, pageAmong, pageOf } from "../state/selection";
import { APPEARANCE, FILTER, type State } from "../state/state";
import { captionOf, resetButton } from "./captions";
import { type CourseTable, classTables, depthTables, lastPooling, methodTable } from "./course";
import { type View, rebuiltBy, viewRoot } from "./view";

/** Most images on one page of the view. */
const MAX_IMAGES = 10;

/** Most images that are printed together. */
const MAX_PRINTED = 20;

/** Most rows of a table that fit on one page of paper. */
const MAX_UNBROKEN = 6;

/** How many images a reader may have figures of, beside all. */
const FIRST = ["1", "3", "10", "25"] as const;

type Kind = State["tables"];

/** The chosen tables with their figure numbers. */
type Numbered = [number: number, table: CourseTable][];

export async function tablesView(): Promise<View> {
  const chosen = figureImages();
  const shown = pageOf(chosen, perPage());
  const needed = chosen.length <= MAX_PRINTED ? chosen : shown;
  await Promise.all(needed.map((index) => data.imageOf(index)));
  const list = figureList(shown, pageAmong(chosen.length, perPage()));
  const root = viewRoot(
    "tables",
    h("h2.visually-hidden", t("view.tables")),
    h(
      ".switches.screen-only",
      choice(),
      imageChoice(),
      h("span.steps", button(t("print"), "print", print), resetButton()),
    ),
    figureCaption(),
    list,
    ...(chosen.length > perPage() ? [pager(perPage(), chosen.length)] : []),
    h("p.hint.screen-only", t("tables.hint", { most: MAX_PRINTED })),
  );
  const rebuilt = rebuiltBy("tables", "figuresOf", "page", "apart", "pins", ...FILTER);
  const showNumbers = () => list.classList.toggle("numbered", state.numbers);
  showNumbers();
  return {
    root,
    uses: [...APPEARANCE, "numbers"],
    update(changed) {
      showNumbers();
      return rebuilt(changed);
    },
  };
}

/** Images that the figures are of. */
function figureImages() {
  const { figuresOf, pins } = state;
  const chosen = chosenImages();
  if (figuresOf === "wrong") return chosen.filter(isWrong);
  if (figuresOf === "pinned")
    return [...new Set(pins.map((pin) => idOf(pin).image))].filter((index) => data.has(index));
  return figuresOf === "query" ? chosen : chosen.slice(0, Number(figuresOf));
}

const isWrong = (index: number) => isRight(report.images, data.placeOf(index)) === false;

/** Which images the figures are of: all that the query finds, or some of them. */
function imageChoice() {
  const chosen = chosenImages();
  const wrong = chosen.filter(isWrong).length;
  const { figuresOf, pins } = state;
  const first = FIRST.filter((few) => Number(few) < chosen.length || few === figuresOf);
  const options: Option[] = [
    ["query", t(state.query ? "tables.of.query" : "tables.of.all", { count: chosen.length })],
    ...first.map((few): Option => [few, t("tables.of.first", { count: few })]),
  ];
  if (wrong || figuresOf === "wrong")
    options.push(["wrong", t("tables.of.wrong", { count: wrong })]);
  if (pins.length || figuresOf === "pinned") options.push(["pinned", t("tables.of.pinned")]);
  return select<State["figuresOf"]>(
    t("tables.of"),
    "figuresOf",
    options,
    () => state.figuresOf,
    (of) => change({ figuresOf: of, page: 0 }),
  );
}

const print = () => window.print();

const choice = () =>
  select<Kind>(
    t("tables.which"),
    "tables",
    ["all", "classes", "methods", "depth"].map((key): Option => [key, t(`tables.${key}`)]),
    () => state.tables,
    (tables) => change({ tables, page: 0 }),
  );

function figureList(images: number[], page: number) {
  const list = h(".course", ...courseTables(images, page).map(figure));
  enableRoving(list);
  return list;
}

/** Lay all chosen images' pages out, as far as they are printed together. */
export function layOutTables(root: HTMLElement) {
  const [chosen, length] = [figureImages(), perPage()];
  if (chosen.length <= length || chosen.length > MAX_PRINTED) return;
  const pages = Array.from({ length: Math.ceil(chosen.length / length) }, (_, page) =>
    courseTables(chosen.slice(page * length, (page + 1) * length), page),
  );
  root.querySelector(".course")?.replaceChildren(...pages.flat().map(figure));
}

/** Images whose figures stand on one page: as many as can be drawn ahead. */
function perPage() {
  const own = data.ownMethods(state.apart).filter((method) => method.classSpecific);
  const maps = own.map((method) => 1 + layersOf(method.key).length * report.ranks);
  const frames =
    (wanted("classes") ? maps.reduce((sum, count) => sum + count, 0) : 0) +
    (wanted("methods") ? 3 : 0) +
    (wanted("depth") && lastPooling() ? 3 * own.length : 0);
  return Math.min(Math.max(Math.floor(MAX_AHEAD / Math.max(frames, 1)), 1), MAX_IMAGES);
}

const wanted = (kind: Kind) => state.tables === "all" || state.tables === kind;

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

function figure([number, { key, caption, head, original, rows }]: Numbered[number]) {
  const name = t("tables.figure", { number });
  const heads = head.map((text, place) =>
    h("th", { scope: "col", class: place ? null : "label" }, bdi(text)),
  );
  const lines = rows.map((row) => {
    const cells = row.cells.map((cell) => h("td", cell));
    return h("tr", h("th", { scope: "row" }, row.name), ...cells);
  });
  if (original) {
    heads.unshift(h("th", { scope: "col" }, t("original")));
    lines[0]?.prepend(h("td.original", { rowSpan: rows.length }, original));
  }
  const matrix = h(
    "table.matrix.plain",
    h("caption.visually-hidden", name),
    h("thead", h("tr", ...heads)),
    h("tbody", ...lines),
  );
  matrix.style.setProperty("--columns", String(heads.length - 1));
  matrix.style.setProperty("--rows", String(rows.length));
  return h(
    "figure",
    { class: rows.length > MAX_UNBROKEN ? "course-table long" : "course-table" },
    h(".scroller", matrix),
    h("figcaption", h("strong", name), " ", captionOf(key, caption, number)),
  );
}
