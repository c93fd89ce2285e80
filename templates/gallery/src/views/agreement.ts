// How far pinned maps agree, in numbers.
import { COMMON } from "../data/grid";
import { commonGrid, rankCorrelation, topOverlap } from "../maps/agreement";
import { isDrawn } from "../maps/look";
import { h } from "../parts/dom";
import { percent, sentences, t } from "../parts/words";
import { LETTERS, type Pinned } from "./pins";

/** A table with a line for each pair. */
export function agreement(pins: Pinned[]) {
  const remarks = [t("compare.caution", { side: COMMON })];
  if (new Set(pins.map((pin) => pin.image.index)).size > 1) remarks.push(t("compare.otherImages"));
  const heads = [t("compare.correlation"), t("compare.overlap")];
  return h(
    ".scroller",
    h(
      "table.numbers",
      h("caption", t("compare.agreement")),
      h("thead", h("tr", h("td"), ...heads.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", ...pairsOf(pins.length).map(([a, b]) => line(pins, a, b))),
    ),
    h("p.hint", sentences(...remarks)),
  );
}

/** Places of all pairs among so many. */
export function pairsOf(count: number) {
  const places = Array.from({ length: count }, (_, place) => place);
  return places.flatMap((a) => places.slice(a + 1).map((b) => [a, b]));
}

const gridOf = ({ image, cam }: Pinned) => (isDrawn(cam) ? commonGrid(image, cam) : null);

function line(pins: Pinned[], a: number, b: number) {
  const [one, other] = [a, b].map((place) => gridOf(pins[place]));
  const correlation = one && other ? rankCorrelation(one, other) : NaN;
  const overlap = one && other && !Number.isNaN(correlation) ? topOverlap(one, other) : NaN;
  return h(
    "tr",
    h("th", { scope: "row" }, `${LETTERS[a]} ${t("compare.with")} ${LETTERS[b]}`),
    h("td", Number.isNaN(correlation) ? "–" : correlation.toFixed(2).replace("-", "−")),
    h("td", Number.isNaN(overlap) ? "–" : percent(overlap)),
  );
}
