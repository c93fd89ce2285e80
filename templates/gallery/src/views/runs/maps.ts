// Images with their maps in two runs and how these differ, side by side.
import { data, report } from "../../app";
import type { CellId } from "../../data/cells";
import { PREDICTED, TRUE } from "../../data/dataset";
import { availability, shortReason } from "../../maps/availability";
import { cellButton } from "../../maps/cell";
import { bdi, h } from "../../parts/dom";
import { enableRoving } from "../../parts/roving";
import { percent, probability, runName, t } from "../../parts/words";
import { leadToImage } from "../summary/said";

/** The class that a map's move is measured of: the true one, or else the first run's. */
export function rankOf(index: number) {
  const known = report.images.label[data.placeOf(index)] !== null;
  return data.rankIn(index, known ? TRUE : PREDICTED, 0);
}

/** The first run, the one that is compared with it, and what that one has more. */
export const compared = () => [0, data.compared, -data.compared];

export const movedAt = (place: number) => report.images.numbers.moved?.[place] ?? null;

/** Places in the order of how far the map moved; where that is unknown they come last. */
export const byMove = (places: number[]) =>
  [...places].sort((one, other) => (movedAt(other) ?? -1) - (movedAt(one) ?? -1));

/** Places of the images whose prediction changed. */
export const flipped = () =>
  [...report.images.index.keys()].filter((place) => data.flips[place] !== "no");

/** A table of some images, given by their places. */
export function runTable(places: number[]) {
  const runs = compared();
  const head = (text: string) => h("th", { scope: "col" }, bdi(text));
  const names = [t("axis.image"), t("predictions"), ...runs.map(runName)];
  const root = h(
    "table.run-maps",
    { role: "table" },
    h("caption.visually-hidden", t("runs.table")),
    h("thead", h("tr", ...names.map(head))),
    h("tbody", ...places.map((place) => line(place, runs))),
  );
  enableRoving(root);
  return root;
}

function line(place: number, runs: number[]) {
  const { index, file } = report.images;
  const image = index[place];
  const moved = movedAt(place);
  const turned = data.flips[place];
  const change = h("span", { class: `badge ${turned}` }, t(`runs.flip.${turned}`));
  return h(
    "tr",
    h("th", { scope: "row" }, h("a", leadToImage(image), bdi(file[place]))),
    h(
      "td",
      ...runs.filter((run) => run >= 0).map((run) => prediction(place, run)),
      h("p", change),
      moved === null ? null : h("p.hint", t("runs.moved", { share: percent(moved) })),
    ),
    ...runs.map((run) => h("td", ...map(image, run))),
  );
}

/** What a run predicts for an image, and whether that is known to be wrong. */
export function prediction(place: number, run: number) {
  const { index, label } = report.images;
  const top = data.topOf(index[place], run);
  const own = label[place];
  const wrong = own !== null && top?.[0] !== own;
  return h(
    "p.prediction",
    h("strong", bdi(runName(run))),
    " ",
    top ? h("span", bdi(report.classes[top[0]]), ` ${probability(top[1])}`) : t("runs.otherClass"),
    wrong && h("span.wrong", " ✗ ", bdi(t("chip.is", { name: report.classes[own] }))),
  );
}

/** A map of a run with the name of the run for where the heads are not shown; or why there is none. */
export function map(image: number, run: number) {
  const { method, layer } = report.glance;
  const id: CellId = { image, run, rank: rankOf(image), method, layer };
  const there = availability(method, layer, run);
  const tag = h("span.tag", { "aria-hidden": "true" }, bdi(runName(run)));
  if (there !== "map") return [tag, h("span", { title: there }, shortReason(method, layer, run))];
  return [tag, cellButton(id, { caption: false, place: "run" })];
}
