// A report's data: shipped in the page, or in files beside it that arrive when a view asks for them.
import { bytesOf, inflate } from "./bytes";
import type { CellId } from "./cells";
import type { Chunks } from "./chunks";
import { locate } from "../query/located";
import { difference } from "./contrast";
import type {
  CamCell,
  ImageColumns,
  MapList,
  MethodFacts,
  Report,
  ShippedAtlas,
  ShippedImage,
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
export interface ImageRecord extends Omit<ShippedImage, "maps">, MapList, Unpacked {
  scale: number;
  picture: HTMLImageElement;
}

type OverviewRecord = ShippedOverview & Unpacked;

const padded = (number: number) => String(number).padStart(4, "0");

/** Whose maps are shown: those of the network as it is, or with its weights permuted. */
export type Network = "trained" | "scrambled";

const keyOf = ({ rank, method, layer }: Omit<CellId, "image">, network: Network = "trained") =>
  `${network}.${rank}.${method}.${layer}`;

const byKey = (cells: CamCell[], network?: Network) =>
  new Map(cells.map((cell) => [keyOf(cell, network), cell]));

/** A control as a method: its maps are those of no class. */
const controlFacts = (key: string, fuses: boolean): MethodFacts => ({
  ...{ key, name: key, family: "control", classSpecific: false, signed: false, linear: false },
  ...{ perLayer: true, onInput: false, fuses, alike: [], like: "" },
});

/** An image with the entries and levels of its maps: their JSON's length, their JSON, the levels. */
function unpack(shipped: ShippedImage, bytes: Uint8Array): ImageRecord {
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const json = new TextDecoder().decode(bytes.subarray(4, 4 + length));
  const list = JSON.parse(json) as MapList;
  const { maps: _, ...image } = shipped;
  const scale = Math.max(0, ...list.cells.map((cam) => (cam.own ? 0 : cam.peak)));
  const picture = new Image();
  picture.src = shipped.photo;
  const levels = bytes.subarray(4 + length);
  const known = [
    ...byKey([...list.cells, ...list.controls]),
    ...byKey(list.scrambled, "scrambled"),
  ];
  return { ...image, ...list, bytes: levels, byKey: new Map(known), scale, picture };
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
  readonly #places: Map<number, number>;
  readonly #images = new Map<number, ImageRecord>();
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
  }

  /** Unpack all images of a report in one file, at once: it may be printed the next moment. */
  unpackAll() {
    for (const index of this.report.images.index) {
      const text = document.getElementById(`image-${index}`)?.textContent ?? "";
      const shipped = JSON.parse(text) as ShippedImage;
      this.#images.set(index, unpack(shipped, bytesOf(shipped.maps)));
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

  /** Place of an image among those that could be read. */
  placeOf(index: number) {
    return this.#places.get(index) ?? -1;
  }

  /** An image's class and probability at the top of its predictions. */
  topOf(index: number) {
    return this.report.images.top[this.placeOf(index)]?.[0];
  }

  /** An image with its maps; null where its file is missing. */
  async imageOf(index: number): Promise<ImageRecord | null> {
    const known = this.#images.get(index);
    const { folder, perChunk } = this.report;
    if (known || !folder) return known ?? null;
    const name = `images-${padded(Math.floor(this.placeOf(index) / perChunk))}`;
    const records = await this.chunks.content<ShippedImage[]>(name);
    const shipped = records?.find((one) => one.index === index);
    this.chunks.keep(2 + MAX_UNPACKED / perChunk);
    if (!shipped) return null;
    const image = this.#images.get(index) ?? unpack(shipped, await inflate(bytesOf(shipped.maps)));
    this.#images.set(index, image);
    await image.picture.decode().catch(() => undefined);
    forget(this.#images, MAX_UNPACKED);
    return image;
  }

  /** An image that was asked for before. */
  knownImage(index: number) {
    return this.#images.get(index);
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
  camOf(image: Unpacked, id: CellId) {
    const { classSpecific, family } = this.methodOf(id.method);
    const network = family === "control" ? "trained" : this.network;
    const key = keyOf({ ...id, rank: classSpecific ? id.rank : 0 }, network);
    const known = image.byKey.get(key);
    if (known || id.rank !== CONTRAST || !classSpecific) return known;
    const made = this.#subtract(image, id);
    if (made) image.byKey.set(key, made);
    return made;
  }

  /** The contrast of an image's pair from what is drawn of both. */
  #subtract(image: Unpacked, id: CellId) {
    const pair = this.pairOf(id.image);
    const cams = [pair?.predicted, pair?.other].map((rank) =>
      rank === undefined ? undefined : image.byKey.get(keyOf({ ...id, rank }, this.network)),
    );
    const [one, other] = cams.map((cam) => cam && { cam, levels: levelsOf(image, cam) });
    const made = one && other && difference(one, other, CONTRAST);
    if (!made) return undefined;
    subtracted.set(made.cam, made.levels);
    return made.cam;
  }

  /**
   * The most probable class of an image, and what it is compared with: the true class where that
   * is another one, else the strongest other; null where one of them is not explained.
   */
  pairOf(index: number): Pair | null {
    const image = this.#images.get(index);
    const top = this.topOf(index)?.[0];
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
  ownMethods(apart: boolean) {
    return this.report.methods.filter((method) => apart || !method.like);
  }

  /** A method, or the one whose column it shares. */
  ownMethod(key: string, apart: boolean) {
    return (!apart && this.methodOf(key).like) || key;
  }

  /** Name of the class at a place among an image's explained ones; of a contrast both. */
  classOf(image: ImageRecord, rank: number): string {
    const pair = rank === CONTRAST && this.pairOf(image.index);
    const own = (place: number) => `\u2068${this.classOf(image, place)}\u2069`; // kept apart
    if (pair) return `${own(pair.predicted)} − ${own(pair.other)}`;
    return this.report.classes[image.targets[rank]] ?? "";
  }

  /** Whether a place among an image's explained classes is that of the true one. */
  isTrue(index: number, rank: number) {
    const label = this.report.images.label[this.placeOf(index)];
    return label !== null && this.#images.get(index)?.targets[rank] === label;
  }

  /** Place of a class among an image's explained ones; for a contrast that of the first one. */
  rankIn(index: number, rank: number): number {
    const targets = this.#images.get(index)?.targets;
    if (rank >= 0 && (!targets || rank < targets.length)) return rank;
    if (rank === TRUE) {
      const slot = this.report.images.true[this.placeOf(index)];
      return slot ?? this.rankIn(index, PREDICTED);
    }
    const [top] = this.topOf(index) ?? [-1];
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
