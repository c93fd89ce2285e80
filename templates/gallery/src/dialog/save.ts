// One map as a file: a figure with its caption and its colour bar.
import { data, state } from "../app";
import type { CellId } from "../data/cells";
import { CONTRAST, type ImageRecord } from "../data/dataset";
import type { CamCell } from "../data/types";
import { composite, mapLayer } from "../maps/composite";
import { absence, contrastWords, scaleWords } from "../maps/describe";
import { ZERO } from "../maps/heat";
import { isDrawn, longSide, regionColour, scaleOf, tableName } from "../maps/look";
import { h } from "../parts/dom";
import { paintColours } from "../parts/legend";
import { className, layerIn, number, prose, runName, t } from "../parts/words";
import { FIGURE_SIDE, FONTS, type Figure, type Measure, layOutFigure } from "./figure";
import { type Layers, svgOf } from "./svg";

/** Pixels of a saved picture for each of the figure's own. */
const DENSITY = 2;

/** How long a file's address stays valid, in milliseconds. */
const HANDED_OVER = 1000;

type Context = CanvasRenderingContext2D;

const contextOf = (canvas: HTMLCanvasElement) => canvas.getContext("2d") as Context;

const fontOf = (size: number, bold: boolean) => `${bold ? 700 : 400} ${size}px ${FONTS}`;

/** The address of a map's layer in its run. */
const ownLayer = ({ layer, run }: CellId) => data.runs[Math.abs(run)]?.layers[layer] ?? layer;

/** Image, class, method and layer of a map. */
export function titleOf(id: CellId, image: ImageRecord) {
  const { classSpecific, name } = data.methodOf(id.method);
  const ofClass = classSpecific ? className(image, id.rank) : t("class.any");
  const scrambled = data.network === "scrambled" ? [t("network.scrambled")] : [];
  const run = data.runs.length ? [runName(id.run)] : [];
  return [image.file, ...run, ofClass, name, ownLayer(id), ...scrambled].join(" · ");
}

/** What a layer is called beside its address, and the run. */
export const detailsOf = ({ layer, run }: CellId) =>
  [layerIn(layer, run), prose().run].filter((name) => name !== layer).join(t("list"));

/** Values at both ends of a map's colours. */
export function endsOf(image: ImageRecord, cam: CamCell): [from: string, to: string] {
  const largest = scaleOf(image, cam);
  return [number(cam.signed ? -largest : cam.base), number(cam.base + largest)];
}

/** A map laid out as a figure. */
function figureOf(id: CellId, image: ImageRecord): Figure {
  const cam = data.camOf(image, id);
  const context = contextOf(h("canvas"));
  const measure: Measure = (text, size, bold) => {
    context.font = fontOf(size, bold);
    return context.measureText(text).width;
  };
  const said = {
    title: titleOf(id, image),
    ends: isDrawn(cam) ? endsOf(image, cam) : null,
    caption: [
      ...(cam?.picture ? [t("cell.picture")] : []),
      ...(cam?.state === "positive" ? [] : [absence(id, cam)]),
      ...(id.rank === CONTRAST ? [contrastWords(image, cam)] : []),
      ...(id.run < 0 ? [t("runs.scale")] : []),
      ...(isDrawn(cam) ? [scaleWords()] : []),
      detailsOf(id),
    ],
  };
  return layOutFigure(image.width / image.height, said, measure);
}

/** Hand a map over as a picture. */
export async function savePng(id: CellId, image: ImageRecord) {
  const figure = figureOf(id, image);
  const canvas = h("canvas", { width: figure.width * DENSITY, height: figure.height * DENSITY });
  const context = contextOf(canvas);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(
    await pictureOf(id, image),
    figure.picture.x * DENSITY,
    figure.picture.y * DENSITY,
  );
  context.scale(DENSITY, DENSITY);
  drawWords(context, figure, data.camOf(image, id));
  canvas.toBlob((blob) => blob && handOver(blob, `${fileName(id, image)}.png`));
}

/** The photograph with its map, in the figure's size. */
async function pictureOf(id: CellId, image: ImageRecord) {
  const canvas = composite(image, id, FIGURE_SIDE * DENSITY);
  const address = data.camOf(image, id)?.picture;
  if (!address || state.show === "photo") return canvas;
  const picture = h("img", { src: address });
  await picture.decode();
  const [left, top, right, bottom] = image.seen;
  const { width, height } = canvas;
  const size = [(right - left) * width, (bottom - top) * height] as const;
  contextOf(canvas).drawImage(picture, left * width, top * height, ...size);
  return canvas;
}

function drawWords(context: Context, { bar, lines }: Figure, cam: CamCell | undefined) {
  if (bar && cam) {
    const colours = h("canvas");
    paintColours(colours, tableName(cam));
    context.drawImage(colours, bar.x, bar.y, bar.width, bar.height);
  }
  context.fillStyle = "#17201e";
  for (const { text, x, y, size, bold } of lines) {
    context.font = fontOf(size, bold);
    context.fillText(text, x, y);
  }
}

/** Hand a map over as a drawing. */
export function saveSvg(id: CellId, image: ImageRecord) {
  const text = svgOf(figureOf(id, image), titleOf(id, image), layersOf(id, image));
  handOver(new Blob([text], { type: "image/svg+xml" }), `${fileName(id, image)}.svg`);
}

function layersOf(id: CellId, image: ImageRecord): Layers {
  const { show, grey } = state;
  const cam = data.camOf(image, id);
  const there = cam?.state === "positive";
  const alone = show === "heat" && isDrawn(cam);
  const picture = show === "photo" ? null : (cam?.picture ?? null);
  return {
    photo: alone ? null : image.photo,
    pale: { grey: grey || !there, opacity: there ? 1 : 0.35 },
    seen: image.seen,
    regions: (state.boxes ? image.regions : []).map(([left, top, right, bottom, target]) => ({
      box: [left, top, right, bottom],
      colour: regionColour(target),
    })),
    map: isDrawn(cam) ? mapLayer(image, cam, longSide(image)).toDataURL() : picture,
    colours: isDrawn(cam)
      ? { table: data.tables[tableName(cam)], count: cam.signed ? 2 * ZERO + 1 : 256 }
      : null,
  };
}

function handOver(blob: Blob, name: string) {
  const address = URL.createObjectURL(blob);
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), HANDED_OVER);
}

/** Name of a map's file, without its ending: image, class, method, layer and run. */
function fileName(id: CellId, image: ImageRecord) {
  const ofClass = id.rank === CONTRAST ? "contrast" : `class${image.targets[id.rank]}`;
  const named = [ofClass, plain(data.classOf(image, id.rank))];
  const { classSpecific } = data.methodOf(id.method);
  const classes = classSpecific ? named.filter(Boolean).join("-") : "any-class";
  const file = plain(image.file.replace(/\.[^.]*$/, "")) || `image${image.index + 1}`;
  const { network } = data;
  const drawn = [
    id.method.replace(":", "-"),
    plain(id.layer),
    network === "trained" ? "" : network,
  ];
  const parts = [file, classes, ...drawn, plain(id.run ? runName(id.run) : ""), plain(prose().run)];
  return parts.filter(Boolean).join("_");
}

/** Short ASCII of a name, for a file. */
const plain = (text: string) =>
  text
    .normalize("NFKD")
    .replace(/[^A-Za-z0-9.]+/g, "-")
    .replace(/^[-.]+|[-.]+$/g, "")
    .slice(0, 40);
