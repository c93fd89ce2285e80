// The report's data: shipped in this page, or in the folder beside it and fetched as classic
// scripts when a view asks for it (no other way works from file://).
import type { CamCell, CellId, ImageRecord, OverviewRecord, Report } from "./types";

/** Most images whose maps stay unpacked; a page of the overview needs 100. */
const KEPT = 160;

export let report: Report;

const images: Map<number, ImageRecord> = new Map();
const small: Map<number, OverviewRecord & { bytes: Uint8Array; byKey: Map<string, CamCell> }> =
  new Map();
const scripts: Map<string, Promise<void>> = new Map();
const arrived: Map<string, unknown> = new Map();
export const tables: Record<string, Uint8Array> = {};

/** Files that could not be read. */
export const missing = new Set();

export function setReport(shipped: Report) {
  report = shipped;
  for (const [name, base64] of Object.entries(report.tables)) tables[name] = bytesOf(base64);
}

function bytesOf(base64: string) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function inflate(bytes: Uint8Array<ArrayBuffer>) {
  const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(inflated).arrayBuffer());
}

/** Keep an image with the entries and levels of its maps. */
function keep(shipped: ImageRecord, bytes: Uint8Array<ArrayBuffer>) {
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const { cells, channels } = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const scale = Math.max(0, ...(cells as CamCell[]).map((cam) => (cam.own ? 0 : cam.peak)));
  const picture = new Image();
  picture.src = shipped.photo;
  const unpacked = { bytes: bytes.subarray(4 + length), byKey: byKey(cells), scale, picture };
  const image = { ...shipped, ...unpacked, maps: "", cells, channels };
  images.set(image.index, image);
  return image;
}

/** Unpack all images of a report in one file, at once: it may be printed the next moment. */
export function unpackAll() {
  for (const index of report.images.index) {
    const shipped = JSON.parse(document.getElementById(`image-${index}`)?.textContent ?? "");
    keep(shipped, bytesOf(shipped.maps));
  }
}

/** What a chunk's script calls. */
export function receive(name: string, content: unknown) {
  arrived.set(name, content);
}

/** The content of a chunk in the folder beside the page. */
async function chunk(name: string) {
  const loading = scripts.get(name);
  if (loading) return loading;
  const done = new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `data/${name}.js`;
    script.onload = () => resolve(undefined);
    script.onerror = () => {
      missing.add(`data/${name}.js`);
      document.dispatchEvent(new CustomEvent("missing"));
      reject(new Error(name));
    };
    document.head.append(script);
  }).finally(() => scripts.delete(name));
  scripts.set(name, done as Promise<void>);
  return done;
}

const padded = (number: number, digits: number) => String(number).padStart(digits, "0");

/** Place of an image among those that could be read. */
export const placeOf = (index: number) => report.images.index.indexOf(index);

const keyOf = (cell: CellId | CamCell) => `${cell.rank}.${cell.method}.${cell.layer}`;

const byKey = (cells: CamCell[]) => new Map(cells.map((cell) => [keyOf(cell), cell]));

/** An image with its maps; null where its file is missing. */
export async function imageOf(index: number): Promise<ImageRecord | null> {
  const known = images.get(index);
  if (known || !report.folder) return known ?? null;
  const name = `images-${padded(Math.floor(placeOf(index) / report.perChunk), 4)}`;
  try {
    if (!arrived.has(name)) await chunk(name);
  } catch {
    return null;
  }
  const records = (arrived.get(name) ?? []) as ImageRecord[];
  const shipped = records.find((one) => one.index === index);
  if (arrived.size > 2 + KEPT / report.perChunk) arrived.delete([...arrived.keys()][0]);
  if (!shipped) return null;
  const image = images.get(index) ?? keep(shipped, await inflate(bytesOf(shipped.maps)));
  await image.picture.decode().catch(() => undefined);
  if (images.size > KEPT) images.delete([...images.keys()][0]);
  return image;
}

/** An image that was asked for before. */
export const knownImage = (index: number) => images.get(index);

/**
 * What the overview needs of an image in folder mode, without its own chunk; null where that is
 * not shipped.
 */
export async function overviewOf(index: number, id: CellId) {
  const place = placeOf(index);
  const { method, layer } = report.glance;
  if (!report.folder || id.method !== method || id.layer !== layer) return null;
  const name = `overview-${padded(Math.floor(place / report.perOverview), 4)}`;
  try {
    if (!arrived.has(name)) await chunk(name);
  } catch {
    return null;
  }
  let record = small.get(index);
  if (!record) {
    const shipped = ((arrived.get(name) ?? []) as OverviewRecord[])[place % report.perOverview];
    if (!shipped) return null;
    record = { ...shipped, bytes: bytesOf(shipped.levels), byKey: byKey(shipped.cells) };
    small.set(index, record);
    if (small.size > 400) small.delete([...small.keys()][0]);
  }
  return record;
}

/** A map of an image; of a method that looks at no class always the one. */
export function camOf(image: { byKey: Map<string, CamCell> }, id: CellId) {
  const method = report.methods.find((one) => one.key === id.method);
  return image.byKey.get(keyOf({ ...id, rank: method?.classSpecific ? id.rank : 0 }));
}

export function levelsOf(image: { bytes: Uint8Array }, cam: CamCell) {
  const from = cam.offset ?? 0;
  return image.bytes.subarray(from, from + cam.height * cam.width);
}

/** The method's facts. */
export const methodOf = (key: string) =>
  report.methods.find((one) => one.key === key) ?? report.methods[0];

/** The methods with columns of their own: without those that repeat another's maps. */
export const ownMethods = (apart: boolean) =>
  report.methods.filter((method) => apart || !method.like);

/** A method, or the one whose column it shares. */
export const ownMethod = (key: string, apart: boolean) => (!apart && methodOf(key).like) || key;

/** Name of the class at a place among an image's explained ones. */
export const classOf = (image: ImageRecord, rank: number) =>
  report.classes[image.targets[rank]] ?? "";

/** In place of a class's place: each image's most probable class, as far as it is explained. */
export const PREDICTED = -1;

/** Place of a class among an image's explained ones. */
export function rankIn(index: number, rank: number) {
  if (rank !== PREDICTED) return rank;
  const top = report.images.top[placeOf(index)]?.[0]?.[0];
  return Math.max(0, (images.get(index)?.targets ?? report.sameClasses ?? []).indexOf(top));
}

export const idText = (id: CellId) => `${id.image}.${id.rank}.${id.method}.${id.layer}`;

export function idOf(text: string): CellId {
  const [image, rank, method, ...layer] = text.split(".");
  return { image: Number(image), rank: Number(rank), method, layer: layer.join(".") };
}
