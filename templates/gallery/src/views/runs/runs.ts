// What several runs say of each other: outcome, numbers, layers, images.
import { data, report } from "../../app";
import { MIN_EPOCHS } from "../../parts/chooser";
import { bdi, h } from "../../parts/dom";
import { LOOKS, concerns } from "../../state/state";
import { runName } from "../../parts/words";
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
  const isLast = data.compared === comparison.runs.length - 1;
  const title = isLast ? said(summary.headline) : runName(-data.compared);
  const root = viewRoot("runs", h("h2", bdi(title)));
  root.append(...parts.filter((part) => part !== null));
  return {
    root,
    uses: comparison.runs.length >= MIN_EPOCHS ? [...LOOKS, "run"] : LOOKS,
    update: (changed) => !concerns(changed, ...BUILT),
  };
}
