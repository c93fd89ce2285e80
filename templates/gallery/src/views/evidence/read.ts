// What the evidence holds, as its table needs it: numbers, columns, rows, and what is in each cell.
import { data, report, state } from "../../app";
import type { Evidence, EvidenceNumber, EvidenceQuestion } from "../../data/types";
import { layerName, prose } from "../../parts/words";

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

/** Whether a map has its number whatever the network is: of one class, or of two opposite ones. */
export function isByConstruction(row: string, { key }: EvidenceQuestion) {
  const { classSpecific, linear, family } = data.methodOf(row);
  const given = !classSpecific || (report.opposite && linear);
  return family !== "control" && given && key === "contrast";
}

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
      });
  return found;
}

/** Median over the images of the most that a number can reach there; null where that is not known. */
function ceilingOf({ ceilings, scopes }: Evidence, { key }: Num) {
  const place = ceilings.number.findIndex(
    (name, place) => name === `${key}.ceiling` && scopes[ceilings.scope[place]].key === state.scope,
  );
  return ceilings.median[place] ?? null;
}

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
  const scale = scaleOf(number, [...ends, ceiling, number.chance].filter(isKnown));
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
