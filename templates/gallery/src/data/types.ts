// What Python ships, see camreport/report/gallery/. A test holds these types and the files equal.

export interface MethodFacts {
  key: string;
  name: string;
  family: "gradient" | "activation" | "perturbation" | "network" | "control";
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

/** What the page says of a question of the evidence: with a formula in plain text. */
export interface QuestionProse {
  name: string;
  question: string;
  formula: string;
  range: string;
  /** What its numbers cannot say. */
  caution: string;
  source: string;
}

/** The words of the evidence; all empty where there is none. */
export interface EvidenceProse {
  /** Level, sample, seed, baseline and cost: a sentence each. */
  facts: string[];
  questions: Record<string, QuestionProse>;
  /** Names of all numbers, by key. */
  numbers: Record<string, string>;
  /** Names of the controls, by row. */
  controls: Record<string, string>;
  /** Why a number is undefined, by reason. */
  undefined: Record<string, string>;
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
  evidence: EvidenceProse;
}

/** A sentence in every language. */
export type Said = Record<string, string>;

/** A part of the page's state that shows what is claimed. */
export interface Place {
  view: "overview" | "matrix" | "atlas" | "evidence" | "methods" | "provenance" | "runs";
  /** The part of the Atlas. */
  atlas?: "means" | "clusters" | "scatter" | "outliers" | "confusions" | "groups";
  image?: number;
  method?: string;
  layer?: string;
  rows?: "layer" | "method" | "class" | "image" | "run";
  columns?: "layer" | "method" | "class" | "image" | "run";
  query?: string;
  /** A column of the images' numbers, and whether its lowest values come first. */
  sort?: `${string}.up` | `${string}.down`;
  /** A number of the evidence, to be shown layer by layer. */
  number?: string;
  scope?: string;
  /** Place of one of the runs that are compared. */
  run?: number;
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
  /**
   * By name: `area.<method>`, `disagreement` and `overlap` at the first choice's layer, `margin`, and
   * `<number>.<method>` of the evidence that all images have.
   */
  numbers: Record<string, (number | null)[]>;
  /** Likewise of the evidence that only some images have: their places in the other columns. */
  sampled: { places: number[]; numbers: Record<string, (number | null)[]> };
}

/**
 * A number of the evidence: its least and greatest value, which of them speaks for a map, what it is
 * expected to be of a map that knows nothing, and above which value a map fails.
 */
export interface EvidenceNumber {
  key: string;
  better: "high" | "low" | null;
  low: number | null;
  high: number | null;
  chance: number | null;
  limit: number | null;
}

/** A question of the evidence. The first of its numbers has its key, and answers it. */
export interface EvidenceQuestion {
  key: string;
  coverage: "all" | "sample" | "collages";
  numbers: EvidenceNumber[];
}

/**
 * What is measured of a row's maps at a layer, column by column: each combination that has been
 * measured, once.
 */
export interface EvidenceCells {
  /** Place among the numbers of all questions, in their order. */
  number: number[];
  /** Places in `rows`, `layers` and `scopes`. */
  row: number[];
  layer: number[];
  scope: number[];
  /** Maps with the number. */
  n: number[];
  median: (number | null)[];
  /** The median's 95 % interval; null where n < 2. */
  low: (number | null)[];
  high: (number | null)[];
  /** Maps without the number, by reason. */
  undefined: Record<string, number>[];
  /** How many images' maps have a better number than each control's, of how many. */
  beats: ([better: number, of: number] | null)[];
  /** Whether told apart from the best method at the layer; the best one is. Null: no order. */
  apart: (boolean | null)[];
  /** Places of the cells whose number maps have by construction. */
  given: number[];
}

/** Numbers of an image and class without a map: `effect.ceiling`, `effect.additivity`. */
export interface EvidenceCeilings {
  number: string[];
  scope: number[];
  n: number[];
  median: (number | null)[];
  low: (number | null)[];
  high: (number | null)[];
}

/** What speaks for and against the maps of a run. */
export interface Evidence {
  level: "basic" | "full";
  /** Images on which passes were spent, and the seed that chose them. */
  sample: number;
  seed: number;
  baseline: string;
  /** Seed of the scrambled network whose maps are shipped; null where there are none. */
  scrambled: number | null;
  /** Images drawn by the seed, on which medians and intervals rest; null where it is all of them. */
  drawn: number | null;
  questions: EvidenceQuestion[];
  rows: { key: string; control: boolean }[];
  layers: string[];
  /** The predicted class, and each class where all images explain the same few. */
  scopes: { key: string; index: number | null }[];
  cells: EvidenceCells;
  ceilings: EvidenceCeilings;
}

/** What the model is made of; `more` counts the runs of modules that are not listed. */
export interface Structure {
  printed: string;
  modules: { address: string; type: string; shape: number[] | null; parameters: number }[];
  more: number;
}

/** One of the runs that a report compares; the first one's own data is the report's. */
export interface ComparedRun {
  /** Short and unique. */
  name: string;
  /** Where its results lie, seen from the report. */
  address: string;
  model: string;
  /** Keys of its methods. */
  methods: string[];
  /** Its own addresses of layers, by the key of the pair, and their names with their grids. */
  layers: Record<string, string>;
  grids: Record<string, string>;
  fused: boolean;
  input: boolean;
  /** Its images that could be read. */
  count: number;
  accuracy: { right: number; total: number } | null;
  /** Whether its classes have been mapped onto those of the report. */
  mapped: boolean;
  /** Compared images whose most probable class is none of those of the report. */
  elsewhere: number;
  /** Of the compared images; empty for the first run, whose classes `images` has. */
  top: [index: number, probability: number][][];
  /** Its provenance, in every language. */
  facts: Record<string, [name: string, value: string][]>;
}

/** Which layers stand for each other, and why; `depth` is 0..1 of the way through each network. */
export interface LayerPair {
  layer: string;
  by: "name" | "depth" | "chosen" | "alone";
  depth: (number | null)[];
  why: Said;
}

/**
 * A number of a run minus the first run's, of the same images: "accuracy", "p" (the probability of
 * the true class), or one of the evidence.
 */
export interface Delta {
  key: string;
  name: Said;
  run: number;
  /** Empty where the number is not about maps. */
  method: string;
  layer: string;
  n: number;
  before: number | null;
  after: number | null;
  /** The median of the images' differences, with its 95 % interval; null where n < 2. */
  delta: number | null;
  low: number | null;
  high: number | null;
  better: "high" | "low" | null;
  /** Whether the two are told apart; null: too few images to say. */
  apart: boolean | null;
  /** Exact p-value of McNemar's test; null for all but accuracy. */
  p: number | null;
}

/** How alike a run's maps are to the first run's: medians over n images. */
export interface Agreement {
  run: number;
  method: string;
  layer: string;
  n: number;
  correlation: number | null;
  overlap: number | null;
  /** Share of the evidence that lies elsewhere. */
  moved: number | null;
  /** Why there is nothing to compare. */
  missing: Said | null;
}

/**
 * The mean of a run's maps minus the first run's on the common grid, each map as a fraction of its
 * own maximum: signed levels in base64 as of maps, up to ±`largest`.
 */
export interface MeanDifference {
  run: number;
  method: string;
  layer: string;
  n: number;
  height: number;
  width: number;
  levels: string;
  largest: number;
}

/** What is known of several runs of the same images. The first one is what the others are compared with. */
export interface Comparison {
  runs: ComparedRun[];
  pairs: LayerPair[];
  /** The first of the images that not all runs have: which runs lack them, and why. */
  missing: { file: string; runs: number[]; reason: Said }[];
  missingCount: number;
  /** Of which maps `moved` among the images' numbers is. */
  movedOf: Said;
  deltas: Delta[];
  agreement: Agreement[];
  differences: MeanDifference[];
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
  /** The layer whose channels' contributions to the scores are kept. */
  contributions: string | null;
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
  evidence: Evidence | null;
  /** Parts of the Atlas with something to show; none where the report has no Atlas. */
  atlas: ("means" | "clusters" | "scatter" | "outliers" | "confusions" | "groups")[];
  comparison: Comparison | null;
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

/** What a further run has of an image; its classes are the image's. */
export interface ShippedRun {
  seen: Box;
  logits: (number | null)[];
  probabilities: (number | null)[];
  /** As of an image; its layers are keys of pairs. */
  maps: string;
}

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
  /** Where its objects are, as fractions of the photograph's sides, each with its class's index. */
  regions: [left: number, top: number, right: number, bottom: number, target: number | null][];
  /** Of the further runs that are compared, in their order. */
  others?: ShippedRun[];
}

/** An image's maps, and what is measured of each. */
export interface MapList {
  cells: CamCell[];
  channels: Record<string, LayerChannels>;
  /** Maps that know nothing of the model: `method` is a control's row, `rank` is 0. */
  controls: CamCell[];
  /** Maps of the network with permuted weights. */
  scrambled: CamCell[];
  /** By "<row>/<layer>", which is empty for `effect.ceiling` and the like; then by number and rank. */
  numbers: Record<string, Record<string, (number | null)[]>>;
  /** Why some are undefined, a key of the words of that, by "<number>/<row>/<layer>" and rank. */
  undefined: Record<string, (string | null)[]>;
  /** By "order.morf/<row>/<layer>" and "order.lerf/…": for each rank, at equal steps from 0 to 1. */
  curves: Record<string, (number | null)[][]>;
}

/** What overview chunks hold of an image: its maps at the first choice, nothing else. */
export interface ShippedOverview {
  seen: Box;
  size: [width: number, height: number];
  cells: CamCell[];
  levels: string;
}

/** Where on the picture some maps lie: medians of fractions. */
export interface Placement {
  extent: number;
  border: number;
  corners: number[];
}

/** Images of one predicted class that are alike; numbers count from 1 in a class and kind. */
export interface Cluster {
  number: number;
  n: number;
  share: number;
  accuracy: number | null;
  stability: number;
  /** 14 × 14 levels in base64, 255 for the largest. */
  mean: string;
  /** Indices of images. */
  nearest: number[];
  farthest: number[];
  /** Channels of the atlas's `whatLayer`, and their share of the positive contributions. */
  channels: number[][];
  placement: Placement;
  corner: "upper-left" | "upper-right" | "lower-left" | "lower-right" | null;
}

/** The images predicted as one class, and why they have no clusters. */
export interface ClassAtlas {
  index: number;
  n: number;
  accuracy: number | null;
  where: Cluster[];
  what: Cluster[];
  /** Images with hardly any like them, and the nearest ordinary image of the class. */
  outliers: { image: number; distance: number; neighbour: number }[];
  placement: Placement | null;
  note: Said | null;
}

/** Images in the plane, column by column: all, or of very many a sample. */
export interface Points {
  space: "where" | "what";
  /** Indices of images, and of their predicted classes. */
  images: number[];
  classes: number[];
  pca: number[][];
  tsne: number[][] | null;
  /** Numbers of their clusters; 0 for none. */
  where: number[];
  what: number[];
}

/** Where the model looks over the whole run. */
export interface Atlas {
  whatLayer: string | null;
  whereMethod: string;
  whereLayer: string;
  total: number;
  note: Said | null;
  classes: ClassAtlas[];
  points: Points;
}

/**
 * Mean maps column by column: 14 × 14 bytes for each in base64, 255 for its largest value. Those of
 * right and of wrong predictions are there where there are both.
 */
export interface Means {
  method: string[];
  layer: string[];
  target: number[];
  outcome: ("all" | "right" | "wrong")[];
  n: number[];
  mean: string;
  meanPeak: number[];
  /** Their standard deviations, likewise. */
  spread: string;
  spreadPeak: number[];
}

/** Images of one class that are taken for another: the means of the maps of both, in base64. */
export interface Confused {
  method: string;
  layer: string;
  label: number;
  predicted: number;
  n: number;
  /** Images, the most confident errors first. */
  images: number[];
  /** Levels of the mean maps, 255 for 1. */
  ofLabel: string | null;
  ofPredicted: string | null;
  /** What speaks for the predicted class more than for the true one; 127 is 0, 254 is 1. */
  contrast: string | null;
}

/**
 * Images with one value in a column of the labels: their mean map, and how it differs from that of
 * the others; `p` of so large a difference where the values are shuffled.
 */
export interface GroupOfImages {
  method: string;
  layer: string;
  column: string;
  value: string;
  /** Maps in it, and in the other groups. */
  n: number;
  others: number;
  /** Levels, 255 for 1; of the difference 127 is 0, 254 is 1. */
  mean: string;
  difference: string | null;
  p: number | null;
  permutations: number;
}

/** The piece of the Atlas; `predicted` counts the classes that are predicted at all. */
export interface ShippedAtlas {
  means: Means;
  predicted: number;
  found: Atlas | null;
  confusions: Confused[];
  groups: GroupOfImages[];
}

/** The images in which each channel contributes most, and their share of what speaks for the class. */
export interface ShippedTops {
  layer: string;
  images: number[][];
  shares: number[][];
}
