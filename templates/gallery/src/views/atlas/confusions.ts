// Images of one class that are taken for another: where the maps of both classes lie, and what
// speaks for the one more than for the other.
import { data, report, state } from "../../app";
import type { Confused, ShippedAtlas } from "../../data/types";
import { type Option, select } from "../../parts/controls";
import { bdi, h } from "../../parts/dom";
import { t } from "../../parts/words";
import { parse, quote } from "../../query/parse";
import { change } from "../../state/history";
import { vocabularyOf } from "../../state/selection";
import { below } from "./means";
import { gridOf, peakOf, picture, signedOf } from "./mean";
import { type Shown, classQuery, tiles } from "./read";

export const pairQuery = ({ label, predicted }: Pick<Confused, "label" | "predicted">) =>
  `is:${quote(report.classes[label])} ${classQuery(predicted)}`;

/** The pair that the query asks for; the most frequent one where it asks for none. */
function pairShown(confusions: Confused[]) {
  const asked = parse(state.query, vocabularyOf(report)).map(({ asks }) => asks);
  const found = confusions.find(({ label, predicted }) =>
    (
      [
        ["is", label],
        ["class", predicted],
      ] as const
    ).every(([kind, target]) =>
      asked.some((one) => "kind" in one && one.kind === kind && one.classes.includes(target)),
    ),
  );
  return found ?? confusions[0];
}

export function confusionsPart({ confusions }: ShippedAtlas): Shown {
  const pairs = [...new Map(confusions.map((one) => [pairQuery(one), one])).values()];
  const body = h("div.confusion-of");
  const show = () => {
    const pair = pairShown(pairs);
    const own = confusions.filter((one) => pairQuery(one) === pairQuery(pair));
    body.replaceChildren(...content(pair, own));
  };
  show();
  const choice = select(
    t("atlas.pair"),
    "pair",
    pairs.map((one): Option => [pairQuery(one), pairWords(one)]),
    () => pairQuery(pairShown(pairs)),
    (query) => change({ query, page: 0 }, true),
  );
  return {
    nodes: [h(".switches", choice), body, h("p.figcaption", t("atlas.confusions.words"))],
    refresh: show,
  };
}

const names = ({ label, predicted }: Confused) => ({
  name: report.classes[label],
  predicted: report.classes[predicted],
});

const pairWords = (one: Confused) => `${t("summary.confusion.pair", names(one))} (${one.n})`;

function content(pair: Confused, own: Confused[]) {
  const { name, predicted } = names(pair);
  const signed = own.some(({ contrast }) => contrast);
  const heads = [
    t("atlas.of.label", { name }),
    t("atlas.of.predicted", { name: predicted }),
    ...(signed ? [t("atlas.contrast", { name, predicted })] : []),
  ];
  const rows = own.map((one) => {
    const grids = [gridOf(one.ofLabel), gridOf(one.ofPredicted)];
    const peak = Math.max(...grids.map(peakOf));
    if (signed && one.contrast) grids.push(signedOf(one.contrast));
    const method = data.methodOf(one.method).name;
    const cells = grids.map((grid, i) => {
      const words = [heads[i], method, one.layer].join(t("comma"));
      const drawn = picture(grid, grid.signed ? peakOf(grid) : peak, words);
      return h("td", drawn, h("span.hint", below(grid, one.n)));
    });
    if (signed && !one.contrast) cells.push(h("td", "–"));
    return h("tr", h("th", { scope: "row" }, bdi(method), h("code", one.layer)), ...cells);
  });
  const table = h(
    "table.frames",
    h("caption.visually-hidden", pairWords(pair)),
    h("thead", h("tr", h("td"), ...heads.map((head) => h("th", { scope: "col" }, bdi(head))))),
    h("tbody", ...rows),
  );
  table.style.setProperty("--maps", String(heads.length));
  return [
    h("section.part", h("h3", bdi(pairWords(pair))), h(".scroller", table)),
    h("section.part", h("h3", t("atlas.confused.images")), tiles(pair.images, "confused")),
  ];
}
