// What Python ships, see camreport/report/gallery/. A test holds these types and the files equal.

export interface MethodFacts {
  key: string;
  name: string;
  family: "gradient" | "activation" | "perturbation" | "network";
  classSpecific: boolean;
  signed: boolean;
  /** Whether the difference of two classes' raw maps is the map of their scores' difference. */
  linear: boolean;
  perLayer: boolean;
  onInput: boolean;
  fuses: boolean;
  /** Methods whose maps coincide with these, and the method that this one repeats. */
  alike: string[];
  like: string;
}

export interface LayerFacts {
  address: string;
  /** What and where it is, with its grid: "conv1 · 55 × 55"; unique. */
  name: string;
  type: string;
  alike: string[];
}

/** What the page says of a method. */
export interface MethodProse {
  name: string;
  meaning: string;
  caution: string;
  formula: string;
  source: string;
  needs: string;
}

/** What the page says of the run in one language. */
export interface Prose {
  title: string;
  /** The model and its data: what distinguishes this report from others. */
  run: string;
  lede: string;
  warning: string;
  facts: [name: string, value: string][];
  leftOut: string[];
  failed: [file: string, reason: string][];
  inputs: number;
  asked: string;
  layers: Record<string, string[]>;
  methods: Record<string, MethodProse>;
  /** Why a method has no map at a layer, by "method/layer"; the same in a word. */
  reasons: Record<string, string>;
  shortReasons: Record<string, string>;
  quantity: string;
  provenance: [name: string, value: string][];
}

/** A sentence in every language. */
export type Said = Record<string, string>;

/** A part of the page's state that shows what is claimed. */
export interface Place {
  view: "overview" | "matrix" | "methods" | "provenance";
  image?: number;
  method?: string;
  layer?: string;
  rows?: "layer" | "method" | "class" | "image";
  columns?: "layer" | "method" | "class" | "image";
  query?: string;
}

/** What a fixed rule found, in how many images or maps, and where it shows. */
export interface Finding {
  text: Said;
  count: number;
  place: Place;
}

/** A class's images, and how many of them and of others are predicted as it. */
export interface ClassScore {
  index: number;
  right: number;
  total: number;
  predicted: number;
}

/** Which classes are taken for which: all of a matrix, or the most frequent errors. */
export interface Confusion {
  scores: ClassScore[];
  cells: { label: number; predicted: number; count: number }[];
  whole: boolean;
}

/** Counts of predictions in equal bins of their probability, from `low` to 1. */
export interface Confidence {
  low: number;
  right: number[];
  wrong: number[];
  unknown: number[];
}

/** A bin's mean probability, share of right predictions, and number of them. */
export interface Reliability {
  confidence: number;
  right: number;
  count: number;
}

/**
 * What is measured of a method's maps at a layer, over all images: the median area above half, the
 * share without positive evidence, the median correlation with other methods; and what to doubt.
 */
export interface Trust {
  method: string;
  layer: string;
  area: number | null;
  empty: number | null;
  correlation: number | null;
  verdict: Said | null;
}

/** The mean of a class's maps, as levels in base64. */
export interface MeanMap {
  method: string;
  layer: string;
  target: number;
  height: number;
  width: number;
  levels: string;
  count: number;
}

/** What the first page says of a run. */
export interface Summary {
  headline: Said;
  accuracy: { right: number; total: number; confident: number } | null;
  first: { image: number; reasons: Said[] }[];
  rule: Said;
  doubt: Finding | null;
  findings: Finding[];
  cautions: Finding[];
  confusion: Confusion | null;
  confidence: Confidence;
  reliability: Reliability[];
  trust: Trust[];
  means: MeanMap[];
}

/** What is known of all images, column by column. */
export interface ImageColumns {
  index: number[];
  file: string[];
  size: [width: number, height: number][];
  sha256: string[];
  label: (number | null)[];
  /** Place of the true class among an image's explained ones; empty where no image has one. */
  true: (number | null)[];
  top: [index: number, probability: number][][];
  /** By name: `area.<method>`, `disagreement` and `overlap` at the first choice's layer, `margin`. */
  numbers: Record<string, (number | null)[]>;
}

/** What the model is made of; `more` counts the runs of modules that are not listed. */
export interface Structure {
  printed: string;
  modules: { address: string; type: string; shape: number[] | null; parameters: number }[];
  more: number;
}

/** What is known of the run as a whole. */
export interface Report {
  id: string;
  language: string;
  folder: boolean;
  perChunk: number;
  perOverview: number;
  glance: { method: string; layer: string };
  classes: string[];
  layers: LayerFacts[];
  fused: boolean;
  input: boolean;
  methods: MethodFacts[];
  /** Whether every image has two explained classes, with opposite logits. */
  opposite: boolean;
  ranks: number;
  sameClasses: number[] | null;
  channels: string[];
  structure: Structure;
  peaks: Record<string, number>;
  opacity: number;
  colormaps: string[];
  tables: Record<string, string>;
  images: ImageColumns;
  prose: Record<string, Prose>;
  languages: Record<string, string>;
  strings: Record<string, Record<string, string>>;
  summary: Summary;
}

/** One map. `offset` finds its levels; a picture has none, nor has an empty map. */
export interface CamCell {
  method: string;
  layer: string;
  rank: number;
  height: number;
  width: number;
  grid: [height: number, width: number];
  peak: number;
  /** The raw map's largest value; `peak` is that of what is shipped of it. */
  largest: number;
  base: number;
  state: "positive" | "empty" | "undefined";
  signed: boolean;
  own: boolean;
  offset?: number;
  picture?: string;
  channel?: number;
}

export interface LayerChannels {
  offset: number;
  shape: [channels: number, height: number, width: number];
  signed: boolean;
  peaks: (number | null)[];
  means: (number | null)[];
  weights: (number | null)[][];
}

/** The part of a photograph that the model saw, as fractions of its sides. */
export type Box = [left: number, top: number, right: number, bottom: number];

/** One image. */
export interface ShippedImage {
  index: number;
  file: string;
  photo: string;
  width: number;
  height: number;
  seen: Box;
  targets: number[];
  logits: (number | null)[];
  probabilities: (number | null)[];
  /** A `MapList` and the levels it points into, as base64; deflated in a folder's chunks. */
  maps: string;
}

/** An image's maps. */
export interface MapList {
  cells: CamCell[];
  channels: Record<string, LayerChannels>;
}

/** What overview chunks hold of an image: its maps at the first choice, nothing else. */
export interface ShippedOverview {
  seen: Box;
  size: [width: number, height: number];
  cells: CamCell[];
  levels: string;
}
