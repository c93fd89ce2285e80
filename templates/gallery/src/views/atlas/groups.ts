// Images grouped by a column of the labels: where their maps lie, and how far that differs.
import { data, state } from "../../app";
import type { GroupOfImages, ShippedAtlas } from "../../data/types";
import { bdi, h } from "../../parts/dom";
import { number, t } from "../../parts/words";
import { gridOf, peakOf, picture, signedOf } from "./mean";
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
  const differences = groups.map(({ difference }) => signedOf(difference));
  const [peak, far] = [means, differences].map((grids) => Math.max(...grids.map(peakOf)));
  const line = (name: string, cells: HTMLElement[]) =>
    h("tr", h("th", { scope: "row" }, t(name)), ...cells);
  const cell = (i: number, of: typeof means, scale: number, name: string) => {
    const words = [t(name), groups[i].value].join(t("colon"));
    return h("td", picture(of[i], scale, words), h("span.hint", below(of[i], groups[i].n)));
  };
  const table = h(
    "table.frames",
    h("caption.visually-hidden", column),
    h(
      "thead",
      h("tr", h("td"), ...groups.map(({ value }) => h("th", { scope: "col" }, bdi(value)))),
    ),
    h(
      "tbody",
      line(
        "atlas.all",
        groups.map((_, i) => cell(i, means, peak, "atlas.all")),
      ),
      line(
        "atlas.fromOthers",
        groups.map((_, i) => cell(i, differences, far, "atlas.fromOthers")),
      ),
      line(
        "atlas.p.name",
        groups.map((one) => h("td.p", chance(one))),
      ),
    ),
  );
  table.style.setProperty("--maps", String(groups.length));
  return h("section.part", h("h3", bdi(column)), h(".scroller", table));
}
