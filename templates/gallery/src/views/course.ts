// What the figures of a coursework show.
import { data, report, state } from "../app";
import type { ImageRecord } from "../data/dataset";
import type { MethodFacts } from "../data/types";
import { availability, layersOf } from "../maps/availability";
import { cellButton } from "../maps/cell";
import { photoOf } from "../maps/frames";
import { bdi, h, parted } from "../parts/dom";
import { className, listed, probability, t } from "../parts/words";

/** Most classes beside the photograph: on paper their maps are almost 40 mm wide. */
const MAX_CLASSES = 3;

interface Row {
  name: Node | string;
  cells: (Node | string)[];
}

/** A table of maps; `key` names its caption. */
export interface CourseTable {
  key: string;
  caption: string;
  head: string[];
  /** The photograph that all rows are of, in a column before them. */
  original?: Node;
  rows: Row[];
}

const classMethods = () => data.ownMethods(state.apart).filter((method) => method.classSpecific);

/** Original and each class, layer by layer: a table for each method, or several of few classes. */
export function classTables(image: ImageRecord) {
  const parts = parted([...image.targets.keys()], Math.ceil(report.ranks / MAX_CLASSES));
  return classMethods().flatMap((method) => parts.map((ranks) => classTable(image, method, ranks)));
}

function classTable(image: ImageRecord, method: MethodFacts, ranks: number[]): CourseTable {
  const layers = layersOf(method.key);
  const classes = ranks.map((rank) => ({
    name: className(image, rank),
    probability: probability(image.probabilities[rank]),
  }));
  return {
    key: ["classes", image.index, method.key, ...ranks.slice(0, 1).filter(Boolean)].join("."),
    caption: t(layers.length > 1 ? "tables.classes.caption" : "tables.classes.one", {
      image: image.file,
      method: method.name,
      classes: listed(ranks.map((rank) => data.classOf(image, rank))),
      layer: layers[0],
    }),
    head: [
      t("tables.layer"),
      ...classes.map(({ name, probability }) => t("tables.classHead", { name, probability })),
    ],
    original: photoOf(image.index),
    rows: layers.map((layer) => ({
      name: h("code", layer),
      cells: ranks.map((rank) => map(image, rank, method.key, layer)),
    })),
  };
}

/** Original, Grad-CAM, LayerCAM for the predicted class at the last layer, image by image. */
export function methodTable(images: ImageRecord[]): CourseTable[] {
  const layer = report.layers[report.layers.length - 1].address;
  const own = data.ownMethods(state.apart);
  const usual = own.filter((method) => ["grad_cam", "layer_cam"].includes(method.key));
  const there = own.filter((method) => availability(method.key, layer) === "map");
  const methods = usual.length ? usual : there.slice(0, 2);
  if (!methods.length || !images.length) return [];
  const names = methods.map((method) => method.name);
  return [
    {
      key: `methods.${images[0].index}`,
      caption: t("tables.methods.caption", { methods: listed(names), layer }),
      head: [t("tables.image"), t("original"), ...names],
      rows: ofPredicted(
        images,
        methods.map(({ key }) => [key, layer]),
      ),
    },
  ];
}

/** The last pooling and the last layer before it; null where there is no such pair. */
export function lastPooling() {
  const { layers } = report;
  const pooling = layers.map((layer) => /pool/i.test(layer.type));
  const pool = pooling.lastIndexOf(true);
  const before = pooling.slice(0, Math.max(pool, 0)).lastIndexOf(false);
  return pool < 0 || before < 0 ? null : { before: layers[before], pool: layers[pool] };
}

/** The last layer before a pooling against that pooling, for the predicted class. */
export function depthTables(images: ImageRecord[]): CourseTable[] {
  const pair = lastPooling();
  if (!pair || !images.length) return [];
  const { address: layer, type } = pair.before;
  const pool = pair.pool.address;
  return classMethods()
    .filter(({ key }) => [layer, pool].every((at) => availability(key, at) === "map"))
    .map((method) => ({
      key: `depth.${images[0].index}.${method.key}`,
      caption: t("tables.depth.caption", { method: method.name, layer, type, pool }),
      head: [
        t("tables.image"),
        t("original"),
        t("tables.before", { layer, type }),
        t("tables.pool", { layer: pool }),
      ],
      rows: ofPredicted(images, [
        [method.key, layer],
        [method.key, pool],
      ]),
    }));
}

/** A row for each image: its photograph, and maps of its predicted class. */
function ofPredicted(images: ImageRecord[], maps: [method: string, layer: string][]): Row[] {
  return images.map((image) => {
    const rank = predicted(image);
    const cells = maps.map(([method, layer]) => map(image, rank, method, layer));
    return { name: nameAndClass(image, rank), cells: [photoOf(image.index), ...cells] };
  });
}

/** Place of the most probable class among the explained ones. */
function predicted(image: ImageRecord) {
  const [top] = data.topOf(image.index) ?? [-1];
  return Math.max(0, image.targets.indexOf(top));
}

function nameAndClass(image: ImageRecord, rank: number) {
  const words = `${data.classOf(image, rank)} ${probability(image.probabilities[rank])}`;
  return h("span", bdi(image.file), h("span.hint", bdi(words)));
}

function map(image: ImageRecord, rank: number, method: string, layer: string) {
  const id = { image: image.index, run: image.run, rank, method, layer };
  return data.camOf(image, id) ? cellButton(id) : "–";
}
