// A state as the address behind the #, so that every state is a link; and back.
import type { Dataset } from "../data/dataset";
import { LIMITS, MAX_PINS, NAMES, type State, choices, initialState } from "./state";

const FIELDS = Object.entries(NAMES) as [keyof State, string][];

type Value = State[keyof State];

/** Most parts of a list that are read: a link can be of any length. */
const MAX_PARTS = 100;

/** A field's value from a link; `standard` tells its kind. */
function valueOf(text: string, standard: Value): Value {
  if (Array.isArray(standard))
    return [...new Set(text.split("~", MAX_PARTS).filter(Boolean))].slice(0, MAX_PINS);
  if (typeof standard === "number") return Number(text);
  return typeof standard === "boolean" ? text === "1" : text;
}

function textOf(value: Value) {
  if (Array.isArray(value)) return value.join("~");
  return typeof value === "boolean" ? String(Number(value)) : String(value);
}

function fits(field: keyof State, value: Value, data: Dataset) {
  const [least, most] = LIMITS[field] ?? [-Infinity, Infinity];
  if (typeof value === "number" && !(value >= least && value <= most)) return false;
  return choices(data.report)[field]?.includes(value) ?? true;
}

/** The state that a link leads to; what is old or mistyped in it is left out. */
export function readLink(link: string, data: Dataset): State {
  const given = new URLSearchParams(link.replace(/^#/, ""));
  const state = initialState(data);
  const found: Partial<Record<keyof State, Value>> = {};
  for (const [field, name] of FIELDS) {
    const text = given.get(name);
    if (text === null) continue;
    const value = valueOf(text, state[field]);
    if (fits(field, value, data)) found[field] = value;
  }
  Object.assign(state, found);
  if (state.rows === state.columns) state.columns = state.rows === "method" ? "layer" : "method";
  if (state.beside === state.rows || state.beside === state.columns) state.beside = "none";
  state.method = data.ownMethod(state.method, state.apart);
  return state;
}

/** The link to a state: what differs from the one that the report opens with. */
export function linkOf(state: State, data: Dataset) {
  const standard = initialState(data);
  const words = new URLSearchParams();
  for (const [field, name] of FIELDS) {
    const text = textOf(state[field]);
    if (text !== textOf(standard[field])) words.set(name, text);
  }
  return `#${words.toString() || `v=${state.view}`}`;
}
