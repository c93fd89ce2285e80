import assert from "node:assert/strict";
import { test } from "node:test";
import { idOf, idText } from "../../templates/gallery/src/data/cells";
import { PREDICTED } from "../../templates/gallery/src/data/dataset";
import { linkOf, readLink } from "../../templates/gallery/src/state/link";
import { type Filter, selected } from "../../templates/gallery/src/state/selection";
import { type State, initialState } from "../../templates/gallery/src/state/state";
import { Store } from "../../templates/gallery/src/state/store";
import { dataset, report } from "./report";

const data = dataset();
const first = initialState(data);

test("a state comes back from its link as it was", () => {
  const state: State = {
    ...first,
    view: "compare",
    image: 3,
    layer: "features.0",
    pins: ["0.1.grad_cam.features.12", "3.0.layer_cam.features.0"],
    query: 'right:no "a & b=~#?"',
    sort: "p.down",
    group: "class",
    density: "s",
    opacity: 0,
    contours: true,
    atX: 0.125,
    language: "zh",
  };
  assert.deepEqual(readLink(linkOf(state, data), data), state);
});

test("a link of any length pins four different maps at most", () => {
  const pins = Array.from({ length: 50_000 }, (_, i) => `${i % 7}.0.grad_cam.features.0`);
  const { pins: read } = readLink(`#p=${pins.join("~")}`, data);
  assert.deepEqual(read, [...new Set(pins)].slice(0, 4));
});

test("the state that a report opens with has a short link", () => {
  assert.equal(linkOf(first, data), "#v=summary");
  assert.deepEqual(readLink("", data), first);
});

test("a link says only what differs", () => {
  assert.equal(linkOf({ ...first, opacity: 80, grey: true }, data), "#o=80&g=1");
});

test("what is mistyped in a link is left out", () => {
  const link = "#v=nothing&i=2&m=grad&l=features.1&o=101&t=NaN&cm=jet&z=0&lang=fr&k=7&s=name";
  assert.deepEqual(readLink(link, data), { ...first, sort: "name" });
});

test("no axis lies in two places", () => {
  const { rows, columns, beside } = readLink("#r=method&c=method&b=method", data);
  assert.deepEqual([rows, columns, beside], ["method", "layer", "none"]);
  assert.equal(readLink("#r=image&c=layer&b=image", data).beside, "none");
});

test("a method without a column of its own gives way to the one that it repeats", () => {
  assert.equal(readLink("#m=hires_cam", data).method, "grad_cam");
  assert.equal(readLink("#m=hires_cam&ap=1", data).method, "hires_cam");
});

test("a map's name says which it is, dots in its layer included", () => {
  const id = { image: 12, run: 0, rank: 1, method: "grad_cam", layer: "features.12.conv" };
  for (const run of [0, 3, -3]) assert.deepEqual(idOf(idText({ ...id, run })), { ...id, run });
  assert.equal(idText(id), "12.1.grad_cam.features.12.conv");
});

test("images are found by their index, not by their place", () => {
  assert.deepEqual(
    [0, 1, 3, 4].map((index) => data.placeOf(index)),
    [0, 1, 2, 3],
  );
  assert.equal(data.placeOf(2), -1);
  assert.equal(data.has(2), false);
});

test("the predicted class is looked for among the explained ones", () => {
  assert.deepEqual(
    [0, 3].map((index) => data.rankIn(index, PREDICTED)),
    [1, 0],
  );
  assert.equal(data.rankIn(4, PREDICTED), 0, "an image without predictions");
  assert.equal(data.rankIn(0, 0), 0);
});

const groups = (filter: Partial<Filter>) => selected(report(), { ...first, ...filter });

/** Indices of the chosen images, in their order. */
const choose = (filter: Partial<Filter>) =>
  groups(filter).flatMap(({ places }) => places.map((place) => report().images.index[place]));

test("images are chosen by a query", () => {
  assert.deepEqual(choose({}), [0, 1, 3, 4]);
  assert.deepEqual(choose({ query: "b class:dog" }), [0, 1]);
  assert.deepEqual(choose({ query: "right:no p<=0.7" }), [3]);
});

test("images are put in order by name, class and any number, those without it last", () => {
  assert.deepEqual(choose({ sort: "name" }), [3, 1, 0, 4], "numbers count as numbers");
  assert.deepEqual(choose({ sort: "p.down" }), [0, 3, 1, 4]);
  assert.deepEqual(choose({ sort: "p.up" }), [1, 3, 0, 4]);
  assert.deepEqual(choose({ sort: "class" }), [4, 3, 0, 1]);
  const images = { ...report().images, numbers: { "area.cam": [0.5, null, 0.25, 0.75] } };
  const places = (sort: Filter["sort"]) =>
    selected({ ...report(), images }, { ...first, sort })[0].places;
  assert.deepEqual(places("area.cam.up"), [2, 0, 3, 1]);
  assert.deepEqual(places("area.cam.down"), [3, 0, 2, 1]);
});

test("an order that a report knows comes back from its link", () => {
  assert.equal(readLink("#s=p.up", data).sort, "p.up");
  assert.equal(readLink("#s=area.none.up", data).sort, "order");
});

test("groups are predicted classes, or cells of the confusion matrix with the mistakes first", () => {
  const classes = groups({ group: "class" }).map(({ predicted, places }) => [predicted, places]);
  assert.deepEqual(classes, [
    [null, [3]],
    [0, [2]],
    [1, [0, 1]],
  ]);
  const cells = groups({ group: "outcome", sort: "p.up" });
  assert.deepEqual(
    cells.map(({ label, predicted, right, places }) => [label, predicted, right, places]),
    [
      [1, 0, false, [2]],
      [0, 1, false, [0]],
      [1, 1, true, [1]],
      [null, null, null, [3]],
    ],
  );
});

test("those who follow the state are called in turn, and only for what they look at", () => {
  const store = new Store({ a: 1, b: ["x"], c: true });
  const calls: string[] = [];
  store.subscribe(
    ({ a, b }) => [a, b],
    (changed) => calls.push(`ab ${[...changed].join()}`),
  );
  store.subscribe(
    ({ a }) => a,
    () => calls.push("a"),
  );
  store.set({ c: false });
  store.set({ b: ["x"] });
  assert.deepEqual(calls, []);
  store.set({ a: 2, c: true });
  assert.deepEqual(calls, ["ab a,c", "a"]);
  assert.deepEqual(store.state, { a: 2, b: ["x"], c: true });
});

test("a change made by one who follows reaches the others once, with all that changed", () => {
  const store = new Store({ a: 1, b: 1 });
  const seen: string[] = [];
  store.subscribe(
    ({ a }) => a,
    () => store.set({ b: 2 }),
  );
  store.subscribe(
    (state) => state,
    (changed) => seen.push([...changed].join()),
  );
  store.set({ a: 2 });
  assert.deepEqual(seen, ["a,b"]);
});
