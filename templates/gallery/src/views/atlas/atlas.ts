// Where the model looks over the whole run.
import { data, report, state } from "../../app";
import type { ShippedAtlas } from "../../data/types";
import { button, keepPressed, refreshControls } from "../../parts/controls";
import { h } from "../../parts/dom";
import { t } from "../../parts/words";
import { change, linkTo } from "../../state/history";
import { chosenImages } from "../../state/selection";
import { APPEARANCE, type State, concerns } from "../../state/state";
import { chips } from "../overview/query";
import { type View, viewRoot } from "../view";
import { clustersPart } from "./clusters";
import { confusionsPart } from "./confusions";
import { groupsPart } from "./groups";
import { repaint } from "./mean";
import { meansPart } from "./means";
import { outliersPart } from "./outliers";
import type { Shown } from "./read";
import { scatterPart } from "./scatter";

type Part = State["atlas"];

const BUILD: Record<Part, (atlas: ShippedAtlas) => Shown> = {
  means: meansPart,
  clusters: clustersPart,
  scatter: scatterPart,
  outliers: outliersPart,
  confusions: confusionsPart,
  groups: groupsPart,
};

/** Fields that another part or another content follows. */
const FIELDS = [
  ...(["atlas", "atlasClass", "measure", "alike", "plane", "colour"] as const),
  ...(["method", "layer", "apart"] as const),
];

export function atlasView(): View {
  const { atlas } = data;
  const title = h("h2.visually-hidden", t("view.atlas"));
  if (!atlas)
    return { root: viewRoot("atlas", title, h("p.note", t("cell.missing"))), update: () => false };
  const parts = report.atlas;
  const shown = parts.includes(state.atlas) ? state.atlas : parts[0];
  const { nodes, refresh } = BUILD[shown](atlas);
  const selection = chosen();
  const content = nodes.filter((one) => one instanceof Node);
  const root = viewRoot("atlas", title, partBar(parts, shown), selection.root, ...content);
  return {
    root,
    uses: [...APPEARANCE],
    update(changed) {
      if (concerns(changed, ...FIELDS)) return false;
      if (concerns(changed, "colormap", "cells")) repaint(root);
      if (concerns(changed, "query", "colormap")) {
        selection.refresh();
        refreshControls(root);
        refresh?.();
      }
      return true;
    },
  };
}

/** The images that the query finds, which every view shares, and where they are seen. */
function chosen() {
  const root = h("p", { class: "told selection", role: "status" });
  const terms = chips();
  const refresh = () => {
    terms.refresh();
    root.hidden = !state.query;
    const counts = [chosenImages().length, report.images.index.length];
    const [shown, all] = counts.map((count) => count.toLocaleString("en"));
    root.replaceChildren(
      h("span.found", t("atlas.chosen", { shown, all })),
      h("a", linkTo({ view: "overview", page: 0, open: "" }), t("summary.see.overview")),
      h(
        "a",
        linkTo({
          view: "matrix",
          rows: "image",
          columns: "method",
          beside: "none",
          page: 0,
          open: "",
        }),
        t("summary.see.matrix"),
      ),
      button(t("overview.reset"), "reset-filter", () => change({ query: "", page: 0 }, true)),
    );
  };
  refresh();
  return { root: h(".chosen-images", root, terms.root), refresh };
}

/** What there is to look at. */
function partBar(parts: Part[], shown: Part) {
  const own = parts.map((part) =>
    keepPressed(
      button(t(`atlas.part.${part}`), `atlas ${part}`, () => change({ atlas: part }, true)),
      () => part === shown,
    ),
  );
  return h(".parts", { role: "group", "aria-label": t("atlas.parts") }, ...own);
}
