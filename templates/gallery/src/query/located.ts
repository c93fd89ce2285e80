// Where images lie among others: their clusters, and their places in a plane.
import type { Atlas, ImageColumns } from "../data/types";

/** Ways to lay images out, and what they may be alike by. */
export const PLANES = ["pca", "tsne"] as const;
export const KINDS = ["where", "what"] as const;

export type Plane = (typeof PLANES)[number];
export type Kind = (typeof KINDS)[number];

/** A corner of an outline; both from 0 to 1 across all points. */
export type Point = [x: number, y: number];

/** By place in the images' columns; what is not located is left out. */
export interface Located {
  clusters: Record<Kind, Map<number, number>>;
  planes: Record<Plane, Map<number, Point>>;
}

const known = new WeakMap<ImageColumns, Located>();

/** What is located of some images; null until it is there. */
export const locatedOf = (images: ImageColumns) => known.get(images) ?? null;

/** Coordinates from 0 to 1 along the longer side of all, the shorter one in the middle. */
export function fitted(points: number[][]): Point[] {
  const bounds = [0, 1].map((axis) => {
    let [least, most] = [Infinity, -Infinity];
    for (const point of points) {
      least = Math.min(least, point[axis]);
      most = Math.max(most, point[axis]);
    }
    return { middle: (least + most) / 2, length: most - least };
  });
  const side = Math.max(...bounds.map(({ length }) => length)) || 1;
  const along = (point: number[], axis: number) => (point[axis] - bounds[axis].middle) / side + 0.5;
  return points.map((point) => [along(point, 0), along(point, 1)]);
}

/** Keep where images lie. */
export function locate(images: ImageColumns, { points }: Atlas) {
  const places = new Map(images.index.map((index, place) => [index, place]));
  const shown = points.images.flatMap((index, i) => {
    const place = places.get(index);
    return place === undefined ? [] : ([[place, i]] as const);
  });
  const taken = <T>(values: T[]) => new Map(shown.map(([place, i]) => [place, values[i]]));
  known.set(images, {
    clusters: { where: taken(points.where), what: taken(points.what) },
    planes: {
      pca: taken(fitted(points.pca)),
      tsne: points.tsne ? taken(fitted(points.tsne)) : new Map(),
    },
  });
}

/** Digits of a coordinate in a query, and how many values they tell apart. */
const DIGITS = 2;
const BASE = 36;
const STEPS = BASE ** DIGITS - 1;

/** An outline as a query writes it: two digits of base 36 for each coordinate. */
export const outlineText = (outline: Point[]) =>
  outline
    .flat()
    .map((value) => Math.round(Math.min(Math.max(value, 0), 1) * STEPS))
    .map((step) => step.toString(BASE).padStart(DIGITS, "0"))
    .join("");

/** The outline that a query writes; null where it is none. */
export function outlineOf(text: string): Point[] | null {
  if (!/^([0-9a-z]{4}){3,}$/i.test(text)) return null;
  const values = text.match(/../g) ?? [];
  const steps = values.map((digits) => parseInt(digits, BASE) / STEPS);
  return steps.flatMap((x, i) => (i % 2 ? [] : [[x, steps[i + 1]]]));
}

/** Whether a point lies within an outline, by the even-odd rule. */
export function isWithin([x, y]: Point, outline: Point[]) {
  let within = false;
  for (const [i, [ax, ay]] of outline.entries()) {
    const [bx, by] = outline[(i || outline.length) - 1];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
  }
  return within;
}
