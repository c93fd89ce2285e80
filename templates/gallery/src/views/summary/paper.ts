// The summary on paper: page one of a print.
import { report } from "../../app";
import { h } from "../../parts/dom";
import { answers, asked, outcome } from "./outcome";
import { confidence, confusion, reliability } from "./predictions";
import { claims, part } from "./said";
import { trust } from "./trust";

/** What was found, which image to look at first, which map to doubt, and why. */
export function summaryOnPaper() {
  const { accuracy, findings, cautions, trust: maps } = report.summary;
  const doubted = maps.some((one) => one.verdict);
  return h(
    "section.view-summary",
    h("header.lead", outcome(), answers()),
    asked(),
    part("findings", claims(findings)),
    ...(accuracy ? [confusion(), confidence(), reliability()] : []),
    doubted ? trust() : null,
    part("caution", claims(cautions)),
  );
}
