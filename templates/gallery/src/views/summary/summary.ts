// The first page: what was found, which image to look at first, which map to doubt, and why.
import { data, report } from "../../app";
import { h } from "../../parts/dom";
import { showsMatrix } from "../../parts/axes";
import { MAX_IN_STRIP } from "../../parts/image";
import { kindsOf } from "../../maps/describe";
import { figureCaption } from "../../parts/legend";
import { failedList, failedTitle } from "../../parts/notes";
import { t } from "../../parts/words";
import { APPEARANCE, concerns } from "../../state/state";
import { arrangeMaps } from "../matrix/matrix";
import { type View, viewRoot } from "../view";
import { filmView, meanFilm } from "./film";
import { readFirst } from "./first";
import { answers, asked, outcome } from "./outcome";
import { confidence, confusion, reliability } from "./predictions";
import { claims, part } from "./said";
import { lastLayer, methodsShown, resultTable } from "./table";
import { measured, trust } from "./trust";

export const summaryView = (): View | Promise<View> =>
  report.images.index.length <= MAX_IN_STRIP ? ofFew() : ofMany();

/** A few images: the table of their maps is the result; below it lies one image in depth. */
async function ofFew(): Promise<View> {
  await Promise.all(report.images.index.map((index) => data.imageOf(index)));
  const depth = showsMatrix() ? await arrangeMaps(h("section")) : filmView();
  const root = viewRoot(
    "summary",
    h("header.lead", outcome(), answers()),
    resultTable(),
    figureCaption(t("summary.table", { layer: lastLayer() }), kindsOf(methodsShown(), false)),
    depth.root,
    ...shown(findings("writing"), confusion(), measured(), cautions(), failed()),
    asked(),
  );
  root.classList.add("few");
  return {
    root,
    uses: depth.uses ?? [],
    update: (changed) => !concerns(changed, "apart") && depth.update(changed),
  };
}

/** Many images: figures, the images to read first, what holds over all of them. */
function ofMany(): View {
  const means = meanFilm();
  const root = viewRoot(
    "summary",
    h("header.lead", outcome(), answers()),
    ...shown(readFirst(), confusion(), confidence(), trust(), findings("findings"), reliability()),
    ...shown(means?.root ?? null, cautions(), failed()),
    asked(),
  );
  root.classList.add("many");
  return {
    root,
    uses: APPEARANCE,
    update(changed) {
      if (concerns(changed, "apart", "method", "layer")) return false;
      if (changed.has("colormap")) means?.redraw();
      return true;
    },
  };
}

const shown = (...parts: (HTMLElement | null)[]) => parts.filter((one) => one !== null);

const findings = (title: string) => part(title, claims(report.summary.findings));

const cautions = () => part("caution", claims(report.summary.cautions));

const failed = () => {
  const list = failedList();
  return list.children.length ? h("section.part.failed", h("h3", failedTitle()), list) : null;
};
