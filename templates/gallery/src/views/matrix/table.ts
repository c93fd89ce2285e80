// A table of maps: heads that stay while the page scrolls, a cell for every place.
import { data, report, state } from "../../app";
import { cellButton } from "../../maps/cell";
import { scores } from "../../maps/describe";
import { SIDES } from "../../maps/frames";
import { focusOn, nameOf, ofOneImage } from "../../parts/axes";
import { type Child, bdi, h } from "../../parts/dom";
import { topWords } from "../../parts/image";
import { layerName, layerTwins, methodDetails, prose, t } from "../../parts/words";
import { linkTo } from "../../state/history";
import type { Axis } from "../../state/state";
import { agreement, familyOf } from "./methods";
import { type Group, type Plan, type Slot, type Value, isOnTable } from "./plan";

/** Most columns in which maps are drawn at their full size. */
const MAX_LARGE = 8;

/** Least width of a column, in CSS pixels. */
const MIN_COLUMN = 96;

/** Width of the heads of rows beside narrow columns, in CSS pixels. */
const HEAD = 136;

export function mapTable(plan: Plan, caption: string) {
  const { columns, groups } = plan;
  const table = h(
    "table.matrix",
    { role: "table" },
    h("caption", caption),
    head(plan),
    ...groups.map((group, place) => body(plan, group, place === 0)),
  );
  table.style.setProperty("--columns", String(columns.length));
  return table;
}

/**
 * Where the columns do not fit, let the cells of a row run over several lines.
 * @param least width of a column, in CSS pixels
 */
export function fitTo(panel: HTMLElement, table: HTMLTableElement, least = MIN_COLUMN) {
  const columns = Number(table.style.getPropertyValue("--columns"));
  const fit = () =>
    table.classList.toggle("lines", panel.clientWidth < HEAD + columns * least && columns > 1);
  new ResizeObserver(fit).observe(panel);
}

const row = (kind: string, ...children: Child[]) =>
  h("tr", { class: kind, role: "row" }, ...children);

function head({ columns, groups }: Plan) {
  const axis = state.columns;
  const { fixed } = groups[0];
  const corner = h("td.corner", { role: "cell" });
  const heads = columns.map((value) => headOf(axis, value, fixed, "col"));
  return h(
    "thead",
    { role: "rowgroup" },
    axis === "method" ? families(columns) : null,
    row("heads", corner, ...heads),
  );
}

/** Above columns of methods what they are made from; null where that is not shown. */
function families(columns: Value[]) {
  const names = columns.map((key) => familyOf(String(key)));
  if (!names[0]) return null;
  const starts = names.flatMap((name, place) => (name === names[place - 1] ? [] : [place]));
  const spans = starts.map((from, i) => (starts[i + 1] ?? names.length) - from);
  const heads = starts.map((from, i) =>
    h(
      "th",
      { scope: "colgroup", role: "columnheader", colSpan: spans[i] },
      t(`family.${names[from]}`),
    ),
  );
  return row("family", h("td", { role: "cell" }), ...heads);
}

/** The rows of one group under its head. */
function body(plan: Plan, group: Group, first: boolean) {
  const { rows, beside } = state;
  const width = plan.columns.length + 1;
  const lines: HTMLElement[] = [];
  if (beside !== "none" && group.value !== null)
    lines.push(
      row(
        first ? "row-group first" : "row-group",
        headOf(beside, group.value, group.fixed, "rowgroup", width),
      ),
    );
  let family = "";
  group.rows.forEach(({ value, slots }, place) => {
    const own = rows === "method" ? familyOf(String(value)) : "";
    if (own !== family) lines.push(row("family", spanning("th", t(`family.${own}`), width)));
    family = own;
    const cells = slots.flatMap((slot, i) => cellsOf(slot, { plan, group, row: place, column: i }));
    lines.push(row("maps", headOf(rows, value, group.fixed, "row"), ...cells));
    const said = rows === "method" && first ? reasonsOf(slots) : [];
    if (said.length) lines.push(row("reasons", spanning("td", said.join(t("space")), width)));
  });
  return h("tbody", { role: "rowgroup" }, ...lines);
}

const spanning = (tag: "th" | "td", text: string, width: number) =>
  h(
    tag,
    {
      colSpan: width,
      ...(tag === "th" ? { scope: "rowgroup", role: "rowheader" } : { role: "cell" }),
    },
    text,
  );

/** Why maps of a row were left out, each reason once. */
const reasonsOf = (slots: Slot[]) => [
  ...new Set(
    slots.flatMap((slot) =>
      slot.kind === "none" && slot.reason !== t("cell.notFused") ? [slot.reason] : [],
    ),
  ),
];

/** Where a slot lies. */
interface Place {
  plan: Plan;
  group: Group;
  row: number;
  column: number;
}

/** The cell for a slot; none where a map of the whole network spans its place. */
function cellsOf(slot: Slot, place: Place) {
  const { columns } = place.plan;
  const at = nameOf(state.columns, columns[place.column], place.group.fixed);
  const properties = { role: "cell", "data-at": at };
  const side = columns.length > MAX_LARGE ? SIDES.narrow : SIDES.cell;
  if (slot.kind === "none")
    return [h("td", { ...properties, class: "nothing", title: slot.reason }, h("span", slot.word))];
  const cell = cellButton(slot.id, { side, caption: false });
  if (slot.kind === "map") return [h("td", properties, cell)];
  const across = state.columns === "layer";
  const down = state.rows === "layer";
  if ((across && place.column) || (down && place.row)) return [];
  const span = across
    ? { colSpan: columns.length }
    : { rowSpan: down ? place.group.rows.length : 1 };
  const note = across || down ? h("span.hint", t("cell.wholeNetwork")) : null;
  return [h("td", { role: "cell", class: "whole", ...span }, cell, note)];
}

type Scope = "row" | "col" | "rowgroup";

/** The head of a row, a column or a group, with a link that shows it across all images. */
function headOf(axis: Axis, value: Value, fixed: Group["fixed"], scope: Scope, colSpan = 1) {
  const name = nameOf(axis, value, fixed);
  if (axis === "method" && data.methodOf(String(value)).family === "control")
    return h(
      "th.control-head",
      { scope, role: scope === "col" ? "columnheader" : "rowheader", colSpan },
      bdi(name),
    );
  const focus = t(axis === "image" ? "matrix.focusImage" : "matrix.focus", { name });
  const facts = axis === "layer" ? (prose().layers[String(value)] ?? []) : [];
  return h(
    "th",
    { scope, role: scope === "col" ? "columnheader" : "rowheader", colSpan },
    h(
      "a.head",
      {
        ...linkTo(focusOn(axis, value)),
        title: [focus, ...facts].join("\n"),
        tabindex: "-1",
        "data-focus": `head ${axis} ${value}`,
      },
      ...(axis === "layer" ? layerWords(name) : [bdi(name)]),
    ),
    ...detailsOf(axis, value, fixed),
  );
}

/** A layer's name; its grid stays in one line. */
function layerWords(name: string) {
  const [grid, ...words] = name.split(" · ").reverse();
  const unbroken = h("bdi.unbroken", grid);
  return words.length ? [bdi(words.reverse().join(" · ")), " · ", unbroken] : [bdi(name)];
}

/** The lines below the name of a row or column. */
function detailsOf(axis: Axis, value: Value, fixed: Group["fixed"]) {
  const line = (text: string) => h("span", bdi(text));
  if (axis === "layer") {
    const address =
      layerName(String(value)) !== value && report.layers.some((one) => one.address === value);
    const own = address ? [h("span", h("code", value))] : [];
    return [...own, ...[...layerTwins(String(value)), ...otherNames(String(value))].map(line)];
  }
  if (axis === "image") return [topWords(Number(value))].filter(Boolean).map(line);
  if (axis === "run") return runLines(Number(value)).map(line);
  if (axis === "class") {
    const image = data.knownImage(fixed.image);
    return image && ofOneImage() && !isOnTable("run") ? [line(scores(image, Number(value)))] : [];
  }
  const { key, classSpecific } = data.methodOf(String(value));
  const shared = classSpecific ? [] : [t("matrix.anyClass")];
  return [...methodDetails(key), ...shared, ...agreementWords(key)].map(line);
}

/** A run's model, and what it predicts for the image; of a difference how it is drawn. */
function runLines(run: number) {
  if (run < 0) return [t("runs.scale.short")];
  const { model } = data.runs[run];
  return ofOneImage() ? [model, topWords(state.image, run)].filter(Boolean) : [model];
}

/** What the runs behind the first one call a layer, as far as it is another one there. */
const otherNames = (layer: string) =>
  data.runs.flatMap(({ name, grids }) =>
    layer in grids && grids[layer] !== layerName(layer) ? [`${name}: ${grids[layer]}`] : [],
  );

/** How far a method agrees with the selected one, where they are sorted by it. */
function agreementWords(key: string) {
  const image = data.knownImage(state.image);
  if (state.methodOrder === "family" || !image) return [];
  const value = agreement(image).get(key);
  return value === undefined ? [] : [`ρ ${value.toFixed(2).replace("-", "−")}`];
}

/** What has to be equal for one table's cells to take another's content. */
const shapeOf = (table: HTMLTableElement) =>
  [...table.rows].map((line) =>
    [...line.cells].map((cell) => [cell.tagName, cell.colSpan, cell.rowSpan].join()),
  );

/** Give a table the content of another; false where the two are not built alike. */
export function takeOver(old: HTMLTableElement, next: HTMLTableElement) {
  if (JSON.stringify(shapeOf(old)) !== JSON.stringify(shapeOf(next))) return false;
  [...old.rows].forEach((line, i) =>
    [...line.cells].forEach((cell, k) => takeContent(cell, next.rows[i].cells[k])),
  );
  old.caption?.replaceWith(next.caption ?? "");
  return true;
}

const idIn = (cell: HTMLElement) => cell.querySelector<HTMLElement>(".cell")?.dataset.id;

/** Give a cell the content of another, unless it shows that map already; the focus stays. */
function takeContent(cell: HTMLTableCellElement, next: HTMLTableCellElement) {
  if (idIn(cell) === idIn(next) && (idIn(cell) || cell.isEqualNode(next))) return;
  const [before, after] = [cell, next].map((one) => one.querySelector<HTMLElement>(".cell, a"));
  const focused = before !== null && before === document.activeElement;
  if (before && after) after.tabIndex = before.tabIndex;
  cell.className = next.className;
  cell.title = next.title;
  cell.dataset.at = next.dataset.at ?? "";
  cell.replaceChildren(...next.childNodes);
  if (focused) after?.focus({ preventScroll: true });
}
