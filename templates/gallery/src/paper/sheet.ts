// An image's table of maps on paper.
import { data, state } from "../app";
import type { ImageRecord } from "../data/dataset";
import { availability, shortReason, layerList } from "../maps/availability";
import { composite } from "../maps/composite";
import { absence, peakOf, scores } from "../maps/describe";
import { SIDES } from "../maps/frames";
import { valuesOf } from "../parts/axes";
import { bdi, h, parted } from "../parts/dom";
import { className, layerDetails, layerName, methodDetails, runName, t } from "../parts/words";

/** Most columns of a table: maps 40 mm wide that lie beside each other on a sheet of paper. */
const MAX_COLUMNS = 4;

/** A method's maps of one class; of none where `rank` is null. */
export interface Column {
  rank: number | null;
  method: string;
  run: number;
}

/** Columns of an image's tables: all classes in one where they fit. */
export function columnsOf(image: ImageRecord): Column[][] {
  const own = data.ownMethods(state.apart);
  const runs = data.runs.length ? valuesOf("run").map(Number) : [0];
  const columnsAt = (rank: number | null): Column[] =>
    own
      .filter((method) => method.classSpecific === (rank !== null))
      .flatMap(({ key }) => runs.map((run) => ({ rank, method: key, run })));
  const groups = [...image.targets.keys(), null].map(columnsAt);
  const all = groups.flat();
  if (all.length <= MAX_COLUMNS) return [all];
  const layered = (column: Column) => data.methodOf(column.method).perLayer;
  return groups.flatMap((columns) => [
    ...cut(columns.filter(layered)),
    ...cut(columns.filter((column) => !layered(column))),
  ]);
}

/** Parts that fit on a sheet. */
const cut = (columns: Column[]) => parted(columns, Math.ceil(columns.length / MAX_COLUMNS));

export function mapsTable(image: ImageRecord, columns: Column[]) {
  const layers = layerList().filter((layer) =>
    columns.some(({ method, run }) => availability(method, layer, run) === "map"),
  );
  const lines = layers.map((layer) => {
    const cells = columns.map((column) => h("td", ...cell(image, column, layer)));
    return h("tr", layerHead(layer), ...cells);
  });
  const table = h(
    "table.matrix",
    h("thead", classHeads(image, columns), methodHeads(columns)),
    h("tbody", ...lines),
  );
  table.style.setProperty("--columns", String(columns.length));
  table.style.setProperty("--rows", String(layers.length));
  table.style.setProperty("--aspect", String(image.width / image.height));
  return table;
}

/** A line of heads, each above the columns of one class. */
function classHeads(image: ImageRecord, columns: Column[]) {
  const ranks = [...new Set(columns.map((column) => column.rank))];
  const heads = ranks.map((rank) =>
    h(
      "th",
      { scope: "colgroup", colSpan: columns.filter((column) => column.rank === rank).length },
      bdi(rank === null ? t("class.any") : className(image, rank)),
      rank !== null && h("span", scores(image, rank)),
    ),
  );
  return h("tr", h("td.corner"), ...heads);
}

function methodHeads(columns: Column[]) {
  const heads = columns.map(({ method, run }) =>
    h(
      "th",
      { scope: "col" },
      data.methodOf(method).name,
      ...lines([...(data.runs.length ? [runName(run)] : []), ...methodDetails(method)]),
    ),
  );
  return h("tr", h("td.corner"), ...heads);
}

function layerHead(layer: string) {
  const name = layerName(layer);
  const address = name === layer ? [] : [layer];
  return h("th", { scope: "row" }, bdi(name), ...lines([...address, ...layerDetails(layer)]));
}

const lines = (details: string[]) => details.map((detail) => h("span", detail));

function cell(of: ImageRecord, { rank, method, run }: Column, layer: string): (Node | string)[] {
  const there = availability(method, layer, run);
  const image = data.knownImage(of.index, run) ?? of;
  if (there === "absent") return [layer === "fused" ? t("cell.apart") : "–"];
  if (there !== "map") return [shortReason(method, layer, run)];
  const id = { image: image.index, run, rank: rank ?? 0, method, layer };
  const cam = data.camOf(image, id);
  if (cam?.picture) return [h("img", { src: cam.picture, alt: "" })];
  const words = cam?.state === "positive" ? peakOf(cam) : absence(id, cam);
  const said = cam?.state !== "positive" || state.numbers;
  return [composite(image, id, SIDES.paper), ...(said ? [h("span.peak", words)] : [])];
}
