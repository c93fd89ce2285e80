// Which images pass the filter, and in what order.
import { data, store } from "../app";
import type { ImageColumns } from "../data/types";
import { FILTER, type State, pick } from "./state";

export type Filter = Pick<State, (typeof FILTER)[number]>;

type Order = (one: number, other: number) => number;

/** Indices of the images that pass a filter, in its order. */
export function selected(images: ImageColumns, filter: Filter) {
  const { index, file, top, label } = images;
  const { predicted, low, high, judged } = filter;
  const wanted = filter.text.toLowerCase();
  const passes = (place: number) => {
    const [first] = top[place];
    const percent = (first?.[1] ?? 0) * 100;
    const right = label[place] === null ? null : first?.[0] === label[place];
    return (
      file[place].toLowerCase().includes(wanted) &&
      (predicted < 0 || first?.[0] === predicted) &&
      percent >= low &&
      percent <= high &&
      (judged === "all" || right === (judged === "right"))
    );
  };
  const places = [...index.keys()].filter(passes).sort(orders(images)[filter.sort]);
  return places.map((place) => index[place]);
}

/** How places are compared for each order. */
function orders({ file, top }: ImageColumns): Record<State["sort"], Order> {
  const confidence = (place: number) => top[place][0]?.[1] ?? -1;
  const first = (place: number) => top[place][0]?.[0] ?? -1;
  const confident: Order = (a, b) => confidence(b) - confidence(a);
  return {
    order: () => 0,
    name: (a, b) => file[a].localeCompare(file[b], undefined, { numeric: true }),
    confident,
    doubtful: (a, b) => confident(b, a),
    class: (a, b) => first(a) - first(b) || confident(a, b),
  };
}

/** The images last chosen, and by what filter. */
let last: { filter: string; images: number[] } = { filter: "", images: [] };

/** Indices of the images that pass the present filter, in its order. */
export function chosenImages() {
  const filter = JSON.stringify(pick(store.state, FILTER));
  if (last.filter !== filter) last = { filter, images: selected(data.report.images, store.state) };
  return last.images;
}

/** The page in view among pages of so many images, from 0. */
export const pageAmong = (count: number, length: number) =>
  Math.min(store.state.page, Math.max(0, Math.ceil(count / length) - 1));

/** Those of the present page. */
export function pageOf(images: number[], length: number) {
  const page = pageAmong(images.length, length);
  return images.slice(page * length, (page + 1) * length);
}
