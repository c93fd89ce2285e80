// How to read the maps.
import { data, state } from "../app";
import type { MethodProse } from "../data/types";
import { h, linked } from "../parts/dom";
import { prose, t } from "../parts/words";
import { linkTo } from "../state/history";
import { type View, rebuiltBy, viewRoot } from "./view";

/** What to keep in mind, in the order in which readers stumble. */
const CAUTIONS = ["logit", "own", "shared", "small", "dots", "agreement"];

export function methodsView(): View {
  const { methods, leftOut } = prose();
  const cautions = CAUTIONS.map((key) => t(`caution.${key}`));
  const sections = Object.entries(methods).map(([key, method]) => section(key, method));
  const root = viewRoot(
    "methods",
    h("h2", t("view.methods")),
    list(cautions),
    h(".methods", ...sections),
    ...(leftOut.length ? [h("h3", t("leftOut")), list(leftOut)] : []),
  );
  return { root, update: rebuiltBy("apart"), uses: [] };
}

const list = (sentences: string[]) =>
  h("ul.cautions", ...sentences.map((sentence) => h("li", sentence)));

function section(key: string, method: MethodProse) {
  const shown = linkTo({
    view: "matrix",
    method: data.ownMethod(key, state.apart),
    rows: "image",
    columns: "layer",
    beside: "none",
  });
  return h(
    "section",
    { id: `method-${key}` },
    h("h3", h("a.head", { ...shown }, method.name)),
    h("p", method.meaning),
    h("p", h("strong", t("method.caution")), " ", method.caution),
    h("p.formula", method.formula),
    h("p.hint", method.needs),
    h("p.hint", ...linked(method.source)),
  );
}
