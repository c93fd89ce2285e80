// The shapes of what Python ships (camreport/gallery/) and of the page's own state. Only for tsc.

export interface MethodFacts {
  key: string;
  name: string;
  classSpecific: boolean;
  signed: boolean;
  perLayer: boolean;
  onInput: boolean;
  fuses: boolean;
  /** Methods whose maps coincide with these, and the method that this one repeats. */
  alike: string[];
  like: string;
}

export interface Prose {
  title: string;
  lede: string;
  warning: string;
  facts: [string, string][];
  leftOut: string[];
  failed: [string, string][];
  inputs: number;
  layers: Record<string, string[]>;
  methods: Record<
    string,
    {
      name: string;
      meaning: string;
      caution: string;
      formula: string;
      source: string;
      needs: string;
    }
  >;
  reasons: Record<string, string>;
  quantity: string;
  provenance: [string, string][];
}

/** What is known of all images, column by column. */
export interface ImageColumns {
  index: number[];
  file: string[];
  size: [number, number][];
  sha256: string[];
  label: (number | null)[];
  top: [number, number][][];
}

export interface Report {
  id: string;
  language: string;
  folder: boolean;
  perChunk: number;
  perOverview: number;
  glance: { method: string; layer: string };
  classes: string[];
  layers: { address: string; type: string; alike: string[] }[];
  fused: boolean;
  input: boolean;
  methods: MethodFacts[];
  ranks: number;
  sameClasses: number[] | null;
  channels: string[];
  peaks: Record<string, number>;
  opacity: number;
  colormaps: string[];
  tables: Record<string, string>;
  images: ImageColumns;
  prose: Record<string, Prose>;
  languages: Record<string, string>;
  strings: Record<string, Record<string, string>>;
}

/** One map. `offset` finds its levels; a picture has none, nor has an empty map. */
export interface CamCell {
  method: string;
  layer: string;
  rank: number;
  height: number;
  width: number;
  grid: [number, number];
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
  shape: [number, number, number];
  signed: boolean;
  peaks: (number | null)[];
  means: (number | null)[];
  weights: (number | null)[][];
}

/** One image with its maps; `bytes` once its levels are unpacked. */
export interface ImageRecord {
  index: number;
  file: string;
  photo: string;
  width: number;
  height: number;
  seen: [number, number, number, number];
  targets: number[];
  logits: (number | null)[];
  probabilities: (number | null)[];
  cells: CamCell[];
  /** Entries and levels, deflated, as base64; see `_packed` in camreport/gallery/records.py. */
  maps: string;
  channels: Record<string, LayerChannels>;
  bytes: Uint8Array;
  scale: number;
  byKey: Map<string, CamCell>;
  picture: HTMLImageElement;
}

/** What overview chunks hold of an image: its maps at the first choice, nothing else. */
export interface OverviewRecord {
  seen: [number, number, number, number];
  size: [number, number];
  cells: CamCell[];
  levels: string;
}

/** Which map: an image's index, the place of a class, a method and a layer. */
export interface CellId {
  image: number;
  rank: number;
  method: string;
  layer: string;
}

/** A map enlarged: its levels, and the colour table's index of each pixel. */
export interface Shaded {
  height: number;
  width: number;
  values: Float64Array;
  index: Uint8Array;
}

/** A pinned map with all that is known of it. */
export interface Pinned {
  text: string;
  id: CellId;
  image: ImageRecord;
  cam: CamCell | undefined;
}

export type Axis = "layer" | "method" | "class" | "image";
export type View =
  "overview" | "matrix" | "compare" | "channels" | "tables" | "methods" | "provenance";

/** Everything that a link keeps. */
export interface State {
  view: View;
  image: number;
  rank: number;
  method: string;
  layer: string;
  rows: Axis;
  columns: Axis;
  beside: Axis | "none";
  open: string;
  pins: string[];
  text: string;
  predicted: number;
  low: number;
  high: number;
  judged: "all" | "right" | "wrong";
  sort: "order" | "name" | "confident" | "doubtful" | "class";
  page: number;
  opacity: number;
  threshold: number;
  colormap: string;
  scale: "map" | "method" | "image" | "report";
  byValue: boolean;
  contours: boolean;
  cells: boolean;
  grey: boolean;
  apart: boolean;
  show: "overlay" | "heat" | "photo";
  channelLayer: string;
  channelSort: "index" | "activation" | "contribution";
  picked: string;
  zoom: number;
  atX: number;
  atY: number;
  swipe: number;
  pair: string;
  tables: "all" | "classes" | "methods" | "depth";
  language: string;
  theme: "auto" | "light" | "dark";
}
