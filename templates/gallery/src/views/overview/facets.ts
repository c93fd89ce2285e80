// Choices among what the images have: outcome, predicted and true class, each with its count.
import { data, report, state } from "../../app";
import { bdi, h, keepFocus } from "../../parts/dom";
import { t } from "../../parts/words";
import { isRight } from "../../query/match";
import { parse, quote } from "../../query/parse";
import { change } from "../../state/history";
import { places, queryWith, vocabularyOf } from "../../state/selection";

/** Most classes in a list; the query finds the others. */
const MAX_CLASSES = 8;

type Kind = "right" | "class" | "is" | "flip";

/** A value of the images, as a query writes it. */
type Value = number | boolean | string;

/** What an image has; null where that is not known. */
function valueOf(kind: Kind, place: number): Value | null {
  const { images } = report;
  if (kind === "right") return isRight(images, place);
  if (kind === "flip") return data.flips[place] ?? null;
  return kind === "is" ? images.label[place] : (images.top[place][0]?.[0] ?? null);
}

function counted(kind: Kind, among: Iterable<number>) {
  const counts = new Map<Value, number>();
  for (const place of among) {
    const value = valueOf(kind, place);
    if (value !== null) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return counts;
}

/** The values that the query asks for. */
function asked(kind: Kind) {
  const found = new Set<Value>();
  for (const { asks } of parse(state.query, vocabularyOf(report))) {
    if (!("kind" in asks) || asks.kind !== kind) continue;
    const values: Value[] = "values" in asks ? asks.values : asks.classes;
    for (const value of values) found.add(value);
  }
  return found;
}

function written(value: Value) {
  if (typeof value === "number") return quote(report.classes[value]);
  return typeof value === "string" ? value : value ? "yes" : "no";
}

function named(value: Value) {
  if (typeof value === "number") return report.classes[value];
  return t(typeof value === "string" ? `runs.flip.${value}` : value ? "right.yes" : "right.no");
}

/** Ask for a value too, or no more. */
function toggle(kind: Kind, value: Value) {
  const wanted = asked(kind);
  if (!wanted.delete(value)) wanted.add(value);
  const texts = [...new Set([...wanted].map(written))];
  const terms = texts.length ? [`${kind}:${texts.join(",")}`] : [];
  change({ query: queryWith((condition) => condition.kind === kind, ...terms), page: 0 }, true);
}

/** A list of values to choose from; null where the images do not differ in them. */
export function facet(kind: Kind) {
  const all = counted(kind, report.images.index.keys());
  if (all.size < (kind === "right" ? 1 : 2)) return null;
  const frequent = [...all.keys()].sort((a, b) => (all.get(b) ?? 0) - (all.get(a) ?? 0));
  const listed =
    kind === "right"
      ? [false, true].filter((value) => all.has(value))
      : frequent.slice(0, MAX_CLASSES);
  const list = h("ul");
  const more = all.size - listed.length;
  const root = h(
    "fieldset.facet",
    h("legend", t(`facet.${kind}`)),
    list,
    more > 0 && h("p.hint", t("facet.more", { more, kind })),
  );
  const refresh = () => {
    const chosen = asked(kind);
    const others = places(
      report,
      queryWith((condition) => condition.kind === kind),
    );
    const counts = counted(kind, others);
    const shown = [...new Set([...listed, ...chosen])];
    const entries = shown.map((value) =>
      entry(kind, value, chosen.has(value), counts.get(value) ?? 0),
    );
    keepFocus(root, () => list.replaceChildren(...entries));
  };
  refresh();
  return { root, refresh };
}

function entry(kind: Kind, value: Value, checked: boolean, count: number) {
  const input = h("input", {
    type: "checkbox",
    checked,
    "data-focus": `${kind} ${written(value)}`,
    onchange: () => toggle(kind, value),
  });
  return h(
    "li",
    h(
      "label.check",
      input,
      h("span", bdi(named(value))),
      h("span.quantity", count.toLocaleString("en")),
    ),
  );
}
