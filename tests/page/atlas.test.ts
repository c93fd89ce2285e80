// The Atlas without the page: where images lie, outlines around them, terms of the query for both.
import assert from "node:assert/strict";
import test from "node:test";
import type { Atlas } from "../../templates/gallery/src/data/types";
import {
  type Point,
  fitted,
  isWithin,
  locate,
  outlineOf,
  outlineText,
} from "../../templates/gallery/src/query/located";
import { parse } from "../../templates/gallery/src/query/parse";
import { places } from "../../templates/gallery/src/state/selection";
import { Finder, contours, ring, simplified } from "../../templates/gallery/src/views/atlas/plane";
import { report } from "./report";

/** Numbers from 0 to 1 that look drawn, the same every time. */
function drawn(count: number, seed = 1) {
  let state = seed;
  return Array.from({ length: count }, () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  });
}

const scattered = (count: number): Point[] => {
  const [xs, ys] = [drawn(count, 7), drawn(count, 11)];
  return xs.map((x, i) => [x, ys[i]]);
};

/** Whether a point is in a convex outline: on one side of each of its lines. */
const inConvex = ([x, y]: Point, outline: Point[]) => {
  const sides = outline.map(([ax, ay], i) => {
    const [bx, by] = outline[(i + 1) % outline.length];
    return Math.sign((bx - ax) * (y - ay) - (by - ay) * (x - ax));
  });
  return sides.every((side) => side === sides[0]);
};

function found(more: Partial<Atlas["points"]> = {}): Atlas {
  const points = {
    space: "where" as const,
    images: [4, 3, 1, 0],
    classes: [0, 0, 1, 1],
    pca: [
      [-2, 0],
      [2, 1],
      [0, 0],
      [0, -1],
    ],
    tsne: null,
    where: [0, 1, 1, 2],
    what: [0, 2, 0, 0],
    ...more,
  };
  const nothing = { whatLayer: "b", whereMethod: "grad_cam", whereLayer: "b", note: null };
  return { ...nothing, total: 4, classes: [], points };
}

const here = () => report({ images: structuredClone(report().images) });

test("points keep their shape: the longer side of all goes from 0 to 1", () => {
  assert.deepEqual(fitted(found().points.pca), [
    [0, 0.5],
    [1, 0.75],
    [0.5, 0.5],
    [0.5, 0.25],
  ]);
  assert.deepEqual(fitted([[3, 4]]), [[0.5, 0.5]]);
});

test("an outline is read as it is written, within a thousandth", () => {
  const outline = scattered(9);
  const again = outlineOf(outlineText(outline)) ?? [];
  assert.equal(again.length, 9);
  for (const [i, [x, y]] of again.entries()) {
    assert.ok(Math.abs(x - outline[i][0]) < 0.001);
    assert.ok(Math.abs(y - outline[i][1]) < 0.001);
  }
  for (const text of ["", "00000000", "0000000000001", "0000-0000000"])
    assert.equal(outlineOf(text), null, text);
});

test("a point is within an outline where it is on the inner side of all its lines", () => {
  const outline = ring([0.4, 0.6], 0.3);
  const [inside, outside] = [0, 1].map(
    (n) => scattered(500).filter((point) => Number(!inConvex(point, outline)) === n).length,
  );
  assert.ok(inside > 50 && outside > 50);
  for (const point of scattered(500))
    assert.equal(isWithin(point, outline), inConvex(point, outline));
});

test("the query finds clusters of either kind, by name and number", () => {
  const known = here();
  locate(known.images, found());
  const indices = (query: string) => places(known, query).map((place) => known.images.index[place]);
  assert.deepEqual(indices("cluster:dog/1"), [1]);
  assert.deepEqual(indices("cluster:cat/1"), [3]);
  assert.deepEqual(indices("cluster:cat/1,dog/2"), [0, 3]);
  assert.deepEqual(indices("cluster:cat/2/what"), [3]);
  assert.deepEqual(indices("cluster:cat/2"), []);
  assert.deepEqual(indices("cluster:fox/7"), []);
});

test("the query finds what lies in an outline, and nothing where no place is known", () => {
  const known = here();
  locate(known.images, found());
  const indices = (query: string) => places(known, query).map((place) => known.images.index[place]);
  const left = outlineText([
    [0.2, 0],
    [0.7, 0],
    [0.7, 1],
    [0.2, 1],
  ]);
  assert.deepEqual(indices(`lasso:pca/${left}`), [0, 1]);
  assert.deepEqual(indices(`lasso:pca/${left} class:dog is:dog`), [1]);
  assert.deepEqual(indices(`lasso:tsne/${left}`), []);
  assert.deepEqual(places(here(), `lasso:pca/${left}`), []);
});

test("mistaken clusters and outlines are told", () => {
  const vocabulary = { classes: ["cat", "sea lion", "a/b"], numbers: [] };
  const asked = (query: string) => parse(query, vocabulary).map(({ asks }) => asks);
  for (const part of ["cat", "doge/1", "cat/x", "/1"])
    assert.deepEqual(asked(`cluster:${part}`), [{ mistake: "cluster", part }], part);
  assert.deepEqual(asked("lasso:pca/12"), [{ mistake: "lasso", part: "pca" }]);
  const name = (target: number, number: number, by: string) => ({ targets: [target], number, by });
  assert.deepEqual(asked('cluster:"sea lion/3/what",a/b/2'), [
    { kind: "cluster", clusters: [name(1, 3, "what"), name(2, 2, "where")] },
  ]);
});

test("the nearest point is that of a search through all", () => {
  const points = scattered(800);
  const there = [...points.keys()].filter((i) => i % 3);
  const finder = new Finder(points, there);
  for (const at of scattered(100).map(([x, y]): Point => [y, x])) {
    const near = (i: number) => Math.hypot(points[i][0] - at[0], points[i][1] - at[1]);
    const best = there.reduce((one, other) => (near(other) < near(one) ? other : one));
    assert.equal(finder.nearest(at, 0.03), near(best) <= 0.03 ? best : -1);
    assert.equal(finder.nearest(at, 1.5), best);
  }
});

test("an arrow leads from any point to one in its direction, and all can be reached", () => {
  const points = scattered(60);
  const finder = new Finder(points, [...points.keys()]);
  const ways: Point[] = [
    [1, 0],
    [-1, 0],
    [0, 1],
    [0, -1],
  ];
  const reached = new Set([0]);
  for (const from of reached)
    for (const way of ways) {
      const to = finder.towards(from, way);
      if (to < 0) continue;
      const along = [0, 1].reduce((sum, i) => sum + (points[to][i] - points[from][i]) * way[i], 0);
      assert.ok(along > 0);
      reached.add(to);
    }
  assert.equal(reached.size, 60);
});

test("an outline with many corners keeps its shape with few", () => {
  const outline = Array.from({ length: 400 }, (_, i): Point => {
    const angle = (i * Math.PI) / 200;
    return [0.5 + 0.4 * Math.cos(angle), 0.5 + 0.2 * Math.sin(angle)];
  });
  const few = simplified(outline);
  assert.ok(few.length <= 32);
  const differ = scattered(2000).filter((one) => isWithin(one, few) !== isWithin(one, outline));
  assert.ok(differ.length < 40, String(differ.length));
});

test("contours run around where points are dense, closed", () => {
  const points = scattered(4000).map(([x, y]): Point => [0.4 + x / 5, 0.4 + y / 5]);
  const lines = contours(points);
  assert.ok(lines.length > 40);
  const ends = new Map<string, number>();
  for (const [x, y] of lines.flat()) {
    assert.ok(Math.hypot(x - 0.5, y - 0.5) < 0.3);
    const end = `${x.toFixed(6)} ${y.toFixed(6)}`;
    ends.set(end, (ends.get(end) ?? 0) + 1);
  }
  assert.deepEqual(
    [...ends.values()].filter((count) => count % 2),
    [],
  );
});
