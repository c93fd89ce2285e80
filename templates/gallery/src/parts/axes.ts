// The axes of the tables: their values, and the names of these.
import { data, report, state } from "../app";
import type { CellId } from "../data/cells";
import { CONTRAST } from "../data/dataset";
import { layerList } from "../maps/availability";
import { chosenImages, pageOf } from "../state/selection";
import { type Axis, type State, axesOfImage } from "../state/state";
import { className, layerName, rankName, runName } from "./words";

/** Most images on one axis at a time. */
export const MAX_IMAGES_ON_AXIS = 20;

/** Most images of a summary that ends in the table of one image's maps. */
const MAX_WITH_MATRIX = 3;

/** Whether the view has the table of maps: a view of its own, and the summary of very few images. */
export const showsMatrix = () =>
  state.view === "matrix" ||
  (state.view === "summary" && report.images.index.length <= MAX_WITH_MATRIX);

/** The axes in the order in which a caption names them. */
export const axes = (): Axis[] => [
  "image",
  ...(data.runs.length ? (["run"] as const) : []),
  "class",
  "method",
  "layer",
];

/** The state's field that holds the fixed value of an axis. */
export const FIELD: Record<Axis, keyof CellId> = {
  run: "run",
  image: "image",
  class: "rank",
  method: "method",
  layer: "layer",
};

export function valuesOf(axis: Axis): (string | number)[] {
  if (axis === "layer") return layerList();
  if (axis === "method") return data.ownMethods(state.apart).map((method) => method.key);
  if (axis === "class") return data.classPlaces(ofOneImage() ? state.image : null);
  if (axis === "run") return runPlaces();
  return pageOf(chosenImages(), MAX_IMAGES_ON_AXIS);
}

/** The runs; between two, what the second one has more. */
const runPlaces = () => [...data.runs.keys(), ...(data.runs.length === 2 ? [-1] : [])];

/** Whether one image is looked at, so that what is known of it holds for the whole table. */
export const ofOneImage = () => state.rows !== "image" && state.columns !== "image";

/** @param fixed the values of the axes that are not shown */
export function nameOf(axis: Axis, value: string | number, fixed: CellId) {
  if (axis === "layer") return layerName(String(value));
  if (axis === "method") return data.methodOf(String(value)).name;
  if (axis === "run") return runName(Number(value));
  if (axis === "image") return report.images.file[data.placeOf(Number(value))];
  const image = data.knownImage(fixed.image);
  if (!image || !ofOneImage()) return rankName(Number(value));
  const rank = Number(value);
  return className(image, rank === CONTRAST ? rank : data.rankIn(image.index, rank));
}

/** Show a row or column across all images; of an image all its maps. */
export function focusOn(axis: Axis, value: string | number): Partial<State> {
  if (axis === "image") return { image: Number(value), ...axesOfImage(data, state.apart) };
  const shown = state;
  const other = shown.rows === axis ? shown.columns : shown.rows;
  const columns = other === "image" ? (axis === "layer" ? "method" : "layer") : other;
  const beside = [axis, "image", columns].includes(shown.beside) ? "none" : shown.beside;
  return { [FIELD[axis]]: value, rows: "image", columns, beside, page: 0 };
}
