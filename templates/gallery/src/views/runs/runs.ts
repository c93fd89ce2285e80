// What several runs say of each other: outcome, numbers, layers, images.
import { report } from "../../app";
import { MIN_EPOCHS } from "../../parts/chooser";
import { bdi, h } from "../../parts/dom";
import { LOOKS, concerns } from "../../state/state";
import { said } from "../summary/said";
import { type View, viewRoot } from "../view";
import { course } from "./course";
import { flips } from "./flips";
import { agreement } from "./layers";
import { deltas } from "./numbers";
import { compared } from "./what";

/** Fields that the view is built anew for. */
const BUILT = ["run", "image", "method", "layer", "page", "apart"] as const;

export function runsView(): View {
  const { comparison, summary } = report;
  if (!comparison) throw new Error("one run is compared with no other");
  const parts = [course, deltas, flips, agreement, compared].map((part) => part(comparison));
  const root = viewRoot("runs", h("h2", bdi(said(summary.headline))));
  root.append(...parts.filter((part) => part !== null));
  return {
    root,
    uses: comparison.runs.length >= MIN_EPOCHS ? [...LOOKS, "run"] : LOOKS,
    update: (changed) => !concerns(changed, ...BUILT),
  };
}
