// What is compared: the runs with their models, the images that they share, the layers that match.
import { report, state } from "../../app";
import type { ComparedRun, Comparison } from "../../data/types";
import { bdi, definitions, h } from "../../parts/dom";
import { t } from "../../parts/words";
import { said } from "../summary/said";
import { pairs } from "./layers";
import { titled } from "./numbers";

export function compared(comparison: Comparison) {
  const { runs } = comparison;
  const heads = ["axis.run", "runs.model", "runs.images", "runs.right"].map((key) => t(key));
  const table = h(
    "table.numbers",
    h("thead", h("tr", ...heads.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", ...runs.map(line)),
  );
  const elsewhere = runs.filter((run) => run.elsewhere);
  return titled(
    "what",
    h(".scroller", table),
    h("p", t("runs.joined", { count: report.images.index.length.toLocaleString("en") })),
    ...elsewhere.map(({ name, elsewhere: count }) =>
      h("p.hint", bdi(name), t("colon"), t("runs.elsewhere", { count })),
    ),
    missing(comparison),
    pairs(comparison),
    ...runs.map(facts),
  );
}

const line = ({ name, model, count, accuracy }: ComparedRun) =>
  h(
    "tr",
    h("th", { scope: "row" }, bdi(name)),
    h("td", bdi(model)),
    h("td", count.toLocaleString("en")),
    h("td", accuracy ? `${accuracy.right}/${accuracy.total}` : "–"),
  );

/** The images that not all runs have; none where all have all. */
function missing({ missing, missingCount, runs }: Comparison) {
  if (!missingCount) return null;
  const entries = missing.map(({ file, runs: lacking, reason }) => {
    const names = lacking.map((run) => runs[run].name).join(t("names"));
    return h(
      "li",
      bdi(file),
      t("colon"),
      bdi(t("runs.lacks", { runs: names })),
      t("comma"),
      said(reason),
    );
  });
  const some = missing.length < missingCount;
  return h(
    "details",
    h("summary", { "data-focus": "missing" }, t("runs.missing", { count: missingCount })),
    some && h("p.hint", t("runs.missing.first", { count: missing.length })),
    h("ul", ...entries),
  );
}

/** How a run was made, on demand. */
const facts = ({ name, facts }: ComparedRun) =>
  h(
    "details",
    h("summary", { "data-focus": `facts ${name}` }, t("runs.about", { run: name })),
    definitions("rows", facts[state.language]),
  );
