// Images of one class that are taken for another: where the maps of both classes lie, and what
// speaks for the one more than for the other.
import { data, report, state } from "../../app";
import type { Confused, ShippedAtlas } from "../../data/types";
import { type Option, select } from "../../parts/controls";
import { bdi, h } from "../../parts/dom";
import { t } from "../../parts/words";
import { parse, quote } from "../../query/parse";
import { change } from "../../state/history";
import { places, vocabularyOf } from "../../state/selection";
import { below } from "./means";
import { gridOf, peakOf, picture, signedOf } from "./mean";
import { type Shown, classQuery, tiles } from "./read";

/** Most photographs of a pair. */
const MAX_IMAGES = 12;

const pairQuery = ({ label, predicted }: Pair) =>
  `is:${quote(report.classes[label])} ${classQuery(predicted)}`;

type Pair = Pick<Confused, "label" | "predicted">;

/** The pair that the query asks for; the most frequent one where it asks for none. */
function pairShown(confusions: Confused[]): Pair {
  const asked = parse(state.query, vocabularyOf(report)).map(({ asks }) => asks);
  const of = (kind: "is" | "class") =>
    asked.flatMap((one) => ("kind" in one && one.kind === kind ? one.classes : []))[0];
  const [label, predicted] = [of("is"), of("class")];
  return label === undefined || predicted === undefined ? confusions[0] : { label, predicted };
}

const isOf = (pair: Pair) => (one: Pair) =>
  one.label === pair.label && one.predicted === pair.predicted;

export function confusionsPart({ confusions }: ShippedAtlas): Shown {
  const pairs = [...new Map(confusions.map((one) => [pairQuery(one), one])).values()];
  const body = h("div.confusion-of");
  const show = () => {
    const pair = pairShown(pairs);
    body.replaceChildren(...content(pair, confusions.filter(isOf(pair))));
  };
  show();
  const choice = select(
    t("atlas.pair"),
    "pair",
    pairs.map((one): Option => [pairQuery(one), `${pairWords(one)} (${one.n})`]),
    () => pairQuery(pairShown(pairs)),
    (query) => change({ query, page: 0 }, true),
  );
  return {
    nodes: [h(".switches", choice), body, h("p.figcaption", t("atlas.confusions.words"))],
    refresh: show,
  };
}

const names = ({ label, predicted }: Pair) => ({
  name: report.classes[label],
  predicted: report.classes[predicted],
});

const pairWords = (pair: Pair) => t("summary.confusion.pair", names(pair));

/** A pair's means, a row for each method, and its photographs; without means these alone. */
function content(pair: Pair, own: Confused[]) {
  const heading = own.length ? t("atlas.confused.images") : pairWords(pair);
  const found = places(report, pairQuery(pair)).map((place) => report.images.index[place]);
  const images = (own[0]?.images ?? found).slice(0, MAX_IMAGES);
  const photographs = h("section.part", h("h3", bdi(heading)), tiles(images, "confused"));
  return own.length ? [meansOf(pair, own), photographs] : [photographs];
}

function meansOf(pair: Pair, own: Confused[]) {
  const { name, predicted } = names(pair);
  const signed = own.some(({ contrast }) => contrast);
  const heads = [
    t("atlas.of.label", { name }),
    t("atlas.of.predicted", { name: predicted }),
    ...(signed ? [t("atlas.contrast", { name, predicted })] : []),
  ];
  const rows = own.map((one) => {
    const method = data.methodOf(one.method).name;
    const grids = [one.ofLabel, one.ofPredicted].map((levels) => levels && gridOf(levels));
    const peak = Math.max(...grids.map((grid) => (grid ? peakOf(grid) : 0)));
    if (signed) grids.push(one.contrast && signedOf(one.contrast));
    const cells = grids.map((grid, i) => {
      if (!grid) return h("td", "–");
      const words = [heads[i], method, one.layer].join(t("comma"));
      const drawn = picture(grid, grid.signed ? peakOf(grid) : peak, words);
      return h("td", drawn, h("span.hint", below(grid, one.n)));
    });
    return h("tr", h("th", { scope: "row" }, bdi(method), h("code", one.layer)), ...cells);
  });
  const table = h(
    "table.frames",
    h("caption.visually-hidden", pairWords(pair)),
    h("thead", h("tr", h("td"), ...heads.map((head) => h("th", { scope: "col" }, bdi(head))))),
    h("tbody", ...rows),
  );
  table.style.setProperty("--maps", String(heads.length));
  return h("section.part", h("h3", bdi(pairWords(pair))), h(".scroller", table));
}
