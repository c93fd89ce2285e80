// The first page of a comparison: the outcome, which image to look at first, what was found.
import { data, report } from "../../app";
import { bdi, h } from "../../parts/dom";
import { MAX_IN_STRIP } from "../../parts/image";
import { sentences, t } from "../../parts/words";
import { linkTo } from "../../state/history";
import { APPEARANCE, concerns } from "../../state/state";
import { asked } from "../summary/outcome";
import { claims, leadToImage, part, said } from "../summary/said";
import { type View, viewRoot } from "../view";
import { counts } from "./flips";
import { byMove, runTable } from "./maps";
import { outcome } from "./numbers";

/** Most images that are shown of many. */
const MAX_SHOWN = 6;

export function runsSummary(): View {
  const { comparison, summary } = report;
  if (!comparison) throw new Error("one run is compared with no other");
  const few = report.images.index.length <= MAX_IN_STRIP;
  const chosen = summary.first.map(({ image }) => data.placeOf(image));
  const shown = few ? byMove([...report.images.index.keys()]) : chosen.slice(0, MAX_SHOWN);
  const rule = few || !chosen.length ? "" : said(summary.rule);
  const parts = [
    part("findings", claims(summary.findings)),
    part("caution", claims(summary.cautions)),
  ].filter((one) => one !== null);
  const root = viewRoot(
    "summary",
    h("header.lead", outcome(comparison), first()),
    counts(),
    ...(shown.length
      ? [
          runTable(shown),
          h("p.figcaption", sentences(rule, said(comparison.movedOf), t("runs.scale"))),
        ]
      : []),
    h("p", h("a", linkTo({ view: "runs" }), t("runs.all"))),
    ...parts,
    asked(),
  );
  root.classList.add("few");
  return { root, uses: APPEARANCE, update: (changed) => !concerns(changed, "apart") };
}

/** Which image to look at first, and why; nothing where none differs. */
function first() {
  const [chosen] = report.summary.first;
  if (!chosen) return null;
  const { image, reasons } = chosen;
  const name = bdi(report.images.file[data.placeOf(image)]);
  return h(
    "dl.answers",
    h(
      "div",
      h("dt", t("summary.lookFirst")),
      h("dd", h("a", leadToImage(image), name), t("colon"), reasons.map(said).join(t("list"))),
    ),
  );
}
