// What a table holds: groups of rows, columns, and what stands where they meet.
import { data, state } from "../../app";
import type { CellId } from "../../data/cells";
import { CONTRAST, PREDICTED } from "../../data/dataset";
import { availability, layerFor, layerList, shortReason } from "../../maps/availability";
import { FIELD, ofOneImage, valuesOf } from "../../parts/axes";
import { t } from "../../parts/words";
import type { Axis } from "../../state/state";
import { shownMethods } from "./methods";

export type Value = string | number;

/** What stands in a place of the table; a map of the whole network is one for all layers. */
export type Slot =
  { kind: "map" | "whole"; id: CellId } | { kind: "none"; word: string; reason: string };

interface Row {
  value: Value;
  slots: Slot[];
}

/** The rows for one value of the third axis; null where there is none. */
export interface Group {
  value: Value | null;
  fixed: CellId;
  rows: Row[];
}

export interface Plan {
  columns: Value[];
  groups: Group[];
}

/** Whether an axis lies anywhere in the table. */
export const isOnTable = (axis: Axis) => [state.rows, state.columns, state.beside].includes(axis);

/** The values of the state: those of the axes that are not on the table hold for all of it. */
function chosenCell(): CellId {
  const { image, run, rank, method, layer } = state;
  return { image, run, rank, method, layer };
}

export function planOf(): Plan {
  const { rows, columns, beside } = state;
  const across = shownValues(columns);
  const groups = (beside === "none" ? [null] : shownValues(beside)).map((value): Group => {
    const fixed = chosenCell();
    if (beside !== "none" && value !== null) Object.assign(fixed, { [FIELD[beside]]: value });
    const slotAt = (down: Value, along: Value) =>
      slotOf({ ...fixed, [FIELD[rows]]: down, [FIELD[columns]]: along });
    const line = (down: Value) => ({ value: down, slots: across.map((one) => slotAt(down, one)) });
    return { value, fixed, rows: shownValues(rows).map(line) };
  });
  return { columns: across, groups };
}

/** The values of an axis that are shown, in their order. */
function shownValues(axis: Axis): Value[] {
  if (axis === "method") return shownMethods();
  if (axis === "layer") return shownLayers();
  return axis === "class" ? shownClasses() : valuesOf(axis);
}

/** The layers at which a shown method has maps; "input" where all maps are of the whole network. */
function shownLayers() {
  const methods = (isOnTable("method") ? shownMethods() : [state.method]).map((key) =>
    data.methodOf(key),
  );
  if (!methods.some((method) => method.perLayer)) return ["input"];
  const fuses = methods.some(({ key }) => availability(key, "fused") === "map");
  return layerList().filter((layer) => layer !== "input" && (layer !== "fused" || fuses));
}

/** The explained classes; of one image its prediction comes first. */
export function shownClasses() {
  const ranks = valuesOf("class").map(Number);
  if (!ofOneImage() || isOnTable("image")) return ranks;
  const first = data.rankIn(state.image, PREDICTED);
  return [first, ...ranks.filter((rank) => rank !== first)];
}

/** What stands in the place of a map. */
function slotOf(asked: CellId): Slot {
  const { perLayer } = data.methodOf(asked.method);
  const layer = isOnTable("layer") ? asked.layer : layerFor(asked.method, asked.layer);
  const contrast = asked.rank === CONTRAST;
  const rank = contrast ? CONTRAST : data.rankIn(asked.image, asked.rank);
  const id = { ...asked, layer, rank };
  if (!perLayer) return { kind: "whole", id: { ...id, layer: "input" } };
  const there = availability(id.method, layer, id.run);
  const image = data.knownImage(id.image, id.run);
  if (there === "map" && contrast && image && !data.camOf(image, id))
    return { kind: "none", word: t("truth.none"), reason: t("compare.noDifference") };
  if (there === "map") return { kind: "map", id };
  if (there === "absent") return { kind: "none", word: "–", reason: t("cell.notFused") };
  return { kind: "none", word: shortReason(id.method, layer, id.run), reason: there };
}
