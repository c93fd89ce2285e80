// Which images pass the filter, and in what order.
import { report } from "../data/dataset";
import { state } from "./state";

let chosen: { key: string; images: number[] } = { key: "", images: [] };

/** Indices of the images that pass the filter, in the chosen order. */
export function chosenImages() {
  const { text, predicted, low, high, judged, sort } = state;
  const key = JSON.stringify([text, predicted, low, high, judged, sort]);
  if (chosen.key === key) return chosen.images;
  const { index, file, top, label } = report.images;
  const wanted = text.toLowerCase();
  const places = index
    .map((_, place) => place)
    .filter((place) => {
      const [first] = top[place];
      const share = (first?.[1] ?? 0) * 100;
      const right = label[place] === null ? null : first?.[0] === label[place];
      return (
        file[place].toLowerCase().includes(wanted) &&
        (predicted < 0 || first?.[0] === predicted) &&
        share >= low &&
        share <= high &&
        (judged === "all" || right === (judged === "right"))
      );
    });
  const confidence = (place: number) => top[place][0]?.[1] ?? -1;
  const orders = {
    order: () => 0,
    name: (a: number, b: number) => file[a].localeCompare(file[b], undefined, { numeric: true }),
    confident: (a: number, b: number) => confidence(b) - confidence(a),
    doubtful: (a: number, b: number) => confidence(a) - confidence(b),
    class: (a: number, b: number) =>
      (top[a][0]?.[0] ?? -1) - (top[b][0]?.[0] ?? -1) || confidence(b) - confidence(a),
  };
  places.sort(orders[sort]);
  chosen = { key, images: places.map((place) => index[place]) };
  return chosen.images;
}

/** Those of the present page. */
export function pageOf(images: number[], length: number) {
  const page = Math.min(state.page, Math.max(0, Math.ceil(images.length / length) - 1));
  return images.slice(page * length, (page + 1) * length);
}
