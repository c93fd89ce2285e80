// What the colours of points say, and a key to choose images by.
import { data, report, state } from "../../app";
import type { Atlas } from "../../data/types";
import { button, keepPressed } from "../../parts/controls";
import { bdi, h } from "../../parts/dom";
import { number, t } from "../../parts/words";
import { columnsOf, isRight } from "../../query/match";
import { asksFor, choose, classQuery, clusterName } from "./read";

/** Colours that the style sheet names. */
const COLOURS = 8;

/** Steps of a number's scale. */
const STEPS = 16;

/** A colour's name and images, and the query for these. */
interface Entry {
  words: string;
  query: string;
  kind: "class" | "right" | "cluster";
  count: number;
}

/** Of each point the number of its colour; -1 for those that have none. */
export interface Colouring {
  of: Int16Array;
  /** The colours, to be asked for once the key is on the page. */
  colours: () => string[];
  key: HTMLElement;
}

/** The colours of all points; `places` are theirs among the images, -1 where one is not shown. */
export function colouring(found: Atlas, places: number[]): Colouring {
  const column = columnsOf(report.images).get(state.colour);
  if (column) return ofNumber(places.map((place) => (place < 0 ? null : column(place))));
  if (state.colour === "cluster") return ofClusters(found);
  return state.colour === "right" ? ofOutcome(places) : ofClasses(found);
}

function ofClasses({ points, classes }: Atlas) {
  const shown = classes.slice(0, COLOURS).map(({ index }) => index);
  const entries = shown.map((target): Entry => ({
    words: report.classes[target],
    query: classQuery(target),
    kind: "class",
    count: points.classes.filter((one) => one === target).length,
  }));
  return keyed(
    entries,
    points.classes.map((target) => shown.indexOf(target)),
  );
}

function ofOutcome(places: number[]) {
  const kinds = [true, false];
  const of = places.map((place) => {
    const right = place < 0 ? null : isRight(report.images, place);
    return right === null ? -1 : kinds.indexOf(right);
  });
  const entries = kinds.map((right, i): Entry => ({
    words: t(right ? "right.yes" : "right.no"),
    query: `right:${right ? "yes" : "no"}`,
    kind: "right",
    count: of.filter((one) => one === i).length,
  }));
  return keyed(entries, of);
}

function ofClusters(atlas: Atlas) {
  const all = atlas.classes
    .filter(({ index }) => state.atlasClass < 0 || index === state.atlasClass)
    .flatMap((found) => found[state.alike].map((own) => ({ target: found.index, ...own })));
  const shown = all.sort((one, other) => other.n - one.n).slice(0, COLOURS);
  const { classes, [state.alike]: own } = atlas.points;
  const of = own.map((value, i) =>
    shown.findIndex(({ target, number }) => target === classes[i] && number === value),
  );
  const entries = shown.map(({ target, number, n }): Entry => {
    const name = clusterName(target, number);
    return { words: name, query: `cluster:${name}`, kind: "cluster", count: n };
  });
  return keyed(entries, of);
}

/** A key of names; each chooses its images, or no longer. */
function keyed(entries: Entry[], of: number[]): Colouring {
  const swatches = entries.map(() => h("span.swatch", { "aria-hidden": "true" }));
  const others = of.filter((one) => one < 0).length;
  const rows = entries.map(({ words, query, kind, count }, i) => {
    const own = button("", `key ${query}`, () => choose(kind, query));
    own.append(swatches[i], bdi(words), h("span.quantity", count.toLocaleString("en")));
    return h(
      "li",
      keepPressed(own, () => asksFor(query)),
    );
  });
  const rest =
    others > 0 &&
    h(
      "li.rest",
      h("span.swatch"),
      t("atlas.rest"),
      h("span.quantity", others.toLocaleString("en")),
    );
  return {
    of: Int16Array.from(of),
    colours: () => swatches.map((swatch) => getComputedStyle(swatch).color),
    key: h("ul.key", ...rows, rest),
  };
}

/** A scale from the lowest value to the highest. */
function ofNumber(values: (number | null)[]): Colouring {
  const known = values.filter((value) => value !== null);
  const [least, most] = known.reduce(
    ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
    [Infinity, -Infinity],
  );
  const stepOf = (value: number) =>
    Math.min(STEPS - 1, Math.floor(((value - least) / (most - least || 1)) * STEPS));
  const table = data.tables.viridis ?? data.tables[state.colormap];
  const colours = Array.from({ length: STEPS }, (_, step) => {
    const at = 3 * Math.round((step * 255) / (STEPS - 1));
    return `rgb(${table.slice(at, at + 3).join(" ")})`;
  });
  const bar = h("span.ramp", { "aria-hidden": "true" });
  bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
  const key = h(".key", h("span", number(least)), bar, h("span", number(most)));
  return {
    of: Int16Array.from(values, (value) => (value === null ? -1 : stepOf(value))),
    colours: () => colours,
    key,
  };
}
