// In what order, groups and size the tiles come.
import { data, report, state } from "../../app";
import { type Option, button, keepPressed, select, slider } from "../../parts/controls";
import { h } from "../../parts/dom";
import { t } from "../../parts/words";
import { columnsOf } from "../../query/match";
import { type Grouping, type Sort, numberOf } from "../../query/order";
import { change } from "../../state/history";
import { chosenImages, queryWith, vocabularyOf } from "../../state/selection";
import type { State } from "../../state/state";
import { numberName, questionName } from "./words";

/** No number of an image is below it. */
const LEAST = -1;

const SIZES: State["density"][] = ["s", "m", "l"];

/** What the order follows, and its direction where that is a number. */
export function order() {
  const fixed = ["order", "name", "class"] as const;
  const options: Option[] = [
    ...fixed.map((key): Option => [key, t(`sort.${key}`)]),
    ...vocabularyOf(report).numbers.map((name): Option => [
      name,
      numberName(name),
      questionName(name),
    ]),
  ];
  const sort = (name: string): Sort => fixed.find((key) => key === name) ?? `${name}.down`;
  const number = () => numberOf(state.sort);
  const choice = select(
    t("overview.sort"),
    "sort",
    options,
    () => number()?.name ?? state.sort,
    (name) => change({ sort: sort(name), page: 0 }),
  );
  const turn = () => {
    const { name, up } = number() ?? { name: "p", up: true };
    change({ sort: up ? `${name}.down` : `${name}.up`, page: 0 });
  };
  const direction = button(t("sort.up"), "direction", turn);
  keepPressed(
    direction,
    () => number()?.up ?? false,
    () => (direction.hidden = !number()),
  );
  return h(".order", choice, direction);
}

/** That not all images have the number that they are sorted by, and what leaves the others out. */
export function lacking() {
  const root = h("p.hint.lacking", { role: "status" });
  const refresh = () => {
    const name = numberOf(state.sort)?.name ?? "";
    const column = columnsOf(report.images).get(name);
    const shown = chosenImages().map((index) => data.placeOf(index));
    const count = shown.filter((place) => !column || column(place) !== null).length;
    root.hidden = count === shown.length;
    if (root.hidden) return root.replaceChildren();
    const key = name in report.images.sampled.numbers ? "sample" : "some";
    const values = { count: count.toLocaleString("en"), all: shown.length.toLocaleString("en") };
    const act = () => change({ query: queryWith(() => false, `${name}>=${LEAST}`), page: 0 }, true);
    root.replaceChildren(
      t(`overview.${key}`, values),
      " ",
      button(t("overview.only"), "only", act),
    );
  };
  refresh();
  return { root, refresh };
}

/** Right predictions, those first whose maps have the least on the object; null where that is unknown. */
export function wrongPlaces() {
  const { numbers } = vocabularyOf(report);
  const name = [state.method, report.glance.method]
    .map((method) => `regions.${method}`)
    .find((one) => numbers.includes(one));
  if (!name || !report.images.label.some((label) => label !== null)) return null;
  const wanted = () => ({
    query: queryWith(({ kind }) => kind === "right", "right:yes"),
    sort: `${name}.up` as const,
  });
  const own = button(t("overview.wrongPlaces"), "wrong-places", () =>
    change({ ...wanted(), page: 0 }, true),
  );
  return keepPressed(own, () => {
    const { query, sort } = wanted();
    return state.query === query && state.sort === sort;
  });
}

/** What the tiles are grouped by. */
export function groupChoice() {
  const labelled = report.images.label.some((label) => label !== null);
  const kinds: Grouping[] = ["none", "class", ...(labelled ? (["outcome"] as const) : [])];
  return select<Grouping>(
    t("overview.group"),
    "group",
    kinds.map((kind): Option => [kind, t(`group.by.${kind}`)]),
    () => state.group,
    (group) => change({ group, page: 0 }),
  );
}

/** How large the tiles are. */
export const size = () =>
  slider(
    t("overview.size"),
    "density",
    { min: 0, max: SIZES.length - 1, step: 1 },
    () => SIZES.indexOf(state.density),
    (place) => t(`density.${SIZES[place]}`),
    (place) => change({ density: SIZES[place] }),
  );
