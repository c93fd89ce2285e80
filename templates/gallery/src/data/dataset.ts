// A report's data: shipped in the page, or in files beside it that arrive when a view asks for them.
import { bytesOf, inflate } from "./bytes";
import type { CellId } from "./cells";
import type { Chunks } from "./chunks";
import { locate } from "../query/located";
import { difference, minus, shared } from "./contrast";
import type { Levelled } from "./grid";
import type {
  CamCell,
  ComparedRun,
  ImageColumns,
  MapList,
  MethodFacts,
  Report,
  ShippedAtlas,
  ShippedImage,
  ShippedRun,
  ShippedOverview,
} from "./types";

/** Most images whose maps stay unpacked; a page of the overview needs 100. */
const MAX_UNPACKED = 160;

/** Most images of which the overview's own data stays unpacked. */
const MAX_IN_OVERVIEW = 400;

/** In place of a class's place: each image's most probable class, as far as it is explained. */
export const PREDICTED = -1;

/** Likewise: each image's true class, as far as it is known; else the most probable one. */
export const TRUE = -2;

/** Likewise: what speaks for the first class of an image's pair more than for the second. */
export const CONTRAST = -3;

/** Places of the most probable class and the one that it is compared with, if that is the true one. */
export interface Pair {
  predicted: number;
  other: number;
  wrong: boolean;
}

/** What maps are found and read with. */
export interface Unpacked {
  bytes: Uint8Array;
  byKey: Map<string, CamCell>;
}

/** One image with its maps; `scale` is the largest value among those that share one. */
export interface ImageRecord extends Omit<ShippedImage, "maps" | "others">, MapList, Unpacked {
  run: number;
  scale: number;
  picture: HTMLImageElement;
}

type OverviewRecord = ShippedOverview & Unpacked;

const padded = (number: number) => String(number).padStart(4, "0");

/** Which of an image's maps. */
type MapId = Pick<CellId, "rank" | "method" | "layer">;

/** What can become of a prediction: it turns right or wrong, is wrong in another way, or stays. */
export const FLIPS = ["wrong", "right", "other", "no"];

/** Whose maps are shown: those of the network as it is, or with its weights permuted. */
export type Network = "trained" | "scrambled";

const keyOf = ({ rank, method, layer }: MapId, network: Network = "trained") =>
  `${network}.${rank}.${method}.${layer}`;

const byKey = (cells: CamCell[], network?: Network) =>
  new Map(cells.map((cell) => [keyOf(cell, network), cell]));

/** A control as a method: its maps are those of no class. */
const controlFacts = (key: string, fuses: boolean): MethodFacts => ({
  ...{ key, name: key, family: "control", classSpecific: false, signed: false, linear: false },
  ...{ perLayer: true, onInput: false, fuses, alike: [], like: "" },
});

/** The parts of an image by run. */
const partsOf = (shipped: ShippedImage): ShippedRun[] => [shipped, ...(shipped.others ?? [])];

/** An image in each run, with the maps' bytes of each. */
function unpackRuns(shipped: ShippedImage, bytes: Uint8Array[]) {
  const picture = new Image();
  picture.src = shipped.photo;
  return partsOf(shipped).map((part, run) =>
    unpack({ ...shipped, ...part }, bytes[run], run, picture),
  );
}

/** An image with the entries and levels of its maps: their JSON's length, their JSON, the levels. */
function unpack(
  shipped: ShippedImage,
  bytes: Uint8Array,
  run: number,
  picture: HTMLImageElement,
): ImageRecord {
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const json = new TextDecoder().decode(bytes.subarray(4, 4 + length));
  const list = JSON.parse(json) as MapList;
  const { maps: _, others: __, ...image } = shipped;
  const scale = Math.max(0, ...list.cells.map((cam) => (cam.own ? 0 : cam.peak)));
  const levels = bytes.subarray(4 + length);
  const known = [
    ...byKey([...list.cells, ...list.controls]),
    ...byKey(list.scrambled, "scrambled"),
  ];
  return { ...image, ...list, run, bytes: levels, byKey: new Map(known), scale, picture };
}

/** Levels of maps that are not shipped but subtracted here. */
const subtracted = new WeakMap<CamCell, Uint8Array>();

/** Whether a map is a difference of what is drawn, not of the raw maps. */
export const isSubtracted = (cam: CamCell) => subtracted.has(cam);

/** A map's levels. */
export function levelsOf({ bytes }: { bytes: Uint8Array }, cam: CamCell) {
  const own = subtracted.get(cam);
  if (own) return own;
  const from = cam.offset ?? 0;
  return bytes.subarray(from, from + cam.height * cam.width);
}

/** The entry of a map that was subtracted here. */
function keep(made: Levelled | null | undefined) {
  if (made) subtracted.set(made.cam, made.levels);
  return made?.cam;
}

/** Forget what was put into a map first where it has grown beyond so many. */
function forget(map: Map<number, unknown>, most: number) {
  if (map.size > most) map.delete([...map.keys()][0]);
}

/** Put the numbers that only some images have beside those of all. */
function spread({ index, numbers, sampled }: ImageColumns) {
  for (const [name, values] of Object.entries(sampled.numbers)) {
    const column = index.map((): number | null => null);
    for (const [i, place] of sampled.places.entries()) column[place] = values[i] ?? null;
    numbers[name] = column;
  }
}

export class Dataset {
  /** The colours of each colour map, RGB. */
  readonly tables: Record<string, Uint8Array>;
  /** What knows nothing of the model, as methods. */
  readonly controls: MethodFacts[];
  /** Where the model looks over the whole run; null until a view or a query needs it. */
  atlas: ShippedAtlas | null = null;
  /** Whose maps are found. */
  network: Network = "trained";
  /** The run that is meant where none is named. */
  run = 0;
  /** What became of each prediction, from the first run to the one that is compared. */
  flips: string[] = [];
  /** The runs that are compared; none in a report of one. */
  readonly runs: ComparedRun[];
  /** How far each image's map moved from the first run to each. */
  readonly #moved: ImageColumns["numbers"][string][] = [];
  readonly #places: Map<number, number>;
  /** By run; the differences from the first one, once they are asked for, by their places below zero. */
  readonly #images = new Map<number, Record<number, ImageRecord>>();
  readonly #overview = new Map<number, OverviewRecord>();

  constructor(
    readonly report: Report,
    readonly chunks: Chunks,
  ) {
    const tables = Object.entries(report.tables);
    this.tables = Object.fromEntries(tables.map(([name, base64]) => [name, bytesOf(base64)]));
    this.#places = new Map(report.images.index.map((index, place) => [index, place]));
    this.controls = (report.evidence?.rows ?? [])
      .filter(({ control }) => control)
      .map(({ key }) => controlFacts(key, report.fused));
    spread(report.images);
    this.runs = report.comparison?.runs ?? [];
    const { numbers, top } = report.images;
    for (const [run, own] of this.runs.entries()) {
      if (!run) own.top = top;
      this.#moved[run] = numbers[`moved.${own.name}`] ?? numbers.moved;
      delete numbers[`moved.${own.name}`];
    }
  }

  /** Unpack all images of a report in one file, at once: it may be printed the next moment. */
  unpackAll() {
    for (const index of this.report.images.index) {
      const text = document.getElementById(`image-${index}`)?.textContent ?? "";
      const shipped = JSON.parse(text) as ShippedImage;
      const bytes = partsOf(shipped).map(({ maps }) => bytesOf(maps));
      this.#images.set(index, unpackRuns(shipped, bytes));
    }
  }

  /** Load where the model looks over the whole run, where the report has that. */
  async loadAtlas() {
    if (this.atlas || !this.report.atlas.length) return;
    this.atlas = (await this.piece<ShippedAtlas>("atlas")) ?? null;
    if (this.atlas?.found) locate(this.report.images, this.atlas.found);
  }

  /** A piece that only some views need; undefined where its file is missing. */
  async piece<T>(name: string): Promise<T | undefined> {
    const text = document.getElementById(name)?.textContent;
    return text ? JSON.parse(text) : this.chunks.content<T>(name);
  }

  has(index: number) {
    return this.#places.has(index);
  }

  /** Let all that names no run be about one: its predictions, and how they differ from the first's. */
  showRun(run: number) {
    const { images } = this.report;
    if (!this.runs.length) return;
    this.run = run;
    const shown = this.compared;
    const { top } = this.runs[shown];
    images.top = this.runs[Math.abs(run)].top;
    this.flips = top.map((_, place) => this.#flip(place, top[place]));
    Object.assign(images, { flip: this.flips });
    images.numbers.moved = this.#moved[shown];
  }

  /** The run that is compared with the first one: the shown one, or the last. */
  get compared() {
    return Math.abs(this.run) || this.runs.length - 1;
  }

  /** What becomes of an image's prediction from the first run to another. */
  #flip(place: number, [now]: ImageColumns["top"][number]) {
    const [before] = this.runs[0].top[place];
    const label = this.report.images.label[place];
    if (!before || !now || before[0] === now[0]) return "no";
    if (label === null || (before[0] !== label && now[0] !== label)) return "other";
    return now[0] === label ? "right" : "wrong";
  }

  /** Place of an image among those that could be read. */
  placeOf(index: number) {
    return this.#places.get(index) ?? -1;
  }

  /** An image's class and probability at the top of a run's predictions. */
  topOf(index: number, run = this.run) {
    const { top } = this.runs[Math.abs(run)] ?? this.report.images;
    return top[this.placeOf(index)]?.[0];
  }

  /** An image with its maps; null where its file is missing. */
  async imageOf(index: number, run = this.run): Promise<ImageRecord | null> {
    const known = this.knownImage(index, run);
    const { folder, perChunk } = this.report;
    if (known || !folder) return known ?? null;
    const name = `images-${padded(Math.floor(this.placeOf(index) / perChunk))}`;
    const records = await this.chunks.content<ShippedImage[]>(name);
    const shipped = records?.find((one) => one.index === index);
    this.chunks.keep(2 + MAX_UNPACKED / perChunk);
    if (!shipped) return null;
    const packed = partsOf(shipped).map(({ maps }) => inflate(bytesOf(maps)));
    const image = this.#images.get(index) ?? unpackRuns(shipped, await Promise.all(packed));
    this.#images.set(index, image);
    await image[0].picture.decode().catch(() => undefined);
    forget(this.#images, MAX_UNPACKED);
    return this.knownImage(index, run) ?? null;
  }

  /** An image that was asked for before. */
  knownImage(index: number, run = this.run): ImageRecord | undefined {
    const image = this.#images.get(index);
    if (image && run < 0 && image[-run] && !image[run]) {
      const own = { cells: [], controls: [], scrambled: [], byKey: new Map() };
      const seen = shared(image[-run].seen, image[0].seen);
      image[run] = { ...image[-run], ...own, run, seen };
    }
    return image?.[run];
  }

  /**
   * What the overview needs of an image in folder mode, without its own chunk; null where that
   * is not shipped.
   */
  async overviewOf(index: number, id: CellId): Promise<OverviewRecord | null> {
    const { folder, glance, perOverview } = this.report;
    if (!folder || id.method !== glance.method || id.layer !== glance.layer) return null;
    const place = this.placeOf(index);
    const name = `overview-${padded(Math.floor(place / perOverview))}`;
    const records = await this.chunks.content<ShippedOverview[]>(name);
    const known = this.#overview.get(index);
    const shipped = records?.[place % perOverview];
    if (known || !shipped) return known ?? null;
    const record = { ...shipped, bytes: bytesOf(shipped.levels), byKey: byKey(shipped.cells) };
    this.#overview.set(index, record);
    forget(this.#overview, MAX_IN_OVERVIEW);
    return record;
  }

  /** A map of an image; of a method that looks at no class always the one. */
  camOf(image: Unpacked | ImageRecord, id: CellId): CamCell | undefined {
    const { classSpecific, family } = this.methodOf(id.method);
    const network = family === "control" ? "trained" : this.network;
    const key = keyOf({ ...id, rank: classSpecific ? id.rank : 0 }, network);
    const known = image.byKey.get(key);
    const ofRuns = "run" in image && image.run < 0;
    if (known || (!ofRuns && (id.rank !== CONTRAST || !classSpecific))) return known;
    const made = ofRuns ? this.#compare(image, id) : this.#subtract(image, id);
    if (made) image.byKey.set(key, made);
    return made;
  }

  /** The contrast of an image's pair from what is drawn of both. */
  #subtract(image: Unpacked, id: CellId) {
    const pair = this.pairOf(id.image, id.run);
    const cams = [pair?.predicted, pair?.other].map((rank) =>
      rank === undefined ? undefined : image.byKey.get(keyOf({ ...id, rank }, this.network)),
    );
    const [one, other] = cams.map((cam) => cam && { cam, levels: levelsOf(image, cam) });
    return keep(one && other && difference(one, other, CONTRAST));
  }

  /** A map of an image in a run minus the one in the first run, from what is drawn of both. */
  #compare({ index, run }: ImageRecord, id: CellId) {
    const [one, other] = [-run, 0].map((own) => {
      const image = this.knownImage(index, own);
      const cam = image && this.camOf(image, id);
      return cam && { cam, levels: levelsOf(image, cam), seen: image.seen };
    });
    return keep(one && other && minus(one, other, id.rank));
  }

  /**
   * The most probable class of an image, and what it is compared with: the true class where that
   * is another one, else the strongest other; null where one of them is not explained.
   */
  pairOf(index: number, run = this.run): Pair | null {
    const image = this.knownImage(index, run);
    const top = this.topOf(index, run)?.[0];
    if (!image || top === undefined) return null;
    const { targets, probabilities } = image;
    const label = this.report.images.label[this.placeOf(index)];
    const predicted = targets.indexOf(top);
    const wrong = label !== null && label !== top;
    const chance = (rank: number) => probabilities[rank] ?? -1;
    const others = [...targets.keys()].filter((rank) => rank !== predicted);
    const [strongest = -1] = others.sort((a, b) => chance(b) - chance(a));
    const other = wrong ? targets.indexOf(label) : strongest;
    return predicted < 0 || other < 0 ? null : { predicted, other, wrong };
  }

  /** The method's facts. */
  methodOf(key: string) {
    const { methods } = this.report;
    return [...methods, ...this.controls].find((one) => one.key === key) ?? methods[0];
  }

  /** Call the controls by names of a language. */
  nameControls(names: Record<string, string>) {
    for (const control of this.controls) control.name = names[control.key] ?? control.key;
  }

  /** The methods with columns of their own: without those that repeat another's maps. */
  readonly ownMethods = (apart: boolean) =>
    this.report.methods.filter((method) => apart || !method.like);

  /** A method, or the one whose column it shares. */
  ownMethod(key: string, apart: boolean) {
    return (!apart && this.methodOf(key).like) || key;
  }

  /** Name of the class at a place among an image's explained ones; of a contrast both. */
  classOf(image: ImageRecord, rank: number): string {
    const pair = rank === CONTRAST && this.pairOf(image.index, image.run);
    const own = (place: number) => `\u2068${this.classOf(image, place)}\u2069`; // kept apart
    if (pair) return `${own(pair.predicted)} − ${own(pair.other)}`;
    return this.report.classes[image.targets[rank]] ?? "";
  }

  /** Whether a place among an image's explained classes is that of the true one. */
  isTrue(index: number, rank: number) {
    const label = this.report.images.label[this.placeOf(index)];
    return label !== null && this.knownImage(index)?.targets[rank] === label;
  }

  /** Place of a class among an image's explained ones; for a contrast that of the first one. */
  rankIn(index: number, rank: number, run = this.run): number {
    const targets = this.knownImage(index)?.targets;
    if (rank >= 0 && (!targets || rank < targets.length)) return rank;
    if (rank === TRUE) {
      const slot = this.report.images.true[this.placeOf(index)];
      return slot ?? this.rankIn(index, PREDICTED, run);
    }
    const [top] = this.topOf(index, run) ?? [-1];
    return Math.max(0, (targets ?? this.report.sameClasses ?? []).indexOf(top));
  }

  /** Whether there are classes to choose from: several places, or a true class beside them. */
  get choosesClass() {
    return this.report.ranks > 1 || this.report.images.true.some((slot) => slot);
  }

  /** Places of classes in one image, or in all: a true class that is explained apart comes last. */
  classPlaces(index: number | null) {
    const places = Array.from({ length: this.report.ranks }, (_, i) => i);
    const slots = this.report.images.true;
    const ofImages = index === null ? slots : [slots[this.placeOf(index)]];
    return ofImages.some((slot) => (slot ?? 0) >= places.length) ? [...places, TRUE] : places;
  }
}
