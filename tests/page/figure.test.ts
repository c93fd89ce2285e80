import assert from "node:assert/strict";
import { test } from "node:test";
import { FIGURE_SIDE, layOutFigure, wrap } from "../../templates/gallery/src/dialog/figure";

/** Every sign is ten pixels wide. */
const width = (text: string) => 10 * [...text].length;

const measure = (text: string) => width(text);

test("a text breaks at spaces, and its lines are not wider than they may be", () => {
  assert.deepEqual(wrap("one two three four", 90, width), ["one two", "three", "four"]);
  assert.deepEqual(wrap("fits", 90, width), ["fits"]);
  assert.deepEqual(wrap("", 90, width), []);
});

test("a word that is wider than a line is broken within", () => {
  assert.deepEqual(wrap("a abcdefghij b", 40, width), ["a", "abcd", "efgh", "ij b"]);
  assert.deepEqual(wrap("ab", 5, width), ["a", "b"]);
});

test("Chinese breaks between any two signs, but no line begins with a full stop", () => {
  assert.deepEqual(wrap("热力图对比。说明", 50, width), ["热力图对", "比。说明"]);
});

const said = { title: "cat.jpg · cat", ends: ["0", "0.2"] as [string, string], caption: ["words"] };

test("the longer side of the picture is the same for every shape", () => {
  for (const aspect of [0.2, 0.75, 1, 1.5, 4]) {
    const { picture } = layOutFigure(aspect, said, measure);
    assert.equal(Math.max(picture.width, picture.height), FIGURE_SIDE);
    assert.ok(Math.abs(picture.width / picture.height / aspect - 1) < 0.01);
  }
});

test("nothing lies outside the figure, and the lines follow one another below the picture", () => {
  const long = { ...said, caption: ["many words ".repeat(30)] };
  for (const aspect of [0.1, 1, 3]) {
    const { picture, bar, lines, width: across, height } = layOutFigure(aspect, long, measure);
    let above = picture.y + picture.height;
    for (const line of lines) {
      assert.ok(line.y >= above);
      assert.ok(line.x + width(line.text) <= across);
      above = line.y;
    }
    assert.ok(above < height);
    assert.ok(bar && bar.y > picture.y + picture.height && bar.x + bar.width <= across);
  }
});

test("a figure without values has no bar", () => {
  const { bar, lines } = layOutFigure(1, { ...said, ends: null }, measure);
  assert.equal(bar, null);
  assert.deepEqual(
    lines.map(({ text }) => text),
    ["cat.jpg · cat", "words"],
  );
});
