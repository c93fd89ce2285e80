// The images whose predictions changed, sorted by how far their maps moved.
import { data, report } from "../../app";
import type { Comparison } from "../../data/types";
import { FLIPS } from "../../data/dataset";
import { pager } from "../../parts/chooser";
import { h } from "../../parts/dom";
import { sentences, t } from "../../parts/words";
import { linkTo } from "../../state/history";
import { pageOf } from "../../state/selection";
import { said } from "../summary/said";
import { byMove, flipped, movedAt, runTable } from "./maps";
import { titled } from "./numbers";

/** Most images of a page. */
const MAX_ROWS = 10;

/** Most images that are shown where no prediction changed. */
const MAX_MOVED = 6;

/** Images to look at: those whose prediction changed; where none has, those whose maps moved. */
export function worthSeeing() {
  const changed = flipped();
  if (changed.length) return byMove(changed);
  const moved = [...report.images.index.keys()].filter((place) => (movedAt(place) ?? 0) > 0);
  return byMove(moved).slice(0, MAX_MOVED);
}

export function flips({ movedOf }: Comparison) {
  const places = worthSeeing();
  if (!places.length) return titled("flips", h("p", t("runs.flips.same")));
  const changed = flipped().length > 0;
  return titled(
    "flips",
    changed ? counts() : h("p", t("runs.flips.none")),
    h("p.hint", sentences(said(movedOf), t("runs.scale"))),
    runTable(pageOf(places, MAX_ROWS)),
    places.length > MAX_ROWS ? pager(MAX_ROWS, places.length) : null,
  );
}

/** How many predictions turned which way; each leads to their images. */
export function counts() {
  const entries = FLIPS.flatMap((kind) => {
    const count = data.flips.filter((one) => one === kind).length;
    const to = linkTo({ view: "overview", query: `flip:${kind}`, sort: "moved.down", page: 0 });
    return count
      ? [h("li", h("a", to, t(`runs.flip.${kind}`)), ` ${count.toLocaleString("en")}`)]
      : [];
  });
  return h("ul.flips", ...entries);
}
