// What a number says and what it cannot say, on demand.
import { bdi, h, linked } from "../../parts/dom";
import { prose, t } from "../../parts/words";
import { linkTo } from "../../state/history";
import { type Num, numberName } from "./read";

const ID = "about-number";

/** What opens beside the button that asks; it holds whatever was asked last. */
export const aboutPanel = () =>
  h("div", { id: ID, popover: "auto", role: "group", "aria-labelledby": `${ID}-title` });

/** A button that tells of a number. */
export function aboutButton(number: Num, kind: string, words: string, panel: HTMLElement) {
  const tell = () => panel.replaceChildren(...about(number));
  const own = h(
    "button",
    { type: "button", class: kind, "data-focus": `about ${number.key}`, onclick: tell },
    bdi(words),
  );
  own.setAttribute("popovertarget", ID);
  own.title = t("evidence.about", { name: numberName(number.key) });
  return own;
}

/** What it asks, its formula, range and source, what it cannot say; where it shows layer by layer. */
function about({ key, question }: Num) {
  const words = prose().evidence.questions[question.key];
  const told = (name: string, ...text: (Node | string)[]) =>
    h("div", h("dt", t(`evidence.${name}`)), h("dd", ...text));
  return [
    h("h3", { id: `${ID}-title` }, bdi(numberName(key))),
    h("p", words.question),
    h("p.formula", words.formula),
    h(
      "dl.rows",
      told("range", words.range),
      told("caution", words.caution),
      told("coverage", t(`evidence.coverage.${question.coverage}`)),
      told("source", ...linked(words.source)),
    ),
    h("a", linkTo({ number: key }), t("evidence.layers")),
  ];
}
