// The heart: layers, methods, classes and images on rows, columns and groups of rows.
import { data, state } from "../../app";
import type { CellId } from "../../data/cells";
import { CONTRAST, PREDICTED, TRUE } from "../../data/dataset";
import { kindsOf, labelNotes, leftOut, pairNames } from "../../maps/describe";
import { FIELD, MAX_IMAGES_ON_AXIS, axes, nameOf, ofOneImage, valuesOf } from "../../parts/axes";
import { pager } from "../../parts/chooser";
import { h, keepFocus } from "../../parts/dom";
import { figureCaption } from "../../parts/legend";
import { notes } from "../../parts/notes";
import { enableRoving } from "../../parts/roving";
import { prose, sentences, t } from "../../parts/words";
import { chosenImages } from "../../state/selection";
import { APPEARANCE, FILTER, concerns } from "../../state/state";
import { truthPanel } from "../truth";
import { type View, viewRoot } from "../view";
import { headLine, many } from "./head";
import { shownMethods } from "./methods";
import { refreshNumbers } from "./numbers";
import { offerPin } from "./pinning";
import { type Plan, isOnTable, planOf } from "./plan";
import { fitTo, mapTable, takeOver } from "./table";

/** What the table shows, and how it is built. */
const SHOWN = [
  "image",
  "run",
  "rank",
  "method",
  "layer",
  "page",
  "chosen",
  "methodOrder",
  "controls",
] as const;
const BUILT = ["rows", "columns", "beside", "apart"] as const;

export const matrixView = () => arrangeMaps(viewRoot("matrix"));

/** The table, and what is said of it, in an element of the page. */
export async function arrangeMaps(root: HTMLElement): Promise<View> {
  await Promise.all(imagesShown().map((index) => data.imageOf(index)));
  const { head, table, truth, foot } = build();
  const panel = h("section.panel", table, foot);
  const shown = h(".panels", panel);
  fitTo(panel, table);
  root.classList.add("arranged");
  root.replaceChildren(head, shown);
  placeTruth(truth, shown);
  enableRoving(shown, ":is(.cell, .head)");
  offerPin(shown);
  refreshNumbers(shown);
  const follow = () => {
    if (imagesShown().some((index) => !data.knownImage(index))) return false;
    const next = build();
    if (!takeOver(table, next.table)) return false;
    keepFocus(root, () => {
      head.replaceChildren(...next.head.childNodes);
      truth.replaceChildren(...next.truth.childNodes);
      placeTruth(truth, shown);
      foot.replaceChildren(...next.foot.childNodes);
    });
    refreshNumbers(shown);
    return true;
  };
  return {
    root,
    uses: [...APPEARANCE, "numbers", ...(isOnTable("run") ? [] : ["run" as const])],
    update(changed) {
      if (changed.has("network")) return false; // other maps under the same names
      if (concerns(changed, ...SHOWN, ...BUILT, ...FILTER)) return follow();
      if (changed.has("numbers")) foot.replaceChildren(...build().foot.childNodes);
      if (concerns(changed, "numbers", "cells")) refreshNumbers(shown);
      return true;
    },
  };
}

/** Put the pair view before the table where the image is predicted wrongly, else behind it. */
function placeTruth(truth: HTMLElement, table: HTMLElement) {
  const wrong = !isOnTable("image") && data.pairOf(state.image)?.wrong;
  if (wrong) table.before(truth);
  else table.after(truth);
}

const imagesShown = () => (isOnTable("image") ? valuesOf("image").map(Number) : [state.image]);

/** The line above the table, the table, the pair view and what is said below, of the present state. */
function build() {
  const image = isOnTable("image") ? null : (data.knownImage(state.image) ?? null);
  const caption = captionWords();
  const keys = isOnTable("method") ? shownMethods() : [state.method];
  const kinds = kindsOf(keys.map((key) => data.methodOf(key)));
  const paged = isOnTable("image") && chosenImages().length > MAX_IMAGES_ON_AXIS;
  const plan = planOf();
  const foot = h(
    ".below",
    figureCaption(caption, kinds),
    state.numbers && h("p.hint", t("matrix.numbers")),
    ...notes([...(image ? labelNotes(image) : []), ...columnNotes(plan), ...prose().leftOut]),
    paged ? pager(MAX_IMAGES_ON_AXIS) : null,
  );
  // The network with permuted weights predicts nothing.
  const paired = data.network === "trained" && !isOnTable("run");
  const truth = h("div", image && paired && truthPanel(image));
  return { head: headLine(image), table: mapTable(plan, caption), truth, foot };
}

/** Why maps are missing; of what is not computed, rows of methods say it under each. */
function columnNotes({ groups }: Plan) {
  const slots = groups.flatMap(({ rows }) => rows.flatMap((row) => row.slots));
  const fused = t("cell.notFused");
  const apart = slots.some((slot) => slot.kind === "none" && slot.reason === fused);
  const ofRuns = slots.flatMap((slot) =>
    data.runs.length && slot.kind === "none" && slot.reason !== fused ? [slot.reason] : [],
  );
  const others = state.rows === "method" ? [] : [...leftOut(), ...ofRuns];
  return [...new Set([...(apart ? [fused] : []), ...others])];
}

/** The two classes of an image's contrast. */
function contrastNames(index: number) {
  const [image, pair] = [data.knownImage(index), data.pairOf(index)];
  return image && pair && pairNames(image, pair);
}

/** What the table shows. */
function captionWords() {
  const { image, run, rank, method, layer, rows, columns, beside } = state;
  const fixed: CellId = { image, run, rank, method, layer };
  const pair = rank === CONTRAST && ofOneImage() && !isOnTable("class") && contrastNames(image);
  const fused = !pair && layer === "fused" && !isOnTable("layer");
  const apart = (pair && "class") || (fused && "layer");
  const named = axes().filter((axis) => !isOnTable(axis) && axis !== apart);
  const of = named.map((axis) => {
    if (axis === "class" && rank === PREDICTED && !ofOneImage()) return t("class.predicted");
    if (axis === "class" && rank === TRUE && !ofOneImage()) return t("class.labelled");
    const name = nameOf(axis, fixed[FIELD[axis]], fixed);
    return axis === "class" && rank !== CONTRAST ? t("class.named", { name }) : name;
  });
  const words = { what: of.join(t("comma")), rows: many(rows), columns: many(columns) };
  let said = t(fused ? "matrix.captionFused" : "matrix.caption", words);
  if (pair) {
    const { first, second } = pair;
    const { what, rows: down, columns: along } = words;
    said = t("matrix.captionContrast", { what, rows: down, columns: along, first, second });
  }
  return beside === "none" ? said : sentences(said, t("matrix.groups", { groups: many(beside) }));
}
