// What Python ships, see camreport/report/gallery/. A test holds these types and the files equal.

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

export interface LayerFacts {
  address: string;
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
  layers: Record<string, string[]>;
  methods: Record<string, MethodProse>;
  reasons: Record<string, string>;
  quantity: string;
  provenance: [name: string, value: string][];
}

/** What is known of all images, column by column. */
export interface ImageColumns {
  index: number[];
  file: string[];
  size: [width: number, height: number][];
  sha256: string[];
  label: (number | null)[];
  top: [index: number, probability: number][][];
  /** By name: `area.<method>` and `disagreement` at the first choice's layer, and `margin`. */
  numbers: Record<string, (number | null)[]>;
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
