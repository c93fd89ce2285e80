import assert from "node:assert/strict";
import { test } from "node:test";
import type { EvidenceNumber } from "../../templates/gallery/src/data/types";
import {
  type Column,
  type Row,
  type Value,
  alike,
  scaleOf,
} from "../../templates/gallery/src/views/evidence/read";

const number = (more: Partial<EvidenceNumber> = {}): EvidenceNumber => ({
  key: "effect",
  better: "high",
  low: -1,
  high: 1,
  chance: 0,
  limit: null,
  ...more,
});

const value = (median: number | null, apart: boolean | null): Value => ({
  ...{ n: 40, low: null, high: null, undefined: {}, beats: null, given: false },
  ...{ median, apart },
});

const column = (better: EvidenceNumber["better"], values: [string, Value][]): Column => {
  const question = { key: "effect", coverage: "sample" as const, numbers: [] };
  return {
    ...{ key: "effect", name: "", layer: "", scale: [0, 1], ceiling: null },
    number: { ...number({ better }), question },
    values: new Map(values),
  };
};

const rows: Row[] = ["a", "b", "c", "control:d"].map((key) => ({
  key,
  name: key,
  control: key.startsWith("control"),
}));

test("a scale reaches from zero, or below the least value, to the greatest that there can be", () => {
  assert.deepEqual(scaleOf(number(), [0.2, 0.9]), [0, 1]);
  assert.deepEqual(scaleOf(number(), [-0.05, 0.9]), [-0.2, 1]);
  assert.deepEqual(scaleOf(number(), [-1, 0]), [-1, 1]);
  assert.deepEqual(scaleOf(number({ low: 0 }), []), [0, 1]);
});

test("a scale without an end reaches to a round number that holds every value", () => {
  for (const most of [0.034, 0.3, 1, 7.2, 640]) {
    const [least, end] = scaleOf(number({ low: 0, high: null }), [0, most]);
    assert.equal(least, 0);
    assert.ok(end >= most && end <= 2 * most + 1e-9, `${most}: ${end}`);
  }
});

test("the best method shares the sign of those that are not told apart from it", () => {
  const some: [string, Value][] = [
    ["a", value(0.5, true)],
    ["b", value(0.7, true)],
    ["c", value(0.6, false)],
  ];
  assert.deepEqual(alike(column("high", some), rows), ["b", "c"]);
  assert.deepEqual(alike(column("low", some), rows), ["a", "c"]);
});

test("a control can have the sign, and is never the best", () => {
  const some: [string, Value][] = [
    ["a", value(0.5, true)],
    ["b", value(0.3, true)],
    ["control:d", value(0.9, false)],
  ];
  assert.deepEqual(alike(column("high", some), rows), ["a", "control:d"]);
});

test("where all are told apart, or nothing is compared, no row has the sign", () => {
  const apart: [string, Value][] = [
    ["a", value(0.5, true)],
    ["b", value(0.7, true)],
  ];
  assert.deepEqual(alike(column("high", apart), rows), []);
  const few: [string, Value][] = [
    ["a", value(0.5, null)],
    ["b", value(0.7, null)],
  ];
  assert.deepEqual(alike(column("high", few), rows), []);
});
