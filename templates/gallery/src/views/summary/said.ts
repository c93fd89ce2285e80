// Sentences that Python made, in the chosen language, and links to what they claim.
import { report, state } from "../../app";
import type { Finding, Place, Said } from "../../data/types";
import { focusOn } from "../../parts/axes";
import { bdi, h } from "../../parts/dom";
import { t } from "../../parts/words";
import { linkTo } from "../../state/history";

/** A sentence; a correlation stays on one line with its sign. */
export const said = (text: Said) => text[state.language].replaceAll("ρ ", "ρ\u00a0");

/** A link to what shows a claim, whatever was chosen before. */
export const leadTo = (place: Place) =>
  linkTo({
    run: 0,
    beside: "none",
    query: "",
    sort: "order",
    number: "",
    page: 0,
    open: "",
    ...place,
  });

/** A link to an image with all its maps. */
export const leadToImage = (image: number) =>
  linkTo({ view: "matrix", open: "", ...focusOn("image", image) });

/** A sentence, and a link to the view that shows what it claims. */
export const claim = ({ text, place }: Finding) => [
  bdi(said(text)),
  " ",
  h("a", leadTo(place), t(`summary.see.${place.view}`)),
];

/** A section with a title; nothing where it has no content. */
export function part(name: string, ...content: (Node | null)[]) {
  const shown = content.filter((node) => node !== null);
  if (!shown.length) return null;
  const title = t(`summary.${name}`);
  return h("section", { class: `part ${name}`, "aria-label": title }, h("h3", title), ...shown);
}

/** Findings as a list; null where there are none. */
export const claims = (findings: Finding[]) =>
  findings.length ? h("ul.claims", ...findings.map((one) => h("li", ...claim(one)))) : null;

/** Name of a class. */
export const className = (index: number) => report.classes[index];
