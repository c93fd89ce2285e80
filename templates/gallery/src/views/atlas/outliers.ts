// Images with hardly any like them among those of their class, each beside the nearest ordinary one.
import { report } from "../../app";
import type { ShippedAtlas } from "../../data/types";
import { bdi, h } from "../../parts/dom";
import { enableRoving } from "../../parts/roving";
import { decimal, sentences, t } from "../../parts/words";
import { vocabularyOf } from "../../state/selection";
import { leadTo } from "../summary/said";
import { type Shown, classChoice, shownOf, tile } from "./read";

export function outliersPart({ found }: ShippedAtlas): Shown {
  if (!found) return { nodes: [] };
  const there = found.classes.filter(({ outliers }) => outliers.length);
  const classes = there.map(({ index }) => index);
  const shown = new Set(shownOf(classes));
  const blocks = there
    .filter(({ index }) => shown.has(index))
    .map(({ index, outliers }) => {
      const pairs = outliers.map(({ image, distance, neighbour }) => {
        const far = h("span.hint", t("atlas.distance", { distance: decimal(distance) }));
        const near = h("span.hint", t("atlas.neighbour"));
        const both = [tile(image, `out ${image}`, far), tile(neighbour, `near ${image}`, near)];
        return h("li", h("ul.chosen.pair", ...both));
      });
      const list = h("ul.pairs-of-images", ...pairs);
      enableRoving(list);
      return h("section.part", h("h3", bdi(report.classes[index])), list);
    });
  const { space } = found.points;
  const layer = (space === "what" && found.whatLayer) || found.whereLayer;
  const told = t("atlas.outliers.words", { space: t(`alike.${space}`), layer });
  return {
    nodes: [
      h(".switches", classChoice(classes), ...odd()),
      ...blocks,
      h("p.figcaption", sentences(told)),
    ],
  };
}

/** Right answers whose maps lie at the border, or unlike those of their class: links to them. */
function odd() {
  const { numbers } = vocabularyOf(report);
  const labelled = report.images.label.some((label) => label !== null);
  return ["border", "deviation"].flatMap((key) => {
    const name = numbers.find((one) => one.startsWith(`${key}.`));
    if (!name || !labelled) return [];
    const place = { view: "overview", query: "right:yes", sort: `${name}.down` } as const;
    return [h("a", leadTo(place), t(`atlas.odd.${key}`))];
  });
}
