import assert from "node:assert/strict";
import { test } from "node:test";
import type { Box, CamCell } from "../../templates/gallery/src/data/types";
import { type Placed, minus, shared } from "../../templates/gallery/src/data/contrast";
import { COMMON, onCommonGrid } from "../../templates/gallery/src/data/grid";
import { rankCorrelation, topOverlap } from "../../templates/gallery/src/maps/agreement";
import { ZERO, enlarge, indices } from "../../templates/gallery/src/maps/heat";
import { peakAt, regions } from "../../templates/gallery/src/maps/measure";
import { parted } from "../../templates/gallery/src/parts/dom";

const floats = (...values: number[]) => Float64Array.from(values);

test("a map is enlarged linearly between the middles of its cells", () => {
  const row = enlarge([0, 100], { height: 1, width: 2 }, 1, 8);
  assert.deepEqual([...row], [0, 0, 12.5, 37.5, 62.5, 87.5, 100, 100]);
});

test("both directions are enlarged alike", () => {
  const plane = enlarge([0, 1, 2, 3], { height: 2, width: 2 }, 4, 4);
  const at = (i: number) => Math.min(Math.max((i + 0.5) / 2 - 0.5, 0), 1);
  const expected = [0, 1, 2, 3].flatMap((y) => [0, 1, 2, 3].map((x) => 2 * at(y) + at(x)));
  assert.deepEqual([...plane], expected);
});

test("raw cells keep their own levels", () => {
  const plane = enlarge([1, 2, 3, 4], { height: 2, width: 2 }, 2, 4, false);
  assert.deepEqual([...plane], [1, 1, 2, 2, 3, 3, 4, 4]);
});

test("a map under its own scale keeps its levels", () => {
  assert.deepEqual([...indices(floats(0, 0.4, 0.5, 254.6, 300), false, 1)], [0, 0, 1, 255, 255]);
});

test("a scale to a larger maximum lowers positive levels, and signed ones towards zero", () => {
  assert.deepEqual([...indices(floats(0, 100, 255), false, 0.5)], [0, 50, 128]);
  assert.deepEqual([...indices(floats(0, 27, ZERO, 254), true, 0.5)], [64, 77, ZERO, 191]);
});

test("maps in the same order correlate fully, in the opposite order fully against", () => {
  const map = floats(1, 5, 2, 8);
  assert.equal(rankCorrelation(map, floats(10, 200, 11, 1000)), 1);
  assert.equal(rankCorrelation(map, floats(-1, -5, -2, -8)), -1);
  assert.ok(Number.isNaN(rankCorrelation(map, floats(3, 3, 3, 3))), "a flat map has no order");
});

test("equal values share the mean of their ranks", () => {
  // Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3: covariance 4.5, variances 4.5 and 5.
  const correlation = rankCorrelation(floats(1, 2, 2, 3), floats(1, 2, 3, 4));
  assert.ok(Math.abs(correlation - 4.5 / Math.sqrt(4.5 * 5)) < 1e-12);
});

test("the overlap of the highest values is their intersection over their union", () => {
  const one = floats(9, 8, 0, 0, 0, 0, 0, 0, 0, 0);
  assert.equal(topOverlap(one, one), 1);
  assert.equal(topOverlap(one, floats(0, 8, 9, 0, 0, 0, 0, 0, 0, 0)), 1 / 3);
  assert.equal(topOverlap(one, floats(0, 0, 0, 0, 0, 0, 0, 0, 9, 8)), 0);
});

test("a map on the common grid is averaged where it is finer, interpolated where it is coarser", () => {
  const side = 2 * COMMON;
  const fine = Float64Array.from({ length: side * side }, (_, i) => (i % 2 ? 0.5 : -1));
  assert.ok(
    onCommonGrid(fine, side, side).every((level) => level === 15_000),
    "half of 0.5 + 0",
  );
  const coarse = onCommonGrid(floats(0, 1), 1, 2);
  const along = (x: number) => Math.min(Math.max((x + 0.5) / 7 - 0.5, 0), 1);
  for (const [i, level] of coarse.entries())
    assert.ok(Math.abs(level - 60_000 * along(i % COMMON)) <= 0.5 + 1e-6);
  const uneven = onCommonGrid(new Float64Array(27 * 55).fill(1), 27, 55);
  assert.ok(
    uneven.every((level) => level === 60_000),
    "shares of a cell add up to one",
  );
});

test("what two runs differ by is taken over the part of the photograph that both saw", () => {
  const placed = (seen: Box, ...levels: number[]): Placed => {
    const state = levels.some(Boolean) ? "positive" : "empty";
    const cam = { state, signed: false, height: 1, width: levels.length } as CamCell;
    return { cam, levels: Uint8Array.from(levels), seen };
  };
  // The left half of a photograph in four cells, and all of it in eight: the same there.
  const all = placed([0, 0, 1, 1], 0, 255, 255, 0, 255, 255, 255, 255);
  const half = placed([0, 0, 0.5, 1], 0, 255, 255, 0);
  assert.equal(shared(half.seen, all.seen).join(), "0,0,0.5,1");
  const inner = (made: ReturnType<typeof minus>) => [...(made?.levels ?? [])].slice(0, 12);
  assert.deepEqual(inner(minus(half, all, 0)), Array(12).fill(ZERO));
  const none = placed([0, 0, 1, 1], 0, 0);
  assert.equal(minus(none, none, 0)?.cam.state, "empty", "no difference");
  const full = placed([0, 0, 1, 1], 255, 255);
  assert.deepEqual(new Set(minus(full, none, 0)?.levels), new Set([2 * ZERO]));
  assert.deepEqual(new Set(minus(none, full, 0)?.levels), new Set([0]));
});

/** A map of one-pixel cells from a drawing: `#` is high, `-` is high against, the rest is low. */
function drawn(...lines: string[]) {
  const levels = [...lines.join("")].map((sign) => ({ "#": 254, "-": 0 })[sign] ?? ZERO);
  const [height, width] = [lines.length, lines[0].length];
  const map = { height, width, values: floats(...levels), index: Uint8Array.from(levels) };
  return { map, cam: { signed: true, height, width } as CamCell };
}

test("regions are joined by sides, not by corners", () => {
  const { map, cam } = drawn("##..", "..#.", "..##");
  const found = regions(map, cam, 0.5);
  assert.deepEqual(found, [
    { left: 2, top: 1, right: 4, bottom: 3, pixels: 3 },
    { left: 0, top: 0, right: 2, bottom: 1, pixels: 2 },
  ]);
});

test("a region has one sign, and does not go on at the other side of the map", () => {
  const { map, cam } = drawn("#--#", "....");
  const found = regions(map, cam, 0.5).map(({ left, right }) => [left, right]);
  assert.deepEqual(found, [
    [1, 3],
    [0, 1],
    [3, 4],
  ]);
});

test("the peak is the value that is farthest from zero, the first of equal ones", () => {
  const { map, cam } = drawn("....", ".-#.");
  assert.deepEqual(peakAt(map, cam, false), { column: 1, row: 1 });
  assert.deepEqual(peakAt(drawn("..", "##").map, cam, false), { column: 0, row: 1 });
});

test("the peak of a raw cell is its middle", () => {
  const cam = { signed: false, height: 1, width: 2 } as CamCell;
  const values = enlarge([0, 9], cam, 4, 8, false);
  const map = { height: 4, width: 8, values, index: indices(values, false, 1) };
  assert.deepEqual(peakAt(map, cam, true), { column: 6, row: 2 });
});

test("a list is parted into as many parts as asked, none longer than another by more than one", () => {
  assert.deepEqual(parted([1, 2, 3, 4, 5, 6], 2), [
    [1, 2, 3],
    [4, 5, 6],
  ]);
  assert.deepEqual(parted([1, 2, 3, 4, 5], 2), [
    [1, 2, 3],
    [4, 5],
  ]);
  assert.deepEqual(parted([1, 2], 1), [[1, 2]]);
});
