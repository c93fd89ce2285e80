// All images at a glance, with one map each: found by a query, in order and groups, a hundred at a
// time.
import { report, state } from "../../app";
import { chooser, pager } from "../../parts/chooser";
import { button, refreshControls } from "../../parts/controls";
import { byId, h, keepFocus } from "../../parts/dom";
import { enableRoving } from "../../parts/roving";
import { t } from "../../parts/words";
import { change } from "../../state/history";
import { chosenImages } from "../../state/selection";
import { APPEARANCE, FILTER, concerns } from "../../state/state";
import { type View, viewRoot } from "../view";
import { groupChoice, lacking, order, size, wrongPlaces } from "./arrangement";
import { facet } from "./facets";
import { histogram } from "./histogram";
import { chips, queryLine } from "./query";
import { MAX_TILES, fillTiles } from "./tiles";

export function overviewView(): View {
  const line = queryLine();
  const terms = chips();
  const filters = [facet("flip"), facet("right"), histogram(), facet("class"), facet("is")].filter(
    (one) => one !== null,
  );
  const found = h("p", { role: "status", class: "found" });
  const without = lacking();
  const list = h(".results");
  const foot = h("div");
  const rail = sideRail(filters.map(({ root }) => root));
  const root = viewRoot(
    "overview",
    h("h2.visually-hidden", t("view.overview")),
    h(".ask", line.root, order(), openRail()),
    h(".told", found, terms.root, wrongPlaces(), without.root),
    h(".page", list, foot),
    rail,
  );
  let tiles = new Map<string, HTMLElement>();
  const show = () => {
    tiles = fillTiles(list, tiles);
    found.textContent = countWords();
    without.refresh();
    foot.replaceChildren(...below());
  };
  show();
  enableRoving(list);
  list.dataset.size = state.density;
  return {
    root,
    uses: [...APPEARANCE, "rank", "run"],
    update(changed) {
      if (concerns(changed, "apart", "run")) return false; // the methods to choose from, all predictions
      refreshControls(root);
      list.dataset.size = state.density;
      if (concerns(changed, "query"))
        for (const { refresh } of [line, terms, ...filters]) refresh();
      if (concerns(changed, ...FILTER, "page", "method", "layer", "rank"))
        keepFocus(byId("view"), show);
      return true;
    },
  };
}

/** How many images the query finds. */
function countWords() {
  const counts = [chosenImages().length, report.images.index.length];
  const [shown, all] = counts.map((count) => count.toLocaleString("en"));
  return t("overview.count", { shown, all });
}

/** What leads on from the page: to the others, or to all images where none is found. */
function below() {
  const { length } = chosenImages();
  if (length) return length > MAX_TILES ? [pager(MAX_TILES)] : [];
  const reset = button(t("overview.reset"), "reset-filter", () => change({ query: "" }, true));
  return [h("p.nothing", t("overview.nothing"), " ", reset)];
}

/** Filters, and how the tiles look: beside the page, or a sheet over it where that is narrow. */
function sideRail(filters: HTMLElement[]) {
  const title = h("h3", { id: "rail-title" }, t("overview.filters"));
  const tiles = h(
    "fieldset.facet",
    h("legend", t("overview.tiles")),
    groupChoice(),
    size(),
    chooser("method"),
    chooser("layer"),
  );
  return h(
    "aside",
    { id: "rail", popover: "auto", "aria-labelledby": title.id },
    title,
    ...filters,
    tiles,
  );
}

/** What opens the side rail where the page is narrow. */
function openRail() {
  const open = h("button", { type: "button", "data-focus": "rail" }, t("overview.filters"));
  open.setAttribute("popovertarget", "rail");
  return open;
}
