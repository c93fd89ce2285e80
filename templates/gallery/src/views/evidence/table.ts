// Methods and controls in rows; questions or layers in columns, each on its scale.
import { report } from "../../app";
import { PREDICTED } from "../../data/dataset";
import { type Child, all, bdi, h } from "../../parts/dom";
import { enableRoving } from "../../parts/roving";
import { methodDetails, number, prose, t } from "../../parts/words";
import type { Sort } from "../../query/order";
import { linkTo } from "../../state/history";
import { aboutButton } from "./about";
import { bar } from "./mark";
import {
  type Column,
  type Row,
  type Value,
  alike,
  betterWords,
  isOfPredicted,
  valueWords,
} from "./read";

/** What the keys move to. */
const STOPS = ":is(.head, a.value)";

/**
 * The table of the evidence.
 * @param about the panel that tells of a number
 */
export function evidenceTable(rows: Row[], columns: Column[], caption: string, about: HTMLElement) {
  const heads = columns.map((column, at) => placed(head(column, about), at, 0));
  const signed = columns.map((column) => alike(column, rows));
  const entry = (one: Row, place: number) => {
    const cells = columns.map((column, at) =>
      placed(cell(one, column, signed[at].includes(one.key)), at, place + 1),
    );
    return line(rowHead(one), ...cells);
  };
  const lines = rows.map(entry);
  const count = rows.filter(({ control }) => !control).length;
  const table = h(
    "table.evidence",
    { role: "table" },
    h("caption.visually-hidden", caption),
    part("thead", line(h("td", { role: "cell" }), ...heads)),
    part("tbody", ...lines.slice(0, count)),
    part("tbody", ...lines.slice(count)),
  );
  table.style.setProperty("--columns", String(columns.length));
  table.style.setProperty("--lines", String(rows.length + 1));
  for (const one of all(STOPS, table)) one.tabIndex = -1;
  enableRoving(table, STOPS);
  return table;
}

const line = (...children: Child[]) => h("tr", { role: "row" }, ...children);

const part = (kind: "thead" | "tbody", ...lines: HTMLElement[]) =>
  h(kind, { role: "rowgroup" }, ...lines);

/** Say where an element lies when each column has lines of its own. */
function placed(element: HTMLElement, column: number, place: number) {
  element.style.setProperty("--column", String(column));
  element.style.setProperty("--place", String(place));
  return element;
}

/** A question that tells more when it is asked to, or a layer that leads to all questions there. */
function head({ key, name, number: own, scale }: Column, about: HTMLElement) {
  const asked = key === own.key;
  const { question } = prose().evidence.questions[own.question.key];
  return h(
    "th",
    { scope: "col", role: "columnheader" },
    asked
      ? aboutButton(own, "head", name, about)
      : h("a.head", { ...linkTo({ number: "", layer: key }) }, bdi(name)),
    asked && h("span.question", question),
    asked && h("span.better", betterWords(own)),
    h("span.ends", { "aria-hidden": "true" }, ...scale.map(end)),
  );
}

const end = (value: number) => h("span", number(value));

function rowHead({ key, name, control }: Row) {
  const shown = linkTo({ view: "matrix", method: key, rows: "image", columns: "layer" });
  return h(
    "th",
    { scope: "row", role: "rowheader" },
    control ? bdi(name) : h("a.head", { ...shown }, bdi(name)),
    ...(control ? [] : methodDetails(key)).map((detail) => h("span", detail)),
  );
}

/** A value with its bar, n and what is undefined; it leads to the images where they have it. */
function cell(row: Row, column: Column, shared: boolean) {
  const found = column.values.get(row.key);
  if (!found) return h("td", { role: "cell" }, "–");
  const words = detailWords(found, column, shared);
  const content = [
    h("strong", valueWords(found.median, column.number), shared && "\u2009≈"),
    h("span.n", t("evidence.n", { n: found.n })),
    bar(found, { ...column, ...column.number }),
    h("span.counts", found.given && h("span", t("evidence.given")), ...told(found)),
    h("span.visually-hidden", words),
  ];
  const link = imagesOf(row, column);
  const kind = found.given ? "value given" : "value";
  const own = h(link ? "a" : "span", { class: kind, ...link }, ...content);
  return h("td", { role: "cell", title: words, "data-row": row.name }, own);
}

/** How often a map beats every control, and how often its number is undefined. */
function told({ beats, undefined: reasons }: Value) {
  const lost = Object.values(reasons).reduce((sum, count) => sum + count, 0);
  return [
    beats && h("span", t("evidence.beats", { share: beats.join("/") })),
    lost > 0 && h("span", t("evidence.lost", { count: lost })),
  ];
}

/** What the signs of a cell stand for: for those who listen and for those who point at it. */
function detailWords(
  { low, high, beats, undefined: reasons }: Value,
  { number: own }: Column,
  shared: boolean,
) {
  const why = Object.entries(reasons).map(([reason, count]) =>
    t("evidence.why", { count, reason: prose().evidence.undefined[reason] ?? reason }),
  );
  const words = [
    low !== null &&
      t("evidence.interval", { low: valueWords(low, own), high: valueWords(high, own) }),
    shared && t("evidence.alike"),
    beats && t("evidence.beats.words", { better: beats[0], of: beats[1] }),
    ...why,
  ];
  return words.filter(Boolean).join(t("list"));
}

/** A link to the images by a method's number, those that speak most against the map first. */
function imagesOf({ key }: Row, { number: own, layer }: Column) {
  const name = `${own.key === "extent" ? "area" : own.key}.${key}`;
  const { glance, images } = report;
  if (!images.numbers[name] || layer !== glance.layer || !isOfPredicted()) return null;
  const sort: Sort = own.better === "high" ? `${name}.up` : `${name}.down`;
  const all = { query: "", group: "none", page: 0, open: "" } as const;
  return linkTo({ view: "overview", method: key, layer, rank: PREDICTED, sort, ...all });
}
