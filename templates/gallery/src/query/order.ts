// In what order images come, and in which groups.
import type { ImageColumns } from "../data/types";
import { columnsOf, isRight } from "./match";

/** By a number from its lowest value up or from its highest down, or by what is no number. */
export type Sort = "order" | "name" | "class" | `${string}.up` | `${string}.down`;

export type Grouping = "none" | "class" | "outcome";

/** Images of one predicted class, or of one cell of the confusion matrix; their places in order. */
export interface Group {
  predicted: number | null;
  label: number | null;
  right: boolean | null;
  places: number[];
}

type Order = (one: number, other: number) => number;

/** All orders that images can have. */
export const sortsOf = (images: ImageColumns): Sort[] => [
  "order",
  "name",
  "class",
  ...[...columnsOf(images).keys()].flatMap((name): Sort[] => [`${name}.up`, `${name}.down`]),
];

/** The number that an order follows, and whether its lowest values come first. */
export function numberOf(sort: Sort) {
  const [, name, way] = /^(.+)\.(up|down)$/.exec(sort) ?? [];
  return name ? { name, up: way === "up" } : null;
}

/** By a number; those that have none come last. */
function byNumber(images: ImageColumns, name: string, up: boolean): Order {
  const column = columnsOf(images).get(name) ?? (() => null);
  return (a, b) => {
    const [one, other] = [column(a), column(b)];
    if (one === null || other === null) return Number(one === null) - Number(other === null);
    return up ? one - other : other - one;
  };
}

/** How places are compared. */
export function orderOf(images: ImageColumns, sort: Sort): Order {
  const { file, top } = images;
  const number = numberOf(sort);
  if (number) return byNumber(images, number.name, number.up);
  if (sort === "name") {
    const { compare } = new Intl.Collator(undefined, { numeric: true });
    return (a, b) => compare(file[a], file[b]);
  }
  if (sort === "order") return () => 0;
  const first = (place: number) => top[place][0]?.[0] ?? -1;
  const confident = byNumber(images, "p", false);
  return (a, b) => first(a) - first(b) || confident(a, b);
}

/** The mistakes first, the most frequent before the others, then what is right, then the rest. */
function outcomes(one: Group, other: Group) {
  const rank = ({ right }: Group) => [false, true, null].indexOf(right);
  return rank(one) - rank(other) || other.places.length - one.places.length;
}

/** Places in groups; each keeps their order. */
export function grouped(images: ImageColumns, places: number[], by: Grouping): Group[] {
  const groups = new Map<string, Group>();
  for (const place of places) {
    const predicted = images.top[place][0]?.[0] ?? null;
    const label = by === "outcome" ? images.label[place] : null;
    const key = by === "none" ? "" : `${predicted} ${label}`;
    const right = by === "outcome" ? isRight(images, place) : null;
    const group = groups.get(key) ?? { predicted, label, right, places: [] };
    groups.set(key, group);
    group.places.push(place);
  }
  const found = [...groups.values()];
  if (by === "outcome") return found.sort(outcomes);
  return found.sort((one, other) => (one.predicted ?? -1) - (other.predicted ?? -1));
}
