// What the evidence holds, as its table needs it: numbers, columns, rows, and what is in each cell.
import { data, report, state } from "../../app";
import type { Evidence, EvidenceNumber, EvidenceQuestion } from "../../data/types";
import { decimal, layerName, number, prose, t } from "../../parts/words";

/** A number with the question that it belongs to. */
export interface Num extends EvidenceNumber {
  question: EvidenceQuestion;
}

/** What is measured of a row's maps at a layer. */
export interface Value {
  n: number;
  median: number | null;
  low: number | null;
  high: number | null;
  undefined: Record<string, number>;
  beats: [better: number, of: number] | null;
  apart: boolean | null;
  /** Whether the maps have it by construction. */
  given: boolean;
}

/** A column: a number at a layer, on a scale from its least to its greatest value. */
export interface Column {
  key: string;
  name: string;
  number: Num;
  layer: string;
  scale: [least: number, most: number];
  ceiling: number | null;
  values: Map<string, Value>;
}

export interface Row {
  key: string;
  name: string;
  control: boolean;
}

/** Parts of a scale's greatest value that it can begin at, below zero. */
const STEPS = 5;

/** The layer of maps of the network as a whole. */
const INPUT = "input";

export const numbersOf = ({ questions }: Evidence): Num[] =>
  questions.flatMap((question) => question.numbers.map((number) => ({ ...number, question })));

/** A value as it is written everywhere: two decimals where there is a greatest value, else three digits. */
export const valueWords = (value: number | null, { high }: Pick<EvidenceNumber, "high">) =>
  value === null ? "–" : (high === null ? number : decimal)(value);

/** A number of an image alone with its name: a part of one, or a count. */
export const partWords = (key: string, value: number | null) =>
  `${numberName(key)} ${Number.isInteger(value) ? String(value) : valueWords(value, { high: 1 })}`;

/** A number's least and greatest value, and which end speaks for a map. */
export function endsWords(own: EvidenceNumber) {
  const [low, high] = [own.low, own.high].map((end) => (end === null ? "" : number(end)));
  const ends = t(high ? "evidence.ends" : "evidence.from", { low, high });
  return [ends, betterWords(own)].join(t("comma"));
}

/** Whether maps of a row at a layer have the answer to a question by construction. */
export function isGiven(evidence: Evidence, key: string, row: string, layer: string) {
  const { cells, rows, layers } = evidence;
  const number = numbersOf(evidence).findIndex((own) => own.key === key);
  return cells.given.some(
    (place) =>
      cells.number[place] === number &&
      rows[cells.row[place]].key === row &&
      layers[cells.layer[place]] === layer,
  );
}

/** Which end speaks for a map, or from where on a number speaks against it. */
export const betterWords = ({ better, limit }: EvidenceNumber) =>
  t(`evidence.better.${better ?? (limit === null ? "none" : "limit")}`, { limit: limit ?? "" });

/** A number's name, which for a question's first one is the question's. */
export const numberName = (key: string) =>
  prose().evidence.questions[key]?.name ?? prose().evidence.numbers[key] ?? key;

/** The layer that is shown, or the first choice where there is no evidence of that one. */
export const layerShown = ({ layers }: Evidence) =>
  layers.includes(state.layer) ? state.layer : report.glance.layer;

/** The rows that have columns of their own elsewhere, the controls last. */
export function rowsOf({ rows }: Evidence): Row[] {
  const { controls } = prose().evidence;
  const shown = rows.filter(
    ({ key, control }) => control || state.apart || !data.methodOf(key).like,
  );
  const named = shown.map(({ key, control }) => ({
    key,
    control,
    name: (control && controls[key]) || data.methodOf(key).name,
  }));
  return named.sort((one, other) => Number(one.control) - Number(other.control));
}

/** Whether the present scope is that of the class predicted for each image. */
export const isOfPredicted = () =>
  report.evidence?.scopes.some(({ key, index }) => index === null && key === state.scope);

/** Places of a number's cells in the present scope. */
function placesOf({ cells, scopes }: Evidence, number: number) {
  const scope = scopes.findIndex(({ key }) => key === state.scope);
  return [...cells.number.keys()].filter(
    (place) => cells.number[place] === number && cells.scope[place] === scope,
  );
}

/** The cells of some layers by row; of a row with several the last layer's counts. */
function valuesAt({ cells, rows, layers }: Evidence, places: number[], wanted: string[]) {
  const found = new Map<string, Value>();
  for (const layer of wanted)
    for (const place of places.filter((place) => layers[cells.layer[place]] === layer))
      found.set(rows[cells.row[place]].key, {
        n: cells.n[place],
        median: cells.median[place],
        low: cells.low[place],
        high: cells.high[place],
        undefined: cells.undefined[place],
        beats: cells.beats[place],
        apart: cells.apart[place],
        given: cells.given.includes(place),
      });
  return found;
}

/** What is known of the images alone that belongs to a question, in the present scope. */
export const partsOf = ({ ceilings, scopes }: Evidence, question: EvidenceQuestion) =>
  [...ceilings.number.entries()].flatMap(([place, key]) =>
    key.startsWith(`${question.key}.`) && scopes[ceilings.scope[place]].key === state.scope
      ? [{ key, n: ceilings.n[place], median: ceilings.median[place] }]
      : [],
  );

/** Median over the images of the most that a number can reach there; null where that is not known. */
const ceilingOf = (evidence: Evidence, { key, question }: Num) =>
  partsOf(evidence, question).find((part) => part.key === `${key}.ceiling`)?.median ?? null;

/** A round number at or above a positive one, of one digit. */
function rounded(value: number) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return Math.ceil(value / unit) * unit;
}

/** Least and greatest value of a scale that all of some values fit on, zero too. */
export function scaleOf({ low, high }: EvidenceNumber, values: number[]): Column["scale"] {
  const [least, most] = [Math.min(0, ...values), Math.max(0, ...values)];
  const end = high ?? (most > 0 ? rounded(most) : 1);
  const step = end / STEPS;
  return [Math.max(low ?? -Infinity, Math.floor(least / step) * step), end];
}

const isKnown = (value: number | null): value is number => value !== null;

/** A number's columns at some layers, all on one scale; those without any value are left out. */
function columnsAt(evidence: Evidence, at: number, layers: string[], ofLayers: boolean): Column[] {
  const number = numbersOf(evidence)[at];
  const { median, low, high } = evidence.cells;
  const places = placesOf(evidence, at);
  const ceiling = ceilingOf(evidence, number);
  const ends = places.flatMap((place) => [median[place], low[place], high[place]]);
  const scale = scaleOf(number, [...ends, ceiling, number.chance, number.limit].filter(isKnown));
  return layers
    .map((layer) => ({
      key: ofLayers ? layer : number.key,
      name: ofLayers ? layerName(layer) : numberName(number.key),
      ...{ number, layer, scale, ceiling },
      // Beside questions, a method of the whole network stands with the one map that it has.
      values: valuesAt(evidence, places, ofLayers ? [layer] : [INPUT, layer]),
    }))
    .filter(({ values }) => values.size);
}

/** Every question at the present layer, or one number at every layer. */
export function columnsOf(evidence: Evidence): Column[] {
  const numbers = numbersOf(evidence);
  const at = numbers.findIndex(({ key }) => key === state.number);
  if (at >= 0) return columnsAt(evidence, at, evidence.layers, true);
  return numbers.flatMap(({ key, question }, place) =>
    key === question.key ? columnsAt(evidence, place, [layerShown(evidence)], false) : [],
  );
}

/** The rows that share a column's sign: the best method, and what is not told apart from it. */
export function alike({ number, values }: Column, rows: Row[]) {
  const compared = rows.filter(({ key }) => (values.get(key)?.apart ?? null) !== null);
  const others = compared.filter(({ key }) => values.get(key)?.apart === false);
  const sign = number.better === "low" ? 1 : -1;
  const medians = compared.map(({ key, control }) =>
    control ? Infinity : sign * (values.get(key)?.median ?? Infinity),
  );
  const best = compared[medians.indexOf(Math.min(...medians))];
  return others.length ? [...new Set([best, ...others])].map(({ key }) => key) : [];
}
