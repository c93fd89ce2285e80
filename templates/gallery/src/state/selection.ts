// Which images are chosen, and in what order.
import { report, state } from "../app";
import { FLIPS } from "../data/dataset";
import { type Columns, columnsOf, matcher } from "../query/match";
import { type Group, grouped, orderOf } from "../query/order";
import { type Vocabulary, parse } from "../query/parse";
import { rewrite } from "../query/write";
import { FILTER, type State, pick } from "./state";

export type Filter = Pick<State, (typeof FILTER)[number]>;

type Known = { classes: string[]; images: Columns };

/** What queries can ask of a report's images. */
export const vocabularyOf = ({ classes, images }: Known): Vocabulary => ({
  classes,
  numbers: [...columnsOf(images).keys()],
  ...(images.flip ? { flips: FLIPS } : {}),
});

/** Places of the images that a query asks for. */
export function places(known: Known, query: string) {
  const terms = parse(query, vocabularyOf(known));
  return [...known.images.index.keys()].filter(matcher(terms, known.images));
}

/** The images that pass a filter, in its order and groups. */
export function selected(known: Known, { query, sort, group }: Filter): Group[] {
  const found = places(known, query).sort(orderOf(known.images, sort));
  return grouped(known.images, found, group);
}

interface Chosen {
  groups: Group[];
  /** Their indices, group after group. */
  images: number[];
}

/** The images last chosen, and by what filter. */
let last: Chosen & { filter: string } = { filter: "", groups: [], images: [] };

/** The images that pass the present filter. */
function chosen(): Chosen {
  const filter = JSON.stringify(pick(state, [...FILTER, "run"]));
  if (last.filter === filter) return last;
  const groups = selected(report, state);
  const { index } = report.images;
  const images = groups.flatMap((group) => group.places.map((place) => index[place]));
  last = { filter, groups, images };
  return last;
}

/** Indices of the images that pass the present filter, in its order. */
export const chosenImages = () => chosen().images;

/** The same in groups. */
export const chosenGroups = () => chosen().groups;

/** The present query with other terms in the place of those that a control owns. */
export const queryWith = (owns: Parameters<typeof rewrite>[2], ...terms: string[]) =>
  rewrite(state.query, vocabularyOf(report), owns, ...terms);

/** The page in view among pages of so many images, from 0. */
export const pageAmong = (count: number, length: number) =>
  Math.min(state.page, Math.max(0, Math.ceil(count / length) - 1));

/** Those of the present page. */
export function pageOf(images: number[], length: number) {
  const page = pageAmong(images.length, length);
  return images.slice(page * length, (page + 1) * length);
}
