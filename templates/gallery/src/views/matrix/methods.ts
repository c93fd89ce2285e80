// Which methods a table shows, in what order, and the chips that choose them.
import { data, report, state } from "../../app";
import type { ImageRecord } from "../../data/dataset";
import type { MethodFacts } from "../../data/types";
import { commonGrid, rankCorrelation } from "../../maps/agreement";
import { shownControls } from "../../maps/availability";
import { isDrawn } from "../../maps/look";
import { button, checkbox, keepPressed, select } from "../../parts/controls";
import { h } from "../../parts/dom";
import { t } from "../../parts/words";
import { change } from "../../state/history";
import type { State } from "../../state/state";

/** Most methods that are shown where none are chosen. */
export const MAX_AT_FIRST = 8;

/** Most methods that need no choosing. */
const MAX_UNCHOSEN = 2;

/** Least number of methods that are put in groups by what they are made from. */
const MIN_GROUPED = 5;

/** What methods are made from, in the order of the groups. */
const FAMILIES: MethodFacts["family"][] = ["gradient", "activation", "perturbation", "network"];

/** Sets methods apart in the state. */
const BETWEEN = "~";

const own = () => data.ownMethods(state.apart);

/** Whether there is anything to choose. */
export const choosesMethods = () =>
  report.methods.length > MAX_UNCHOSEN || data.controls.length > 0;

/** The methods to choose from, family by family. */
const byFamily = () =>
  FAMILIES.flatMap((family) => own().filter((method) => method.family === family));

/** Keys of the methods that are chosen; where none are, of the first ones of the run. */
function chosenMethods() {
  const keys = own().map(({ key }) => key);
  const chosen = state.chosen
    .split(BETWEEN)
    .map((key) => data.ownMethod(key, state.apart))
    .filter((key) => keys.includes(key));
  return new Set(chosen.length ? chosen : keys.slice(0, MAX_AT_FIRST));
}

/** Keys of the methods that are shown, in their order; the controls come last. */
export const shownMethods = () => [...orderedMethods(), ...shownControls().map(({ key }) => key)];

function orderedMethods() {
  const chosen = chosenMethods();
  const keys = byFamily().flatMap(({ key }) => (chosen.has(key) ? [key] : []));
  const image = data.knownImage(state.image);
  if (state.methodOrder === "family" || !image) return keys;
  const agrees = agreement(image);
  const place = (key: string) => agrees.get(key) ?? -2;
  return keys.sort((one, other) => place(other) - place(one));
}

/** The family of a method where the table groups by them; "" where it does not. */
export function familyOf(key: string) {
  const many = chosenMethods().size >= MIN_GROUPED && state.methodOrder === "family";
  return many ? data.methodOf(key).family : "";
}

/**
 * How far each method's maps order the cells of a common grid as those of the selected method do:
 * the median of Spearman's rank correlation over the layers where both have a map.
 */
export function agreement(image: ImageRecord) {
  const { method, rank } = state;
  const found = new Map<string, number>();
  for (const { key } of own()) {
    const values = report.layers
      .map(({ address }) => correlation(image, [method, key], address, rank))
      .filter((value) => !Number.isNaN(value))
      .sort((one, other) => one - other);
    if (values.length) found.set(key, median(values));
  }
  return found;
}

function median(sorted: number[]) {
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** The rank correlation of two methods' maps at a layer; NaN where one has none there. */
function correlation(image: ImageRecord, methods: string[], layer: string, rank: number) {
  const place = data.rankIn(image.index, rank);
  const [one, other] = methods.map((method) =>
    data.camOf(image, { image: image.index, run: image.run, rank: place, method, layer }),
  );
  if (!isDrawn(one) || !isDrawn(other)) return NaN;
  return rankCorrelation(commonGrid(image, one), commonGrid(image, other));
}

/** How many methods are shown. */
export const countWords = () =>
  t("matrix.methods", { shown: chosenMethods().size, all: own().length });

/** Chips that show or hide each method, in groups, and their order. */
export function methodPanel() {
  const groups = FAMILIES.map((family) => {
    const members = own().filter((method) => method.family === family);
    const name = t(`family.${family}`);
    return (
      members.length > 0 &&
      h(
        ".method-chips",
        { role: "group", "aria-label": name },
        h("span.hint", name),
        ...members.map(chip),
      )
    );
  });
  return [...groups, h(".folded", all(), order(), ...apartBox(), ...doubts())];
}

/** What can be seen beside the maps, or in their place, to doubt them. */
function doubts() {
  const controls = checkbox(
    t("matrix.controls"),
    "controls",
    () => state.controls,
    (on) => change({ controls: on }),
  );
  const scrambled = checkbox(
    t("network"),
    "network",
    () => state.network === "scrambled",
    (on) => change({ network: on ? "scrambled" : "trained" }, true),
  );
  const hasScrambled = state.view === "matrix" && typeof report.evidence?.scrambled === "number";
  return [data.controls.length > 0 && controls, hasScrambled && scrambled];
}

function chip({ key, name }: MethodFacts) {
  const shown = () => chosenMethods().has(key);
  const choose = () => {
    const chosen = chosenMethods();
    if (!chosen.delete(key)) chosen.add(key);
    change({ chosen: [...chosen].join(BETWEEN) });
  };
  return keepPressed(button(name, `chip ${key}`, choose), shown);
}

const all = () =>
  button(t("matrix.allMethods"), "all-methods", () =>
    change({
      chosen: own()
        .map(({ key }) => key)
        .join(BETWEEN),
    }),
  );

const order = () =>
  select<State["methodOrder"]>(
    t("matrix.order"),
    "method-order",
    [
      ["family", t("matrix.order.family")],
      ["agreement", t("matrix.order.agreement", { name: data.methodOf(state.method).name })],
    ],
    () => state.methodOrder,
    (methodOrder) => change({ methodOrder }),
  );

const apartBox = () =>
  report.methods.some((method) => method.like)
    ? [
        checkbox(
          t("apart"),
          "matrix-apart",
          () => state.apart,
          (apart) => change({ apart, method: data.ownMethod(state.method, apart) }),
        ),
      ]
    : [];
