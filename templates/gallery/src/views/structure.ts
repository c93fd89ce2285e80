// What the model is made of: the text that print(model) gives, and its modules in a table.
import { report } from "../app";
import { bdi, h } from "../parts/dom";
import { t } from "../parts/words";

/** Most modules that are printed; a longer table is in the exported figures. */
const MAX_ON_PAPER = 120;

/** The structure with its title, if it is known; the printed text is folded until it is asked for. */
export function structureSection() {
  const { printed, modules, more } = report.structure;
  if (!modules.length) return "";
  const long = modules.length > MAX_ON_PAPER;
  return h(
    "section",
    { class: `structure${long ? " screen-only" : ""}` },
    h("h3", t("structure.title")),
    h(
      ".scroller",
      { role: "region", tabindex: "0", "aria-label": t("structure.title") },
      moduleTable(),
    ),
    more > 0 && h("p.hint", t("structure.more", { count: more })),
    h("details", h("summary", t("structure.printed")), h("pre", printed)),
  );
}

function moduleTable() {
  const heads = ["address", "type", "output", "parameters"].map((key) =>
    h("th", { scope: "col" }, t(`structure.${key}`)),
  );
  const lines = report.structure.modules.map(({ address, type, shape, parameters }) =>
    h(
      "tr",
      h("th", { scope: "row" }, h("code", bdi(address))),
      h("td", bdi(type)),
      h("td", shape ? shape.join(" × ") || "1" : "–"),
      h("td", parameters ? parameters.toLocaleString("en") : ""),
    ),
  );
  return h(
    "table.numbers",
    h("caption", t("structure.caption", { count: report.structure.modules.length })),
    h("thead", h("tr", ...heads)),
    h("tbody", ...lines),
  );
}
