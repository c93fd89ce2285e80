// A query as controls write it: they replace their own terms and leave the others as they are.
import { type Condition, type Term, type Vocabulary, parse } from "./parse";

/** A term as others can follow it: its quotes are closed. */
const closed = ({ text, asks }: Term) =>
  "mistake" in asks && asks.mistake === "quote" ? `${text}"` : text;

/** A query with other terms in the place of those that a control owns. */
export function rewrite(
  query: string,
  vocabulary: Vocabulary,
  owns: (condition: Condition) => boolean,
  ...terms: string[]
) {
  const given = parse(query, vocabulary);
  const owned = given.map(({ asks }) => "kind" in asks && owns(asks));
  const place = owned.indexOf(true);
  const kept = given.filter((_, i) => !owned[i]).map(closed);
  kept.splice(place < 0 ? kept.length : place, 0, ...terms);
  return kept.join(" ");
}

/** A query without its term at a place. */
export const without = (query: string, vocabulary: Vocabulary, place: number) =>
  parse(query, vocabulary)
    .filter((_, i) => i !== place)
    .map(closed)
    .join(" ");
