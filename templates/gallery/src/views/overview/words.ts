// Terms of the query, groups and numbers in words.
import { data, report, state } from "../../app";
import { layerName, number, prose, t } from "../../parts/words";
import { columnsOf } from "../../query/match";
import type { Group } from "../../query/order";
import {
  type ClusterName,
  type Condition,
  type Mistake,
  type Sign,
  type Term,
  quote,
} from "../../query/parse";
import { vocabularyOf } from "../../state/selection";
import { numberName as evidenceName, numbersOf, valueWords } from "../evidence/read";

/** Most classes that a sentence proposes. */
const MAX_PROPOSED = 4;

const SIGNS: Record<Sign, string> = { "<": "<", "<=": "≤", ">": ">", ">=": "≥", "=": "=" };

/** A number of the images, as a list or a chip calls it. */
export function numberName(name: string) {
  const [, key, row] = /^(.+)\.(.+)$/.exec(name) ?? [];
  if (!row) return t(`number.${name}`);
  const method = data.methodOf(row).name;
  const own = ["area", "border", "deviation"].includes(key);
  return own ? t(`number.${key}`, { method }) : `${evidenceName(key)} · ${method}`;
}

/** The question of the evidence that a number answers, and the layer; "" for numbers of an image. */
export function questionName(name: string) {
  const [key, ...more] = name.split(".");
  const question = key === "area" ? "extent" : key;
  const named = more.length > 0 && prose().evidence.questions[question]?.name;
  return named ? [named, layerName(report.glance.layer)].join(t("comma")) : "";
}

/** The number of the evidence that a number of the images is; the others are fractions. */
const measuredAs = (name: string) =>
  (report.evidence ? numbersOf(report.evidence) : []).find(
    ({ key }) => name.startsWith(`${key}.`) && !name.slice(key.length + 1).includes("."),
  ) ?? { high: 1 };

/** The numbers that a query can ask for, each of methods once. */
export function numberKeys() {
  const names = vocabularyOf(report).numbers.map((name) => {
    const row = name.slice(name.lastIndexOf(".") + 1);
    return name.includes(".") ? name.replace(row, t("query.method")) : row;
  });
  return [...new Set(names)].join(t("comma"));
}

/** A number of an image, as its tile says it. */
export function numberWords(name: string, place: number) {
  const value = columnsOf(report.images).get(name)?.(place) ?? null;
  return `${numberName(name)} ${valueWords(value, measuredAs(name))}`;
}

const either = (names: string[]) => names.join(t("or"));

const className = (index: number | null) => report.classes[index ?? -1] ?? "–";

/** A cluster as a query writes it. */
const clusterName = ({ targets, number, by }: ClusterName) =>
  `${className(targets[0])}/${number}${by === "what" ? "/what" : ""}`;

/** What a term asks for, as its chip says it. */
export function termWords(condition: Condition) {
  const { kind } = condition;
  if (kind === "name") return t("chip.name", { name: either(condition.parts) });
  if (kind === "right")
    return either(condition.values.map((value) => t(value ? "right.yes" : "right.no")));
  if (kind === "flip") return either(condition.values.map((value) => t(`runs.flip.${value}`)));
  if (kind === "number") {
    const { name, sign, value } = condition;
    return `${numberName(name)} ${SIGNS[sign]} ${number(value)}`;
  }
  if (kind === "lasso") return t("chip.lasso", { plane: t(`plane.${condition.plane}`) });
  if (kind === "cluster")
    return either(condition.clusters.map((one) => t("chip.cluster", { name: clusterName(one) })));
  const names = [...new Set(condition.classes.map(className))];
  return t(kind === "class" ? "chip.class" : "chip.is", { name: either(names) });
}

/** What is mistaken in a term, and what to write instead. */
export function mistakeWords({ text }: Term, { mistake, part }: Mistake) {
  const { classes } = report;
  const like = classes.filter((name) => name.toLowerCase().includes(part.toLowerCase()));
  const proposed = (like.length ? like : classes).slice(0, MAX_PROPOSED).map(quote);
  return t(`query.mistake.${mistake}`, {
    term: text,
    part,
    numbers: numberKeys(),
    classes: proposed.join(t("comma")),
  });
}

/** The head of a group. */
export function groupWords({ predicted, label, right }: Group) {
  const name = className(predicted);
  if (right) return t("group.right", { name });
  if (right === false) return t("group.wrong", { label: className(label), predicted: name });
  return t(state.group === "class" ? "group.class" : "group.unknown", { name });
}

/** The query's terms that hold a group together. */
export function groupTerms({ predicted, label, right }: Group) {
  const named = (key: string, index: number | null) =>
    index === null ? [] : [`${key}:${quote(className(index))}`];
  return [...named("class", predicted), ...(right === null ? [] : named("is", label))];
}
