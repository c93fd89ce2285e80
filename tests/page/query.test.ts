import assert from "node:assert/strict";
import { test } from "node:test";
import { columnsOf, matcher } from "../../templates/gallery/src/query/match";
import { numberOf, orderOf, sortsOf } from "../../templates/gallery/src/query/order";
import { type Condition, meant, parse, quote } from "../../templates/gallery/src/query/parse";
import { rewrite, without } from "../../templates/gallery/src/query/write";
import { report } from "./report";

const vocabulary = { classes: ["cat", "dog", "sea lion", "dog"], numbers: ["p", "area.grad_cam"] };

const asks = (query: string) => parse(query, vocabulary).map((term) => term.asks);

const texts = (query: string) => parse(query, vocabulary).map((term) => term.text);

const name = (...parts: string[]): Condition => ({ kind: "name", parts });

test("words are parts of a name, each on its own", () => {
  assert.deepEqual(asks(""), []);
  assert.deepEqual(asks("  IMG_7  b-2.jpg "), [name("IMG_7"), name("b-2.jpg")]);
});

test("quotes hold together what signs and spaces would take apart", () => {
  assert.deepEqual(asks('"a b" "p<0.6" "right:no, b"'), [
    name("a b"),
    name("p<0.6"),
    name("right:no, b"),
  ]);
  assert.deepEqual(asks(String.raw`"say \"no\" \\ "`), [name('say "no" \\ ')]);
  assert.deepEqual(asks("“two words”"), [name("two words")]);
  assert.deepEqual(asks('holiday" 3"'), [name("holiday 3")]);
});

test("commas within a term offer a choice", () => {
  assert.deepEqual(asks('a,b "c d","e,f"'), [name("a", "b"), name("c d", "e,f")]);
  assert.deepEqual(asks("right:yes,no"), [{ kind: "right", values: [true, false] }]);
  assert.deepEqual(asks('is:cat,"sea lion",'), [{ kind: "is", classes: [0, 2] }]);
});

test("classes are found by name, all that bear it", () => {
  assert.deepEqual(asks("class:DOG"), [{ kind: "class", classes: [1, 3] }]);
  assert.deepEqual(asks('class:"sea lion"'), [{ kind: "class", classes: [2] }]);
});

test("numbers are compared, in parts of one or per cent", () => {
  const less = { kind: "number", name: "p", sign: "<", value: 0.6 };
  for (const query of ["p<0.6", "p<.6", "P < 0.6", "p<60%", "p<+.60"])
    assert.deepEqual(asks(query), [less], query);
  const sign = (query: string) => asks(query).map((one) => "sign" in one && one.sign);
  assert.deepEqual(sign("p<1 p<=1 p>1 p>=1 p=1 p≤1 p≥1"), ["<", "<=", ">", ">=", "=", "<=", ">="]);
  assert.deepEqual(asks("Area.Grad_CAM>-1"), [
    { kind: "number", name: "area.grad_cam", sign: ">", value: -1 },
  ]);
});

test("signs of a Chinese keyboard mean the same", () => {
  assert.deepEqual(asks("right：no class：cat，dog p＜０．６ “海 狮”、ａ"), [
    { kind: "right", values: [false] },
    { kind: "class", classes: [0, 1, 3] },
    { kind: "number", name: "p", sign: "<", value: 0.6 },
    name("海 狮", "ａ"),
  ]);
  assert.deepEqual(texts("class：cat，dog p＜＝0.6 p≥1"), ["class:cat,dog", "p<=0.6", "p>=1"]);
});

test("a mistake is told with its part, and takes nothing from the other terms", () => {
  const mistakes: Record<string, [string, string]> = {
    "colour:red": ["key", "colour"],
    "C:\\photos": ["key", "C"],
    "size<3": ["number", "size"],
    "class<3": ["number", "class"],
    "p:0.6": ["comparison", "p"],
    "p<high": ["value", "high"],
    "p<0,6": ["value", "0,6"],
    "p<": ["end", "p<"],
    "class:": ["end", "class:"],
    "class:,": ["end", "class:"],
    "right:maybe": ["truth", "maybe"],
    "class:cat,doge": ["class", "doge"],
    '"two words': ["quote", "two words"],
    '"a\\': ["quote", "a"],
  };
  for (const [query, [mistake, part]] of Object.entries(mistakes))
    assert.deepEqual(asks(`a ${query}`), [name("a"), { mistake, part }], query);
  assert.deepEqual(asks(","), [{ mistake: "end", part: "," }]);
});

test("words that are no terms lead to those that are", () => {
  const meanings = (query: string) => parse(query, vocabulary).map(meant);
  assert.deepEqual(meanings("wrong Right"), ["right:no", "right:yes"]);
  assert.deepEqual(meanings('true:cat pred:"sea lion" label：dog'), [
    "is:cat",
    'class:"sea lion"',
    "is:dog",
  ]);
  assert.deepEqual(meanings('"wrong" wrong.jpg is:cat colour:red'), ["", "", "", ""]);
});

test("a term is read again as it is written", () => {
  const query = String.raw`right : no  class:“sea  lion” ， cat p ＜ 0.6 "a\"b" x"y z" "open \" end`;
  const once = texts(query);
  assert.deepEqual(texts(once.join(" ")), once);
  assert.deepEqual(asks(once.join(" ")), asks(query));
});

test("any text can be asked for in quotes", () => {
  for (const text of ["plain", "a b", "a:b", 'q"q', "b\\", "“”", "a,b", "ｘ＜y", "'"])
    assert.deepEqual(asks(quote(text)), [name(text)], text);
  assert.equal(quote("IMG_7.jpg"), "IMG_7.jpg");
});

test("a control replaces its own terms in their place and leaves the others, mistakes too", () => {
  const right = (condition: Condition) => condition.kind === "right";
  const change = (query: string, ...terms: string[]) => rewrite(query, vocabulary, right, ...terms);
  assert.equal(change("a  right:no doge:1 right:yes b", "right:yes"), "a right:yes doge:1 b");
  assert.equal(change("a right:no b"), "a b");
  assert.equal(change("a", "right:no"), "a right:no");
  assert.equal(change("right:no"), "");
  assert.equal(change('"a b', "right:no"), '"a b" right:no', "quotes are closed first");
  assert.equal(without('a "b c" right:no', vocabulary, 1), "a right:no");
});

const { images } = report();

/** Places of the images that a query asks for. */
const found = (query: string) => {
  const passes = matcher(parse(query, { classes: report().classes, numbers: ["p"] }), images);
  return [0, 1, 2, 3].filter(passes);
};

test("images are found by name, class, truth and number", () => {
  assert.deepEqual(found(""), [0, 1, 2, 3]);
  assert.deepEqual(found("B"), [0, 1]);
  assert.deepEqual(found("b9,APE"), [1, 2]);
  assert.deepEqual(found("class:dog"), [0, 1]);
  assert.deepEqual(found("is:dog"), [1, 2]);
  assert.deepEqual(found("is:dog class:dog"), [1]);
  assert.deepEqual(found("class:fox"), []);
  assert.deepEqual(found("p>=0.6 p<=0.7"), [1, 2]);
  assert.deepEqual(found("p=0.9"), [0]);
  assert.deepEqual(found("b right:yes class:cat"), []);
});

test("an image without a label is neither right nor wrong, one without a prediction has no number", () => {
  assert.deepEqual(found("right:yes"), [1]);
  assert.deepEqual(found("right:no"), [0, 2]);
  assert.deepEqual(found("right:yes,no"), [0, 1, 2]);
  assert.deepEqual(found("p>=0"), [0, 1, 2]);
  assert.deepEqual(found("p<2"), [0, 1, 2]);
});

test("a term with a mistake asks for nothing", () => {
  assert.deepEqual(found("class:wolf b9"), [1]);
});

test("letters are found however their accents are written", () => {
  const file = ["Cafe\u0301.jpg", "x", "x", "x"];
  const passes = matcher(parse("CAF\u00c9", vocabulary), { ...images, file });
  assert.equal(passes(0), true);
});

test("numbers of the evidence are asked for and followed by number and method", () => {
  const numbers = {
    "regions.grad_cam": [0.5, null, 0.125, 0.25],
    "order.deletion.layer_cam": [0.1, 0.2, null, null],
  };
  const measured = { ...images, numbers };
  const names = [...columnsOf(measured).keys()];
  assert.deepEqual(names, ["p", ...Object.keys(numbers)]);
  const query = "regions.grad_cam<30% Order.Deletion.layer_cam>=0";
  const terms = parse(query, { classes: [], numbers: names });
  assert.deepEqual(
    terms.map(({ asks }) => asks),
    [
      { kind: "number", name: "regions.grad_cam", sign: "<", value: 0.3 },
      { kind: "number", name: "order.deletion.layer_cam", sign: ">=", value: 0 },
    ],
  );
  const passes = matcher(terms.slice(0, 1), measured);
  assert.deepEqual([0, 1, 2, 3].filter(passes), [2, 3], "what has no number passes no comparison");
  assert.deepEqual(numberOf("order.deletion.layer_cam.up"), {
    name: "order.deletion.layer_cam",
    up: true,
  });
  const places = [0, 1, 2, 3].sort(orderOf(measured, "regions.grad_cam.up"));
  assert.deepEqual(places, [2, 3, 0, 1]);
  assert.ok(sortsOf(measured).includes("order.deletion.layer_cam.down"));
});

test("what became of predictions can be asked of several runs alone", () => {
  const flips = ["wrong", "right", "other", "no"];
  const [{ asks: found }] = parse("flip:Wrong,no", { ...vocabulary, flips });
  assert.deepEqual(found, { kind: "flip", values: ["wrong", "no"] });
  const images = { ...report().images, flip: ["no", "wrong", "right", "other"] };
  const passes = matcher([{ text: "", asks: found }], images);
  assert.deepEqual([0, 1, 2, 3].filter(passes), [0, 1]);
  const [{ asks: mistaken }] = parse("flip:yes", { ...vocabulary, flips });
  assert.deepEqual(mistaken, { mistake: "flip", part: "yes" });
  assert.deepEqual(asks("flip:wrong"), [{ mistake: "key", part: "flip" }]);
});
