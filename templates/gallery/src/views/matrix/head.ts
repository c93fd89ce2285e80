// The line above the table: which image, what was predicted, which classes; and what is arranged.
import { data, report, state } from "../../app";
import { CONTRAST, type ImageRecord } from "../../data/dataset";
import { axes, nameOf } from "../../parts/axes";
import { chooser, imageList, imageSteps } from "../../parts/chooser";
import { type Option, button, keepPressed, select } from "../../parts/controls";
import { type Child, bdi, h } from "../../parts/dom";
import { MAX_IN_STRIP, badge, imageSize, strip, topWords } from "../../parts/image";
import { toolbar } from "../../parts/roving";
import { t, withChance } from "../../parts/words";
import { change } from "../../state/history";
import { chosenImages } from "../../state/selection";
import type { Axis, State } from "../../state/state";
import { choosesMethods, countWords, methodPanel } from "./methods";
import { isOnTable, shownClasses } from "./plan";

/** The axes' names in a sentence. */
export const many = (axis: Axis) => t(`axis.${axis}.many`);

/** The image's line and what is arranged, or without one image the latter alone. */
export function headLine(image: ImageRecord | null) {
  const few = report.images.index.length <= MAX_IN_STRIP;
  const panels = [
    panel("methods", countWords, choosesMethods() && isOnTable("method"), methodPanel),
    panel("axes", () => t("matrix.axes"), true, axesPanel),
  ];
  return h(
    "header.image-line",
    image && (few ? strip() : imageSteps(placeWords())),
    image && about(image),
    classSwitch(image),
    h(".openers", ...panels.map(([opener]) => opener)),
    ...panels.map(([, shown]) => shown),
    data.network === "scrambled" && scrambledNotice(),
  );
}

/** That the maps are not those of the network as it is, and the way back. */
const scrambledNotice = () =>
  h(
    "p.notice.scrambled",
    { role: "status" },
    t("network.notice", { seed: report.evidence?.scrambled ?? 0 }),
    " ",
    button(t("network.trained"), "trained", () => change({ network: "trained" }, true)),
  );

/** Where the image lies among those that are chosen. */
function placeWords() {
  const images = chosenImages();
  const place = images.indexOf(state.image);
  const count = images.length.toLocaleString(state.language);
  const words = t("matrix.place", { place: place < 0 ? "–" : place + 1, count });
  const { query } = state;
  return h("span.place", words, " ", query ? h("code", query) : null);
}

/** The image's name, its prediction, and whether that is wrong. */
function about(image: ImageRecord) {
  const place = data.placeOf(image.index);
  return h(
    ".about",
    h("h2", { title: imageSize(image) }, bdi(report.images.file[place])),
    !isOnTable("run") && h("span.top", bdi(topWords(image.index))),
    !isOnTable("run") && isWrong(place) && badge(place),
  );
}

/** Whether the prediction is known to be wrong: what is right stands unmarked. */
function isWrong(place: number) {
  const { label, top } = report.images;
  return label[place] !== null && top[place].length > 0 && top[place][0][0] !== label[place];
}

/** A button for each explained class, the predicted one first, and one for all of them. */
function classSwitch(image: ImageRecord | null) {
  const ranks = shownClasses();
  if (ranks.length < 2) return null;
  const together = isOnTable("class");
  const placed = (rank: number) =>
    image && rank !== CONTRAST ? data.rankIn(image.index, rank) : rank;
  const shown = (rank: number) => !together && placed(rank) === placed(state.rank);
  const entry = (rank: number, name: string) => {
    const choose = () => change({ ...withoutClass(), rank }, true);
    return keepPressed(button(name, `class ${rank}`, choose), () => shown(rank));
  };
  const named = (rank: number) => nameOf("class", rank, state);
  const buttons = ranks.map((rank) =>
    entry(rank, image && !isOnTable("run") ? withChance(image, placed(rank)) : named(rank)),
  );
  if (image && data.pairOf(image.index)) buttons.push(entry(CONTRAST, t("fact.contrast")));
  const all = button(
    ranks.length === 2 ? t("matrix.bothClasses") : t("matrix.allClasses"),
    "class all",
    () => together || change({ beside: "class" }, true),
  );
  return toolbar(
    { class: "class-switch", "aria-label": t("axis.class") },
    ...buttons,
    keepPressed(all, () => together),
  );
}

/** The table without classes on any axis: another takes their place. */
function withoutClass(): Partial<State> {
  const { rows, columns, beside } = state;
  if (beside === "class") return { beside: "none" };
  const free: Axis[] = ["method", "layer", "image"];
  const other = beside === "none" ? free.find((axis) => !isOnTable(axis)) : beside;
  if (!other) return {};
  if (rows === "class") return { rows: other, beside: "none", page: 0 };
  return columns === "class" ? { columns: other, beside: "none", page: 0 } : {};
}

/** Panels that the reader has opened. */
const opened = new Set<string>();

/** A button that opens a panel below the line, and the panel. */
function panel(key: string, label: () => string, useful: boolean, content: () => Child[]) {
  if (!useful) return [null, null];
  const shown = h(".panel-line", { id: `matrix-${key}` }, ...content());
  const opener = button(label(), `open ${key}`, () => {
    if (!opened.delete(key)) opened.add(key);
    refresh();
  });
  opener.setAttribute("aria-controls", shown.id);
  const refresh = () => {
    shown.hidden = !opened.has(key);
    opener.setAttribute("aria-expanded", String(!shown.hidden));
  };
  refresh();
  return [opener, shown];
}

/** What lies on rows, columns and groups, and a choice for each axis that is not shown. */
function axesPanel() {
  const { rows, columns } = state;
  const names = axes().map((axis): Option => [axis, many(axis)]);
  const others = names.filter(([axis]) => axis !== rows && axis !== columns && axis !== "image");
  const side = (key: "rows" | "columns") =>
    select<Axis>(t(`matrix.${key}`), key, names, () => state[key], putOn(key));
  return [
    side("rows"),
    side("columns"),
    select<State["beside"]>(
      t("matrix.beside"),
      "beside",
      [["none", t("matrix.nothingBeside")], ...others],
      () => state.beside,
      (beside) => change({ beside }, true),
    ),
    ...axes()
      .filter((axis) => !isOnTable(axis))
      .map((axis) => (axis === "image" ? imageList() : chooser(axis))),
  ];
}

/** Put an axis on rows or columns; one that lay there already changes places with it. */
const putOn = (side: "rows" | "columns") => (axis: Axis) => {
  const other = side === "rows" ? "columns" : "rows";
  const changes: Partial<State> = { [side]: axis, page: 0 };
  if (state[other] === axis) changes[other] = state[side];
  if (state.beside === axis) changes.beside = "none";
  change(changes, true);
};
