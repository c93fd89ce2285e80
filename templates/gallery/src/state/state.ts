// The view's state lives in the address behind the #, so that every state is a link.
import { PREDICTED, ownMethod, ownMethods, report } from "../data/dataset";
import { all } from "../parts/dom";
import type { State } from "../data/types";

/** Short names of the fields in a link. */
const NAMES: Record<keyof State, string> = {
  view: "v",
  image: "i",
  rank: "k",
  method: "m",
  layer: "l",
  rows: "r",
  columns: "c",
  beside: "b",
  open: "open",
  pins: "p",
  text: "q",
  predicted: "f",
  low: "lo",
  high: "hi",
  judged: "j",
  sort: "s",
  page: "n",
  opacity: "o",
  threshold: "t",
  colormap: "cm",
  scale: "sc",
  byValue: "av",
  contours: "ct",
  cells: "rc",
  grey: "g",
  apart: "ap",
  show: "d",
  channelLayer: "cl",
  channelSort: "co",
  picked: "ch",
  zoom: "z",
  atX: "x",
  atY: "y",
  swipe: "sw",
  pair: "ab",
  tables: "tb",
  language: "lang",
  theme: "th",
};

/** Fields that change only how maps are coloured: nothing has to be built anew. */
export const LOOKS = [
  "opacity",
  "threshold",
  "colormap",
  "scale",
  "byValue",
  "contours",
  "cells",
  "grey",
  "show",
] as (keyof State)[];

/** Fields that the browser's back button leaves as they are: they belong to no view. */
const LASTING = [...LOOKS, "apart", "language", "theme", "pins"] as (keyof State)[];

export let state: State;

let defaults: State;

/** What of the lasting fields was chosen since the page was last opened by an address. */
let kept: Partial<State> = {};

/** While a step is being taken back: the addresses before the steps that were made since. */
let waiting: string[] | null = null;

let onChange: (changed: Set<keyof State>) => void = () => undefined;

/** What a report shows when its link says nothing. */
function initial(): State {
  const few = report.images.index.length <= 12;
  return {
    view: few ? "matrix" : "overview",
    image: report.images.index[0] ?? 0,
    rank: report.ranks > 1 ? PREDICTED : 0,
    method: report.glance.method,
    layer: report.glance.layer,
    rows: "layer",
    columns: "method",
    beside: report.ranks === 2 && ownMethods(false).length <= 3 ? "class" : "none",
    open: "",
    pins: [],
    text: "",
    predicted: -1,
    low: 0,
    high: 100,
    judged: "all",
    sort: "order",
    page: 0,
    opacity: report.opacity,
    threshold: 0,
    colormap: report.colormaps[0],
    scale: "map",
    byValue: false,
    contours: false,
    cells: false,
    grey: false,
    apart: false,
    show: "overlay",
    channelLayer: report.channels[0] ?? "",
    channelSort: "index",
    picked: "",
    zoom: 1,
    atX: 0.5,
    atY: 0.5,
    swipe: 50,
    pair: "",
    tables: "all",
    language: report.language,
    theme: "auto",
  };
}

/** What values a field may have; a link can be old or mistyped. */
function allowed(): Partial<Record<keyof State, readonly unknown[]>> {
  const axes = ["layer", "method", "class", "image"];
  return {
    view: ["overview", "matrix", "compare", "channels", "tables", "methods", "provenance"],
    image: report.images.index,
    rank: Array.from({ length: report.ranks + 1 }, (_, i) => i + PREDICTED),
    method: report.methods.map((method) => method.key),
    layer: [...report.layers.map((layer) => layer.address), "fused", "input"],
    rows: axes,
    columns: axes,
    beside: ["none", ...axes],
    judged: ["all", "right", "wrong"],
    sort: ["order", "name", "confident", "doubtful", "class"],
    colormap: report.colormaps,
    scale: ["map", "method", "image", "report"],
    show: ["overlay", "heat", "photo"],
    channelLayer: ["", ...report.channels],
    channelSort: ["index", "activation", "contribution"],
    tables: ["all", "classes", "methods", "depth"],
    language: Object.keys(report.languages),
    theme: ["auto", "light", "dark"],
  };
}

/** Least and largest value of numbers that are no choice. */
const LIMITS: Partial<Record<keyof State, [number, number]>> = {
  low: [0, 100],
  high: [0, 100],
  page: [0, Infinity],
  opacity: [0, 100],
  threshold: [0, 95],
  zoom: [1, 8],
  atX: [0, 1],
  atY: [0, 1],
  swipe: [0, 100],
};

function read(): State {
  const given = new URLSearchParams(location.hash.slice(1));
  const found = { ...defaults } as Record<string, unknown>;
  const choices = allowed();
  for (const [field, name] of Object.entries(NAMES)) {
    const text = given.get(name);
    if (text === null) continue;
    const standard = found[field];
    const value = Array.isArray(standard)
      ? text.split("~").filter(Boolean)
      : typeof standard === "number"
        ? Number(text)
        : typeof standard === "boolean"
          ? text === "1"
          : text;
    const fits = choices[field as keyof State];
    const [least, most] = LIMITS[field as keyof State] ?? [-Infinity, Infinity];
    const outside = typeof value === "number" && !(value >= least && value <= most);
    if (outside || (fits && !fits.includes(value))) continue;
    found[field] = value;
  }
  if (found.rows === found.columns) found.columns = found.rows === "method" ? "layer" : "method";
  if (found.beside === found.rows || found.beside === found.columns) found.beside = "none";
  found.method = ownMethod(String(found.method), Boolean(found.apart));
  return found as unknown as State;
}

/** The link to a state that differs from the present one. */
function link(changes: Partial<State> = {}) {
  const target = { ...state, ...changes };
  const words = new URLSearchParams();
  for (const [field, name] of Object.entries(NAMES)) {
    const value = target[field as keyof State];
    const text = Array.isArray(value)
      ? value.join("~")
      : typeof value === "boolean"
        ? String(Number(value))
        : String(value);
    const standard = defaults[field as keyof State];
    if (String(value) !== String(standard)) words.set(name, text);
  }
  return `#${words.toString() || `v=${target.view}`}`;
}

/** What makes an element a link to another state; it follows where the present one changes. */
export const linkTo = (changes: Partial<State>) => ({
  href: link(changes),
  "data-to": JSON.stringify(changes),
});

/** Let all links start from the present state. */
export function refreshLinks() {
  for (const anchor of all("a[data-to]"))
    anchor.setAttribute("href", link(JSON.parse(anchor.dataset.to ?? "")));
}

/** Go where a link leads, as a step. */
function takeLink(event: MouseEvent) {
  const target = event.target as HTMLElement;
  const anchor = target.closest("a[data-to]") as HTMLElement | null;
  if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  change(JSON.parse(anchor.dataset.to ?? ""), true);
}

export function startState(listener: (changed: Set<keyof State>) => void) {
  defaults = initial();
  state = read();
  onChange = listener;
  history.replaceState({ ...history.state, visited: true }, "");
  window.addEventListener("popstate", settle);
  window.addEventListener("hashchange", follow);
  document.addEventListener("click", takeLink);
}

/**
 * Where a step was taken back, let the address there say what was shown then; make the steps
 * since.
 */
function settle() {
  history.scrollRestoration = "auto";
  if (!waiting) return;
  const [there, ...later] = [...waiting, link()];
  waiting = null;
  history.replaceState(history.state, "", there);
  for (const url of later) history.pushState({ visited: true, step: true }, "", url);
}

/** Take the state of the address, which was entered or lies in the history. */
function follow() {
  const { visited } = history.state ?? {};
  if (!visited) kept = {};
  adopt({ ...read(), ...kept });
  history.replaceState({ ...history.state, visited: true }, "", visited ? link() : undefined);
}

function adopt(next: State) {
  const changed = new Set() as Set<keyof State>;
  for (const field of Object.keys(NAMES) as (keyof State)[]) {
    if (String(state[field]) !== String(next[field])) changed.add(field);
  }
  state = next;
  if (changed.size) onChange(changed);
}

/**
 * Change the state and the link with it.
 * @param step whether the browser's back button returns to the state before
 */
export function change(changes: Partial<State>, step = false) {
  for (const field of LASTING) if (field in changes) kept = { ...kept, [field]: changes[field] };
  const [here, url] = [link(), link(changes)];
  const moves = step && url !== here;
  if (moves && waiting) waiting.push(here);
  else if (moves) {
    if (changes.open) history.scrollRestoration = "manual"; // the page stays where it is behind a map
    history.pushState({ visited: true, step }, "", url);
  } else history.replaceState(history.state, "", url);
  adopt({ ...state, ...changes });
}

/** Take back the last step; what was chosen meanwhile stays. */
export function leave(changes: Partial<State>) {
  if (waiting?.pop() === undefined) {
    if (!history.state?.step) return change(changes);
    waiting = [];
    history.back();
  }
  adopt({ ...state, ...changes });
}
