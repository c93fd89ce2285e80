// Images grouped by a column of the labels: where their maps lie, and how far that differs.
import { data, state } from "../../app";
import type { GroupOfImages, ShippedAtlas } from "../../data/types";
import { bdi, h } from "../../parts/dom";
import { number, t } from "../../parts/words";
import { type Grid, gridOf, peakOf, picture, signedOf } from "./mean";
import { below } from "./means";
import type { Shown } from "./read";

/** A probability that cannot be below one in so many permutations. */
const chance = ({ p, permutations }: GroupOfImages) =>
  p === null ? t("atlas.p.none") : t("atlas.p", { p: number(p), count: permutations });

export function groupsPart({ groups }: ShippedAtlas): Shown {
  const method = groups.some((one) => one.method === state.method)
    ? state.method
    : groups[0].method;
  const own = groups.filter((one) => one.method === method);
  const columns = [...new Set(own.map(({ column }) => column))];
  const blocks = columns.map((column) =>
    block(
      column,
      own.filter((one) => one.column === column),
    ),
  );
  const told = t("atlas.groups.words", { method: data.methodOf(method).name, layer: own[0].layer });
  return { nodes: [...blocks, h("p.figcaption", told)] };
}

/** The values of a column side by side. */
function block(column: string, groups: GroupOfImages[]) {
  const means = groups.map(({ mean }) => gridOf(mean));
  const differences = groups.map(({ difference }) => difference && signedOf(difference));
  const line = (name: string, grids: (Grid | null | "")[]) => {
    const peak = Math.max(...grids.map((grid) => (grid ? peakOf(grid) : 0)));
    const cells = grids.map((grid, i) => {
      if (!grid) return h("td", "–");
      const words = [t(name), groups[i].value].join(t("colon"));
      return h("td", picture(grid, peak, words), h("span.hint", below(grid, groups[i].n)));
    });
    return h("tr", h("th", { scope: "row" }, t(name)), ...cells);
  };
  const chances = groups.map((one) => h("td.p", chance(one)));
  const table = h(
    "table.frames",
    h("caption.visually-hidden", column),
    h(
      "thead",
      h("tr", h("td"), ...groups.map(({ value }) => h("th", { scope: "col" }, bdi(value)))),
    ),
    h(
      "tbody",
      line("atlas.all", means),
      line("atlas.fromOthers", differences),
      h("tr", h("th", { scope: "row" }, t("atlas.p.name")), ...chances),
    ),
  );
  table.style.setProperty("--maps", String(groups.length));
  return h("section.part", h("h3", bdi(column)), h(".scroller", table));
}
