// What the page can show: every field of it, what a field may hold, and what it holds at first.
import { CONTRAST, type Dataset, type Network, PREDICTED } from "../data/dataset";
import type { Report } from "../data/types";
import { columnsOf } from "../query/match";
import { type Grouping, type Sort, sortsOf } from "../query/order";
import type { Changed } from "./store";

export type Axis = "run" | "layer" | "method" | "class" | "image";

/** Every view; the bar shows them in this order, the last two stand in its menu. */
export const VIEWS = [
  "summary",
  "runs",
  "overview",
  "matrix",
  "atlas",
  "evidence",
  "compare",
  "channels",
  "tables",
  "methods",
  "provenance",
] as const;

export type View = (typeof VIEWS)[number];

/** Everything that a link keeps. */
export interface State {
  view: View;
  image: number;
  /** Place of a run among those that are compared. */
  run: number;
  rank: number;
  method: string;
  layer: string;
  rows: Axis;
  columns: Axis;
  beside: Axis | "none";
  open: string;
  pins: string[];
  query: string;
  sort: Sort;
  group: Grouping;
  density: "s" | "m" | "l";
  page: number;
  opacity: number;
  threshold: number;
  colormap: string;
  scale: "map" | "method" | "image" | "report";
  byValue: boolean;
  lift: boolean;
  contours: boolean;
  cells: boolean;
  grey: boolean;
  /** Whether the known regions of objects are drawn. */
  boxes: boolean;
  apart: boolean;
  show: "overlay" | "heat" | "photo";
  numbers: boolean;
  chosen: string;
  methodOrder: "family" | "agreement";
  /** Whether controls stand beside the methods. */
  controls: boolean;
  /** Whose maps the table shows. */
  network: Network;
  /** Number of the evidence that is shown layer by layer; "" stands for all of one layer. */
  number: string;
  scope: string;
  /** What of the Atlas is shown, and of which class: -1 for the most frequent ones. */
  atlas: "means" | "clusters" | "scatter" | "outliers" | "confusions" | "groups";
  atlasClass: number;
  /** What the mean maps show: all methods at one layer, or a measure at all layers. */
  measure: "layer" | "all" | "spread" | "right" | "wrong" | "difference";
  /** By what images are alike. */
  alike: "where" | "what";
  plane: "pca" | "tsne";
  /** What the points' colours say: also a number of the images. */
  colour: string;
  channelLayer: string;
  channelSort: "index" | "activation" | "contribution";
  picked: string;
  zoom: number;
  atX: number;
  atY: number;
  swipe: number;
  pair: string;
  tables: "all" | "classes" | "methods" | "depth";
  figuresOf: "query" | "1" | "3" | "10" | "25" | "wrong" | "pinned";
  language: string;
  theme: "auto" | "light" | "dark";
}

/** Most maps that can be pinned for comparison. */
export const MAX_PINS = 4;

/** Short names of the fields in a link. */
export const NAMES: Record<keyof State, string> = {
  view: "v",
  image: "i",
  run: "u",
  rank: "k",
  method: "m",
  layer: "l",
  rows: "r",
  columns: "c",
  beside: "b",
  open: "open",
  pins: "p",
  query: "q",
  sort: "s",
  group: "gr",
  density: "de",
  page: "n",
  opacity: "o",
  threshold: "t",
  colormap: "cm",
  scale: "sc",
  byValue: "av",
  lift: "lf",
  contours: "ct",
  cells: "rc",
  grey: "g",
  boxes: "bx",
  apart: "ap",
  show: "d",
  numbers: "nu",
  chosen: "ms",
  methodOrder: "mo",
  controls: "cs",
  network: "nw",
  number: "e",
  scope: "es",
  atlas: "at",
  atlasClass: "ac",
  measure: "am",
  alike: "ak",
  plane: "pl",
  colour: "pc",
  channelLayer: "cl",
  channelSort: "co",
  picked: "ch",
  zoom: "z",
  atX: "x",
  atY: "y",
  swipe: "sw",
  pair: "ab",
  tables: "tb",
  figuresOf: "fo",
  language: "lang",
  theme: "th",
};

/** Fields that change the pixels that maps are drawn in. */
export const PAINTED = [
  "threshold",
  "scale",
  "cells",
  "opacity",
  "byValue",
  "lift",
  "contours",
  "colormap",
  "show",
] as const satisfies (keyof State)[];

/** Fields that change how maps look, and nothing else. */
export const LOOKS = [...PAINTED, "grey", "boxes"] as const satisfies (keyof State)[];

/** Fields that choose images, and their order. */
export const FILTER = ["query", "sort", "group"] as const satisfies (keyof State)[];

/** Fields that the browser's back button leaves as they are: they belong to no view. */
export const LASTING: readonly (keyof State)[] = [
  ...LOOKS,
  "apart",
  "numbers",
  "language",
  "theme",
  "pins",
];

/** The controls of how maps look, as a view lists those that act on it. */
export const APPEARANCE = [...LOOKS, "apart"] as const satisfies (keyof State)[];

/** Some fields of the state, to compare. */
export const pick = (state: State, fields: readonly (keyof State)[]) =>
  fields.map((field) => state[field]);

/** The same as a part of the state. */
export const some = (state: State, fields: readonly (keyof State)[]) =>
  fields.reduce<Partial<State>>((part, field) => ({ ...part, [field]: state[field] }), {});

/** Whether a change concerns any of some fields. */
export const concerns = (changed: Changed<State>, ...fields: (keyof State)[]) =>
  fields.some((field) => changed.has(field));

/** What all maps of one image lie on: in a comparison the runs, and classes beside each other. */
export function axesOfImage({ report, runs, ownMethods }: Dataset, apart: boolean) {
  if (runs.length) return { rows: "run", columns: "class", beside: "none" } as const;
  const classes = report.ranks === 2 && ownMethods(apart).length <= 3;
  return { rows: "method", columns: "layer", beside: classes ? "class" : "none" } as const;
}

/** What a report shows when its link says nothing. */
export function initialState(data: Dataset): State {
  const { report } = data;
  return {
    view: "summary",
    image: report.images.index[0] ?? 0,
    run: 0,
    rank: data.choosesClass ? PREDICTED : 0,
    method: report.glance.method,
    layer: report.glance.layer,
    ...axesOfImage(data, false),
    open: "",
    pins: [],
    query: "",
    sort: "order",
    group: "none",
    density: report.images.index.length <= 12 ? "l" : "m",
    page: 0,
    opacity: report.opacity,
    threshold: 0,
    colormap: report.colormaps[0],
    scale: "map",
    byValue: true,
    lift: false,
    contours: false,
    cells: false,
    grey: false,
    boxes: false,
    apart: false,
    show: "overlay",
    numbers: false,
    chosen: "",
    methodOrder: "family",
    controls: false,
    network: "trained",
    number: "",
    scope: "predicted",
    atlas: "means",
    atlasClass: -1,
    measure: "layer",
    alike: "where",
    plane: "pca",
    colour: "class",
    channelLayer: report.channels[0] ?? "",
    channelSort: "index",
    picked: "",
    zoom: 1,
    atX: 0.5,
    atY: 0.5,
    swipe: 50,
    pair: "",
    tables: "all",
    figuresOf: "query",
    language: report.language,
    theme: "auto",
  };
}

/** Keys of all numbers of the evidence. */
const evidenceNumbers = (evidence: Report["evidence"]) =>
  evidence?.questions.flatMap(({ numbers }) => numbers.map(({ key }) => key)) ?? [];

/** What values a field may have; a link can be old or mistyped. */
export function choices(report: Report): Partial<Record<keyof State, readonly unknown[]>> {
  const runs = report.comparison?.runs ?? [];
  const axes = ["layer", "method", "class", "image", ...(runs.length ? ["run"] : [])];
  return {
    view: VIEWS.filter(
      (view) =>
        (view !== "runs" || runs.length > 0) && (view !== "atlas" || report.atlas.length > 0),
    ),
    image: report.images.index,
    run: [0, ...runs.flatMap((_, run) => (run ? [run, -run] : []))],
    rank: Array.from({ length: report.ranks + 4 }, (_, i) => i + CONTRAST),
    method: report.methods.map((method) => method.key),
    layer: [...report.layers.map((layer) => layer.address), "fused", "input"],
    rows: axes,
    columns: axes,
    beside: ["none", ...axes],
    sort: sortsOf(report.images),
    group: ["none", "class", "outcome"],
    density: ["s", "m", "l"],
    colormap: report.colormaps,
    scale: ["map", "method", "image", "report"],
    show: ["overlay", "heat", "photo"],
    methodOrder: ["family", "agreement"],
    network: ["trained", ...(typeof report.evidence?.scrambled === "number" ? ["scrambled"] : [])],
    number: ["", ...evidenceNumbers(report.evidence)],
    scope: report.evidence?.scopes.map(({ key }) => key) ?? [],
    atlas: ["means", "clusters", "scatter", "outliers", "confusions", "groups"],
    atlasClass: [-1, ...report.classes.keys()],
    measure: ["layer", "all", "spread", "right", "wrong", "difference"],
    alike: ["where", "what"],
    plane: ["pca", "tsne"],
    colour: ["class", "right", "cluster", ...columnsOf(report.images).keys()],
    channelLayer: ["", ...report.channels],
    channelSort: ["index", "activation", "contribution"],
    tables: ["all", "classes", "methods", "depth"],
    figuresOf: ["query", "1", "3", "10", "25", "wrong", "pinned"],
    language: Object.keys(report.languages),
    theme: ["auto", "light", "dark"],
  };
}

/** Least and largest value of numbers that are no choice. */
export const LIMITS: Partial<Record<keyof State, [number, number]>> = {
  page: [0, Infinity],
  opacity: [0, 100],
  threshold: [0, 95],
  zoom: [1, 8],
  atX: [0, 1],
  atY: [0, 1],
  swipe: [0, 100],
};
