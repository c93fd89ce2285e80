// Which images a query is about, and in what order they come.
import type { ImageColumns } from "../data/types";
import { isWithin, locatedOf } from "./located";
import type { Condition, Sign, Term } from "./parse";

/** A number of each image, by its place; null where it is not defined. */
export type Column = (place: number) => number | null;

/** What is asked: of runs that are compared, what became of each prediction, too. */
export type Columns = ImageColumns & { flip?: string[] };

/** What can be asked of an image at a place. */
export type Test = (place: number) => boolean;

/** The numbers that images have, by name: `p` is the probability of the predicted class. */
export function columnsOf({ top, numbers }: ImageColumns): Map<string, Column> {
  const found = new Map<string, Column>();
  if (top.some((predictions) => predictions.length))
    found.set("p", (place) => top[place][0]?.[1] ?? null);
  const known = Object.entries(numbers).filter(([, values]) => values.some((one) => one !== null));
  /** Those of an image, then its maps' areas, then the evidence. */
  const kind = (name: string) => (name.startsWith("area.") ? 1 : name.includes(".") ? 2 : 0);
  for (const [name, values] of known.sort(([one], [other]) => kind(one) - kind(other)))
    found.set(name, (place) => values[place]);
  return found;
}

const COMPARE: Record<Sign, (one: number, other: number) => boolean> = {
  "<": (one, other) => one < other,
  "<=": (one, other) => one <= other,
  ">": (one, other) => one > other,
  ">=": (one, other) => one >= other,
  "=": (one, other) => one === other,
};

/** A name as it is looked for: some systems write é as two characters. */
const plain = (text: string) => text.normalize("NFC").toLowerCase();

/** Whether an image's predicted class is its true one; null where that is not known. */
export function isRight({ label, top }: ImageColumns, place: number) {
  const first = top[place][0];
  return label[place] === null || !first ? null : first[0] === label[place];
}

/** What all terms of a query ask together; those with a mistake ask nothing. */
export function matcher(terms: readonly Term[], images: Columns): Test {
  const columns = columnsOf(images);
  const tests = terms.flatMap(({ asks }) => ("kind" in asks ? [test(asks, images, columns)] : []));
  return (place) => tests.every((passes) => passes(place));
}

function test(condition: Condition, images: Columns, columns: Map<string, Column>): Test {
  const { file, label, top } = images;
  if (condition.kind === "name") {
    const wanted = condition.parts.map(plain);
    return (place) => {
      const name = plain(file[place]);
      return wanted.some((part) => name.includes(part));
    };
  }
  if (condition.kind === "right") {
    const wanted: (boolean | null)[] = condition.values;
    return (place) => wanted.includes(isRight(images, place));
  }
  if (condition.kind === "flip") {
    const { values } = condition;
    return (place) => values.includes(images.flip?.[place] ?? "");
  }
  if (condition.kind === "number") {
    const { name, sign, value } = condition;
    const column = columns.get(name);
    return (place) => {
      const own = column?.(place) ?? null;
      return own !== null && COMPARE[sign](own, value);
    };
  }
  const located = locatedOf(images);
  if (condition.kind === "cluster")
    return (place) =>
      condition.clusters.some(
        ({ targets, number, by }) =>
          located?.clusters[by].get(place) === number && targets.includes(top[place][0]?.[0]),
      );
  if (condition.kind === "lasso") {
    const points = located?.planes[condition.plane];
    return (place) => {
      const point = points?.get(place);
      return point !== undefined && isWithin(point, condition.outline);
    };
  }
  const wanted = new Set<number | null | undefined>(condition.classes);
  return condition.kind === "class"
    ? (place) => wanted.has(top[place][0]?.[0])
    : (place) => wanted.has(label[place]);
}
