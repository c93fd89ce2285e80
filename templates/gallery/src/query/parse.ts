// The query: one line that says which images are wanted, `right:no class:dog p<0.6 "holiday 3"`.
// All terms hold together; of the parts of a term, set apart by commas, one has to hold.

import { type Kind, PLANES, type Plane, type Point, outlineOf } from "./located";

const COMPARISONS = ["<", "<=", ">", ">=", "="] as const;

export type Sign = (typeof COMPARISONS)[number];

/** What a term asks of an image: a part of its name, its truth, a class or a number. */
export type Condition =
  | { kind: "name"; parts: string[] }
  | { kind: "right"; values: boolean[] }
  | { kind: "class" | "is"; classes: number[] }
  | { kind: "flip"; values: string[] }
  | { kind: "number"; name: string; sign: Sign; value: number }
  | { kind: "cluster"; clusters: ClusterName[] }
  | { kind: "lasso"; plane: Plane; outline: Point[] };

/** A cluster: of which class, which one, and by what its images are alike. */
export interface ClusterName {
  /** Classes may have the same name. */
  targets: number[];
  number: number;
  by: Kind;
}

/** Why a term asks for nothing, and what of it is to blame. */
export interface Mistake {
  mistake:
    | "quote"
    | "key"
    | "number"
    | "comparison"
    | "value"
    | "truth"
    | "class"
    | "flip"
    | "cluster"
    | "lasso"
    | "end";
  part: string;
}

/** A term as it is written, and what it asks for. */
export interface Term {
  text: string;
  asks: Condition | Mistake;
}

/** What can be asked for by name. */
export interface Vocabulary {
  classes: string[];
  numbers: string[];
  /** What becomes of predictions; empty where one run is all there is. */
  flips?: string[];
}

/** A sign, or text; `open` is text whose quotes are not closed. */
interface Piece {
  kind: "sign" | "word" | "quoted" | "open";
  text: string;
}

/** A quoted text, a sign with the space around it, a word, or space; signs of either width. */
const PIECE =
  /["“”＂](?<quoted>(?:\\.|[^"“”＂\\])*)(?<close>["“”＂]|\\?$)|\s*(?<sign>[<>＜＞][=＝]?|[≤≥:：,，、=＝])\s*|(?<word>[^\s"“”＂<>＜＞≤≥:：,，、=＝]+)|\s+/gu;

const SIGNS: Record<string, string> = { "、": ",", "≤": "<=", "≥": ">=" };

const escaped = (text: string) => text.replace(/["“”＂\\]/gu, "\\$&");

/** A text as a query has to write it. */
export const quote = (text: string) =>
  /^[^\s"“”＂<>＜＞≤≥:：,，、=＝]+$/u.test(text) ? text : `"${escaped(text)}"`;

function written({ kind, text }: Piece) {
  if (kind === "open") return `"${escaped(text)}`;
  return kind === "quoted" ? `"${escaped(text)}"` : text;
}

/** What a reader may call a key, and a word that is none. */
const KEYS: Record<string, string> = { true: "is", label: "is", pred: "class", predicted: "class" };
const WORDS: Record<string, string> = { wrong: "right:no", right: "right:yes" };

/** The term that a reader may have meant by one; "" where it seems to be what was meant. */
export function meant({ text, asks }: Term) {
  if ("mistake" in asks) {
    const key = asks.mistake === "key" && KEYS[asks.part.toLowerCase()];
    return key ? key + text.slice(asks.part.length) : "";
  }
  return WORDS[text.toLowerCase()] ?? "";
}

/** The pieces of each term. */
function split(query: string) {
  const found: Piece[][] = [[]];
  for (const { groups } of query.matchAll(PIECE)) {
    const { quoted, close, sign, word } = groups ?? {};
    const own = found[found.length - 1];
    if (quoted !== undefined) {
      const kind = close && close !== "\\" ? "quoted" : "open";
      own.push({ kind, text: quoted.replace(/\\(.)/gu, "$1") });
    } else if (sign) own.push({ kind: "sign", text: SIGNS[sign] ?? sign.normalize("NFKC") });
    else if (word) own.push({ kind: "word", text: word });
    else found.push([]);
  }
  return found.filter((pieces) => pieces.length);
}

/** The parts that commas set apart; an empty one asks for nothing. */
function parts(pieces: Piece[]) {
  const found = [""];
  for (const { kind, text } of pieces)
    if (kind === "sign" && text === ",") found.push("");
    else found[found.length - 1] += text;
  return found.filter(Boolean);
}

const same = (one: string, other: string) => one.toLowerCase() === other.toLowerCase();

/** Read a query; a term with a mistake takes nothing from the others. */
export const parse = (query: string, vocabulary: Vocabulary): Term[] =>
  split(query).map((pieces) => ({
    text: pieces.map(written).join(""),
    asks: meaning(pieces, vocabulary),
  }));

function meaning(pieces: Piece[], vocabulary: Vocabulary): Condition | Mistake {
  const [key, sign, ...rest] = pieces;
  const open = pieces.find(({ kind }) => kind === "open");
  if (open) return { mistake: "quote", part: open.text };
  if (key.kind === "word" && sign?.kind === "sign" && sign.text !== ",")
    return keyed(key.text, sign.text, rest, vocabulary);
  const names = parts(pieces);
  return names.length ? { kind: "name", parts: names } : { mistake: "end", part: key.text };
}

/** What a term asks for that begins with a key. */
function keyed(key: string, sign: string, rest: Piece[], vocabulary: Vocabulary) {
  const number = vocabulary.numbers.find((name) => same(name, key));
  const kind = (["right", "class", "is", "cluster", "lasso"] as const).find((name) =>
    same(name, key),
  );
  const values = parts(rest);
  const flips = (same("flip", key) && vocabulary.flips) || [];
  if (!number && !kind && !flips.length)
    return mistaken(/^[:=]$/.test(sign) ? "key" : "number", key);
  if (!values.length) return mistaken("end", key + sign);
  if (number) return compared(number, sign, rest.map(({ text }) => text).join(""));
  if (!/^[:=]$/.test(sign)) return mistaken("number", key);
  if (kind === "right") return truth(values);
  if (flips.length) return turned(values, flips);
  if (kind === "cluster") return clusters(values, vocabulary);
  if (kind === "lasso") return lasso(values);
  return kind ? classes(kind, values, vocabulary) : mistaken("key", key);
}

const mistaken = (mistake: Mistake["mistake"], part: string): Mistake => ({ mistake, part });

function compared(name: string, given: string, text: string): Condition | Mistake {
  const sign = COMPARISONS.find((one) => one === given);
  if (!sign) return mistaken("comparison", name);
  const [, digits, percent] = /^([+-]?(?:\d+\.?\d*|\.\d+))(%?)$/.exec(text.normalize("NFKC")) ?? [];
  if (!digits) return mistaken("value", text);
  return { kind: "number", name, sign, value: percent ? Number(digits) / 100 : Number(digits) };
}

function truth(values: string[]): Condition | Mistake {
  const other = values.find((value) => !same(value, "yes") && !same(value, "no"));
  if (other) return mistaken("truth", other);
  return { kind: "right", values: values.map((value) => same(value, "yes")) };
}

function turned(values: string[], flips: string[]): Condition | Mistake {
  const other = values.find((value) => !flips.some((flip) => same(flip, value)));
  if (other) return mistaken("flip", other);
  return { kind: "flip", values: values.map((value) => value.toLowerCase()) };
}

/** Indices of the classes of a name. */
const named = (value: string, vocabulary: Vocabulary) =>
  vocabulary.classes.flatMap((name, index) => (same(name, value) ? [index] : []));

/** Classes by name; several may have the same. */
function classes(kind: "class" | "is", values: string[], vocabulary: Vocabulary) {
  const found: number[] = [];
  for (const value of values) {
    const indices = named(value, vocabulary);
    if (!indices.length) return mistaken("class", value);
    found.push(...indices);
  }
  return { kind, classes: found };
}

/** Clusters as `cat/2`, alike by where their maps lie, or `cat/2/what`. */
function clusters(values: string[], vocabulary: Vocabulary): Condition | Mistake {
  const found: ClusterName[] = [];
  for (const value of values) {
    const [, name = "", digits, what] = /^(.+?)\/(\d+)(\/what)?$/i.exec(value) ?? [];
    const targets = named(name, vocabulary);
    if (!digits || !targets.length) return mistaken("cluster", value);
    found.push({ targets, number: Number(digits), by: what ? "what" : "where" });
  }
  return { kind: "cluster", clusters: found };
}

/** An outline in a plane, `pca/…`. */
function lasso(values: string[]): Condition | Mistake {
  const [name, text = ""] = values.join(",").split("/");
  const plane = PLANES.find((one) => same(one, name));
  const outline = outlineOf(text);
  return plane && outline ? { kind: "lasso", plane, outline } : mistaken("lasso", name);
}
