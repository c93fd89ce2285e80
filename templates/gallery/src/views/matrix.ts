// The heart: any two of layers, methods, classes and images on rows and columns, a third beside.
import { data, store } from "../app";
import type { CellId } from "../data/cells";
import { PREDICTED, TRUE } from "../data/dataset";
import { availability, layerFor } from "../maps/availability";
import { cellButton } from "../maps/cell";
import { labelNotes, leftOut, scores } from "../maps/describe";
import { SIDES } from "../maps/frames";
import { FIELD, MAX_IMAGES_ON_AXIS, focusOn, nameOf, ofOneImage, valuesOf } from "../parts/axes";
import { chooser, pager } from "../parts/chooser";
import { type Option, fold, select } from "../parts/controls";
import { bdi, h } from "../parts/dom";
import { MAX_IN_STRIP, strip, summary, topWords } from "../parts/image";
import { figureCaption } from "../parts/legend";
import { notes } from "../parts/notes";
import { enableRoving } from "../parts/roving";
import { layerDetails, methodDetails, sentences, t } from "../parts/words";
import { change, linkTo } from "../state/history";
import { chosenImages } from "../state/selection";
import { APPEARANCE, type Axis, FILTER, type State } from "../state/state";
import { truthPanel } from "./truth";
import { type View, rebuiltBy, viewRoot } from "./view";

/** Most columns of maps that are drawn large; with more, the table scrolls by itself. */
const MAX_LARGE = 10;

/** Most columns that a narrow screen holds, so that heads can stay while the page scrolls. */
const MAX_NARROW = 3;

const AXES: Axis[] = ["layer", "method", "class", "image"];

/** The axes' names in a sentence. */
const many = (axis: Axis) => t(`axis.${axis}.many`);

export async function matrixView(): Promise<View> {
  const { rows, columns, beside } = store.state;
  const ofImages = [rows, columns, beside].includes("image");
  const wanted = ofImages ? valuesOf("image").map(Number) : [store.state.image];
  const [image] = await Promise.all(wanted.map((index) => data.imageOf(index)));
  const about = ofImages ? null : await summary(store.state.image);
  const tables = panels();
  enableRoving(tables);
  const truth = image && !ofImages ? truthPanel(image) : null;
  const parts = truth
    ? data.pairOf(store.state.image)?.wrong
      ? [truth, tables]
      : [tables, truth]
    : [tables];
  const few = data.report.images.index.length <= MAX_IN_STRIP;
  const hint = sentences(t("matrix.hint"), scrolls() ? t("matrix.scrolls") : "");
  const root = viewRoot(
    "matrix",
    ...(few && !ofImages ? [strip()] : []),
    h("div", { class: "top" }, about, switches()),
    h("p", { class: "hint" }, hint),
    ...parts,
    ...(image && !ofImages ? notes(labelNotes(image)) : []),
    ...notes(leftOut()),
  );
  if (ofImages && chosenImages().length > MAX_IMAGES_ON_AXIS)
    root.append(pager(MAX_IMAGES_ON_AXIS));
  const choice = ["image", "rank", "method", "layer"] as const;
  const layout = ["rows", "columns", "beside", "page", "apart"] as const;
  const ofClasses = [rows, columns, beside].includes("class");
  return {
    root,
    update: rebuiltBy(...choice, ...layout, ...FILTER),
    uses: [...APPEARANCE, "numbers", ...(ofClasses ? [] : (["rank"] as const))],
  };
}

/** Axes, and a switch for each axis that is not shown. */
function switches() {
  const { rows, columns, beside } = store.state;
  const hidden = AXES.filter((axis) => ![rows, columns, beside].includes(axis));
  const names = AXES.map((axis): Option => [axis, many(axis)]);
  const others = names.filter(([axis]) => axis !== rows && axis !== columns && axis !== "image");
  const folded = fold(
    t("matrix.axes"),
    "axes",
    select<Axis>(t("matrix.rows"), "rows", names, () => store.state.rows, putOn("rows")),
    select<Axis>(
      t("matrix.columns"),
      "columns",
      names,
      () => store.state.columns,
      putOn("columns"),
    ),
    select<State["beside"]>(
      t("matrix.beside"),
      "beside",
      [["none", t("matrix.nothingBeside")], ...others],
      () => store.state.beside,
      (value) => change({ beside: value }, true),
    ),
    ...hidden.filter((axis) => axis !== "class").map(chooser),
  );
  return h("div", { role: "group", "aria-label": t("matrix.axes") }, folded);
}

/** Put an axis on rows or columns; one that lay there already changes places with it. */
const putOn = (side: "rows" | "columns") => (axis: Axis) => {
  const { state } = store;
  const other = side === "rows" ? "columns" : "rows";
  const changes: Partial<State> = { [side]: axis, page: 0 };
  if (state[other] === axis) changes[other] = state[side];
  if (state.beside === axis) changes.beside = "none";
  change(changes, true);
};

/** Whether a table is too wide for the page. */
const scrolls = () => valuesOf(store.state.columns).length > MAX_LARGE;

/** The tables, side by side where they are short. */
function panels() {
  const { beside, columns, image, rank, method, layer } = store.state;
  const chosen = { image, rank, method, layer };
  const count = valuesOf(columns).length;
  const root = h("div", { class: "panels" });
  root.style.setProperty("--columns", String(count));
  if (beside === "none") root.append(panel(null, chosen));
  else {
    const values = valuesOf(beside);
    if (values.length > 1 && count <= 3) root.classList.add("side-by-side");
    for (const value of values) {
      const fixed = { ...chosen, [FIELD[beside]]: value };
      root.append(panel(panelHead(beside, value, fixed), fixed));
    }
  }
  return root;
}

/** One table with its caption. */
function panel(head: HTMLElement | null, fixed: CellId) {
  const caption = captionOf(fixed);
  const scroller = h("div", { class: "scroller" }, mapTable(fixed, caption));
  scroller.classList.toggle("wide", scrolls());
  scroller.classList.toggle("fits", valuesOf(store.state.columns).length <= MAX_NARROW);
  return h("section", { class: "panel" }, head, scroller, figureCaption(caption));
}

function panelHead(axis: Axis, value: string | number, fixed: CellId) {
  const image = data.knownImage(fixed.image);
  const together = axis === "class" && image && ofOneImage();
  return h(
    "h3",
    {},
    h("a", { class: "head", ...linkTo(focusOn(axis, value)) }, bdi(nameOf(axis, value, fixed))),
    together ? h("span", {}, scores(image, Number(value))) : null,
  );
}

/** What a table shows. */
function captionOf(fixed: CellId) {
  const { rows, columns } = store.state;
  const axes: Axis[] = ["image", "class", "method", "layer"];
  const of = axes
    .filter((axis) => axis !== rows && axis !== columns)
    .map((axis) => {
      if (axis === "class" && fixed.rank === PREDICTED && !ofOneImage())
        return t("class.predicted");
      if (axis === "class" && fixed.rank === TRUE && !ofOneImage()) return t("class.labelled");
      const name = nameOf(axis, fixed[FIELD[axis]], fixed);
      return axis === "class" ? t("class.named", { name }) : name;
    });
  return t("matrix.caption", {
    what: of.join(t("comma")),
    rows: many(rows),
    columns: many(columns),
  });
}

/** A table of maps. */
function mapTable(fixed: CellId, caption: string) {
  const { rows, columns } = store.state;
  const idAt = (down: string | number, along: string | number): CellId => {
    const id = { ...fixed, [FIELD[rows]]: down, [FIELD[columns]]: along };
    const layer =
      rows === "layer" || columns === "layer" ? id.layer : layerFor(id.method, id.layer);
    return { ...id, layer, rank: data.rankIn(id.image, id.rank) };
  };
  const isThere = (id: CellId) => availability(id.method, id.layer) !== "absent";
  const [allDown, allAcross] = [valuesOf(rows), valuesOf(columns)];
  const down = allDown.filter((one) => allAcross.some((other) => isThere(idAt(one, other))));
  const across = allAcross.filter((other) => allDown.some((one) => isThere(idAt(one, other))));
  const side = across.length > MAX_LARGE ? SIDES.narrow : SIDES.cell;
  const heads = across.map((value) => head(columns, value, fixed, "col"));
  const lines = down.map((value) => {
    const cells = across.map((along) => mapCell(idAt(value, along), side));
    return h("tr", {}, head(rows, value, fixed, "row"), ...cells);
  });
  const table = h(
    "table",
    { class: "matrix" },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, h("td", { class: "corner" }), ...heads)),
    h("tbody", {}, ...lines),
  );
  table.style.setProperty("--columns", String(across.length));
  return table;
}

/** The head of a row or column, with a link that shows it across all images. */
function head(axis: Axis, value: string | number, fixed: CellId, scope: "row" | "col") {
  const name = nameOf(axis, value, fixed);
  const title = t(axis === "image" ? "matrix.focusImage" : "matrix.focus", { name });
  return h(
    "th",
    { scope },
    h(
      "a",
      { class: "head", ...linkTo(focusOn(axis, value)), title },
      axis === "layer" ? h("code", {}, name) : bdi(name),
    ),
    ...detailsOf(axis, value, fixed).map((detail) => h("span", {}, bdi(detail))),
  );
}

/** The lines below the name of a row or column. */
function detailsOf(axis: Axis, value: string | number, fixed: CellId) {
  if (axis === "layer") return layerDetails(String(value));
  if (axis === "image") return [topWords(Number(value))].filter(Boolean);
  if (axis === "class") {
    const image = data.knownImage(fixed.image);
    return image && ofOneImage() ? [scores(image, Number(value))] : [];
  }
  const { key, classSpecific } = data.methodOf(String(value));
  return [...methodDetails(key), ...(classSpecific ? [] : [t("matrix.anyClass")])];
}

function mapCell(id: CellId, side: number) {
  const there = availability(id.method, id.layer);
  if (there === "map") return h("td", {}, cellButton(id, { side }));
  if (there !== "absent") return h("td", { class: "nothing" }, t("matrix.notComputed"));
  const said = h("span", { class: "visually-hidden" }, t("cell.absent"));
  return h("td", { class: "nothing" }, h("span", { "aria-hidden": "true" }, "–"), said);
}
