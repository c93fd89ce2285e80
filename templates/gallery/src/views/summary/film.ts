// From the first layer to the last at one height: the depth of a network as a strip of film.
import { data, report, state } from "../../app";
import { bytesOf } from "../../data/bytes";
import type { MeanMap, MethodFacts } from "../../data/types";
import { availability, layerList } from "../../maps/availability";
import { cellButton } from "../../maps/cell";
import { SIDES } from "../../maps/frames";
import { OPAQUE, enlarge, indices, paint } from "../../maps/heat";
import { bdi, h, keepFocus } from "../../parts/dom";
import { enableRoving } from "../../parts/roving";
import { layerName, t } from "../../parts/words";
import { linkTo } from "../../state/history";
import { APPEARANCE, concerns } from "../../state/state";
import type { View } from "../view";
import { className, leadToImage, part } from "./said";

/** Most rows of a film. */
const MAX_ROWS = 6;

/** Pixels of a side of a mean map. */
const MEAN_SIDE = 96;

/** Names of maps that stand for all layers. */
const OF_ALL = ["fused", "input"];

/** Methods with maps of layers, in columns of their own. */
const methods = () => data.ownMethods(state.apart).filter((method) => method.perLayer);

/** Layers in the order of the network, the fused maps last. */
const layers = () => layerList().filter((layer) => layer !== "input");

/** The film of the chosen image and class. */
export function filmView(): View {
  const root = h(".depth", film());
  return {
    root,
    uses: [...APPEARANCE, "rank"],
    update(changed) {
      if (concerns(changed, "image", "rank"))
        keepFocus(root, () => root.replaceChildren(film() ?? ""));
      return true;
    },
  };
}

/** The chosen image's maps of the chosen class, a row for each method. */
function film() {
  const { image, run, rank } = state;
  const known = data.knownImage(image);
  if (!known) return null;
  const own = data.rankIn(image, rank);
  const rows = methods().slice(0, MAX_ROWS);
  const chosen = h(
    "p.images",
    ...report.images.index.map(imageLink),
    h("span.of", bdi(className(known.targets[own]))),
    h("a", leadToImage(image), t("summary.film.all")),
  );
  const cell = (method: MethodFacts) => (layer: string) => {
    const there = availability(method.key, layer) === "map";
    const id = { image, run, rank: own, method: method.key, layer };
    return h("td", there ? cellButton(id, { side: SIDES.tile, caption: false }) : "–");
  };
  const lines = rows.map((method) => row(method.name, layers().map(cell(method))));
  return part("film", chosen, strip(lines));
}

/** What shows the film of an image. */
const imageLink = (index: number) =>
  h(
    "a",
    { ...linkTo({ image: index }), "aria-current": index === state.image && "true" },
    bdi(report.images.file[data.placeOf(index)]),
  );

const row = (name: string, cells: HTMLElement[]) =>
  h("tr", h("th", { scope: "row" }, bdi(name)), ...cells);

/** A layer's name, and below it the address that the findings use. */
function layerHead(layer: string) {
  const [name] = layerName(layer).split(" · ");
  const address = name !== layer && !OF_ALL.includes(layer) && h("code", layer);
  return h("th", { scope: "col" }, bdi(name), address);
}

/**
 * A table of maps; with several groups, each has all layers.
 * @param more of the frame that it scrolls in
 */
function strip(rows: HTMLElement[], groups: string[] = [], more: Record<string, string> = {}) {
  const names = groups.map((name) =>
    h("th", { scope: "colgroup", colSpan: layers().length }, bdi(name)),
  );
  const heads = (groups.length ? groups : [""]).flatMap(() => layers().map(layerHead));
  const table = h(
    "table.frames",
    h("caption.visually-hidden", t("summary.film")),
    h("thead", names.length ? h("tr", h("td"), ...names) : null, h("tr", h("td"), ...heads)),
    h("tbody", ...rows),
  );
  table.style.setProperty("--maps", String(heads.length));
  enableRoving(table);
  return h(".scroller", { ...more }, table);
}

/** The mean maps over the images predicted as a class: classes side by side, methods below. */
export function meanFilm() {
  const { means } = report.summary;
  if (!means.length) return null;
  const targets = [...new Set(means.map((mean) => mean.target))];
  const painters: (() => void)[] = [];
  const cell = (method: string, layer: string, target: number) => {
    const own = means.find(
      (one) => one.method === method && one.layer === layer && one.target === target,
    );
    if (!own) return h("td", "–");
    const canvas = meanCanvas(own);
    painters.push(() => paintMean(canvas, own));
    return h("td", canvas);
  };
  const lines = [...new Set(means.map((mean) => mean.method))].map((method) => {
    const cells = targets.flatMap((target) => layers().map((layer) => cell(method, layer, target)));
    return row(data.methodOf(method).name, cells);
  });
  const redraw = () => painters.forEach((paint) => paint());
  redraw();
  const hint = h("p.hint", t("summary.means.words"));
  const frame = { tabindex: "0", role: "group", "aria-label": t("summary.means") };
  return { root: part("means", strip(lines, targets.map(className), frame), hint), redraw };
}

function meanCanvas({ method, layer, target, count }: MeanMap) {
  const words = t("summary.means.one", {
    method: data.methodOf(method).name,
    layer,
    name: className(target),
    count,
  });
  return h("canvas", { role: "img", "aria-label": words, title: words });
}

/** Colour a mean map, on no photograph. */
function paintMean(canvas: HTMLCanvasElement, { height, width, levels }: MeanMap) {
  const values = enlarge(bytesOf(levels), { height, width }, MEAN_SIDE, MEAN_SIDE, true);
  const table = data.tables[state.colormap];
  paint(canvas, indices(values, false, 1), MEAN_SIDE, MEAN_SIDE, {
    ...OPAQUE,
    table,
    signed: false,
  });
}
