// Whether a map deserves belief: what was measured of each method, beside controls and chance.
import { report, state } from "../../app";
import type { Evidence } from "../../data/types";
import { type Option, select } from "../../parts/controls";
import { bdi, h } from "../../parts/dom";
import { layerName, listed, prose, sentences, t } from "../../parts/words";
import { change } from "../../state/history";
import { fitTo } from "../matrix/table";
import { type View, rebuiltBy, viewRoot } from "../view";
import { aboutButton, aboutPanel } from "./about";
import { bar } from "./mark";
import {
  type Column,
  type Row,
  alike,
  betterWords,
  columnsOf,
  layerShown,
  numberName,
  numbersOf,
  partWords,
  partsOf,
  rowsOf,
  valueWords,
} from "./read";
import { evidenceTable } from "./table";

/** Questions that only the higher level answers: they take passes of their own. */
const OF_FULL = ["effect", "order", "grid", "stability"];

/** Fewest images of which methods are compared. */
const MIN_IMAGES = 30;

/** Least width of a column, in CSS pixels. */
const COLUMN = 88;

export function evidenceView(): View {
  const { evidence } = report;
  const title = h("h2.visually-hidden", t("view.evidence"));
  if (!evidence)
    return { root: viewRoot("evidence", title, ...none()), update: () => true, uses: [] };
  const about = aboutPanel();
  const { table, below } = arranged(evidence, about);
  const frame = h(".panel", table);
  fitTo(frame, table, COLUMN);
  const root = viewRoot(
    "evidence",
    title,
    h(".switches", ...choices(evidence), asked(evidence, about)),
    frame,
    below,
    about,
  );
  return { root, update: rebuiltBy("number", "scope", "layer", "apart"), uses: ["apart"] };
}

/** The table on a page of its own; nothing where nothing was measured. */
export function evidenceOnPaper() {
  const { evidence } = report;
  if (!evidence) return [];
  const { table, below } = arranged(evidence, h("div"));
  const title = h("h2", t("view.evidence"));
  return [h("section.sheet", title, h("p.lede", bdi(shownWords(evidence))), table, below)];
}

/** What the table shows. */
function shownWords(evidence: Evidence) {
  const { scope, number } = state;
  const index = evidence.scopes.find(({ key }) => key === scope)?.index ?? null;
  const ofClass =
    index === null ? t("class.predicted") : t("class.named", { name: report.classes[index] });
  const what = number ? [numberName(number)] : [t("evidence.all"), layerName(layerShown(evidence))];
  return [...what, ofClass].join(t("comma"));
}

/** The table, and what is said below it. */
function arranged(evidence: Evidence, about: HTMLElement) {
  const columns = columnsOf(evidence);
  const rows = rowsOf(evidence).filter(({ key }) => columns.some(({ values }) => values.has(key)));
  const table = evidenceTable(rows, columns, shownWords(evidence), about);
  const below = h(
    ".below",
    ...[legend(columns, rows), ...parts(evidence, columns), caption(table, columns)],
    ...remarks(evidence, columns),
  );
  return { table, below };
}

/** How a run measures it, where this one has not. */
const none = () => [h("p", t("evidence.none")), h("p", h("code", "--evidence basic"))];

/** All questions at a layer, or one number layer by layer; of which class. */
function choices(evidence: Evidence) {
  const { layers, scopes } = evidence;
  const numbers = numbersOf(evidence).map(({ key }): Option => [key, numberName(key)]);
  const classes = scopes.map(({ key, index }): Option => [
    key,
    index === null ? t("rank.predicted") : report.classes[index],
  ]);
  const choice = (label: string, field: "number" | "layer" | "scope", options: Option[]) =>
    select(
      label,
      field,
      options,
      () => (field === "layer" ? layerShown(evidence) : state[field]),
      (value) => change({ [field]: value }, true),
    );
  return [
    choice(t("evidence.question"), "number", [["", t("evidence.all")], ...numbers]),
    !state.number &&
      choice(
        t("axis.layer"),
        "layer",
        layers.map((layer): Option => [layer, layerName(layer)]),
      ),
    classes.length > 1 && choice(t("axis.class"), "scope", classes),
  ];
}

/** The one question that is asked of every layer. */
function asked(evidence: Evidence, about: HTMLElement) {
  const own = numbersOf(evidence).find(({ key }) => key === state.number);
  if (!own) return null;
  const { question } = prose().evidence.questions[own.question.key];
  const words = sentences(question, betterWords(own));
  return h("p.asked", words, " ", aboutButton(own, "plain", t("evidence.more"), about));
}

/** What the marks mean, each beside its sample. */
function legend(columns: Column[], rows: Row[]) {
  const scale = { scale: [0, 1] as [number, number], ceiling: null, chance: null, limit: null };
  const nothing = { median: null, low: null, high: null };
  const sample = (words: string, mark: Node | string) => h("span", mark, " ", t(words));
  const has = (some: (column: Column) => unknown) => columns.some(some);
  return h(
    "p.hint.marks",
    sample("evidence.key.bar", bar({ median: 0.6, low: 0.4, high: 0.8 }, scale)),
    has(({ number }) => number.chance !== null) &&
      sample("evidence.key.chance", bar(nothing, { ...scale, chance: 0.5 })),
    has(({ ceiling }) => ceiling !== null) &&
      sample("evidence.key.ceiling", bar(nothing, { ...scale, ceiling: 0.5 })),
    has(({ number }) => number.limit !== null) &&
      sample("evidence.key.limit", bar(nothing, { ...scale, limit: 0.5 })),
    has((column) => alike(column, rows).length) && sample("evidence.key.alike", "≈"),
    has(({ values }) => [...values.values()].some(({ beats }) => beats)) &&
      h("span", t("evidence.key.beats")),
  );
}

/** What is measured of images and classes beside their maps: chance, the ceiling, how far effects add up. */
function parts(evidence: Evidence, columns: Column[]) {
  const asked = [...new Map(columns.map(({ number }) => [number.key, number])).values()];
  const chances = asked
    .filter(({ chance }) => chance !== null)
    .map((own) => `${numberName(own.key)} ${valueWords(own.chance, own)}`);
  const said = asked
    .flatMap(({ question }) => partsOf(evidence, question))
    .map(({ key, n, median }) => `${partWords(key, median)} (${t("evidence.n", { n })})`);
  if (chances.length) said.push(t("evidence.chances", { values: listed(chances) }));
  return said.length ? [h("p.hint.parts", said.join(" · "))] : [];
}

/** Sample, seed and baseline; and what the table is not. */
function caption(table: HTMLElement, columns: Column[]) {
  const collages = columns.find(({ number }) => number.question.coverage === "collages");
  const told = sentences(
    ...prose().evidence.facts,
    t("evidence.noTotal"),
    collages ? t("evidence.collages", { names: numberName(collages.number.key) }) : "",
  );
  const links = table.querySelector("a.value") && h("span.screen-only", ` ${t("evidence.links")}`);
  return h("p.figcaption", bdi(told), links);
}

/** What is not compared, and what is not measured. */
function remarks({ questions }: Evidence, columns: Column[]) {
  const words = prose().evidence.questions;
  const missing = (keys: string[]) =>
    keys.filter((key) => words[key] && questions.every((one) => one.key !== key));
  const names = (keys: string[]) => listed(keys.map(numberName));
  const few = columns.some(({ values }) =>
    [...values.values()].some(({ apart, n }) => apart === null && n < MIN_IMAGES),
  );
  const here = state.number
    ? []
    : questions.map(({ key }) => key).filter((key) => columns.every((one) => one.key !== key));
  const [full, regions] = [missing(OF_FULL), missing(["regions"])];
  return [
    few && h("p.hint", t("evidence.few", { count: MIN_IMAGES })),
    here.length > 0 && h("p.hint", t("evidence.here", { names: names(here) })),
    full.length > 0 &&
      h("p.hint", t("evidence.full", { names: names(full) }), " ", h("code", "--evidence full")),
    regions.length > 0 &&
      h("p.hint", t("evidence.full", { names: names(regions) }), " ", h("code", "--regions FILE")),
  ].filter((one) => one !== false);
}
