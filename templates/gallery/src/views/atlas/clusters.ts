// Groups of images of one class that are alike, each on a card: said in numbers, beside those of the
// whole class.
import { report, state } from "../../app";
import type { Atlas, ClassAtlas, Cluster, Placement, ShippedAtlas } from "../../data/types";
import { button, keepPressed } from "../../parts/controls";
import { bdi, h } from "../../parts/dom";
import { areaPercent, percent, t } from "../../parts/words";
import { said } from "../summary/said";
import { gridOf, picture } from "./mean";
import {
  type Shown,
  alikeChoice,
  asksFor,
  choose,
  classChoice,
  clusterName,
  shownOf,
  tiles,
} from "./read";

/** Corners in the order of a placement's. */
const CORNERS = ["upperLeft", "upperRight", "lowerLeft", "lowerRight"];

export function clustersPart({ found }: ShippedAtlas): Shown {
  if (!found) return { nodes: [] };
  const classes = found.classes.map(({ index }) => index);
  const shown = new Set(shownOf(classes));
  const blocks = found.classes
    .filter(({ index }) => shown.has(index))
    .map((own) => block(found, own));
  const what = state.alike === "what";
  const caption = t(what ? "atlas.clusters.what" : "atlas.clusters.where", {
    layer: (what && found.whatLayer) || found.whereLayer,
  });
  return {
    nodes: [
      h(".switches", alikeChoice(found), classChoice(classes)),
      found.note && h("p.notice", said(found.note)),
      ...blocks,
      h("p.figcaption", caption),
    ],
  };
}

/** The clusters of a class, or why there are none. */
function block(found: Atlas, own: ClassAtlas) {
  const clusters = own[state.alike];
  const title = h(
    "h3",
    bdi(report.classes[own.index]),
    " ",
    h("span.quantity", t("atlas.n", { count: own.n })),
  );
  const none = own.note ? said(own.note) : t("atlas.clusters.none");
  const cards = clusters.map((cluster) => card(found, own, cluster));
  if (!cards.length && found.note) return null;
  return h("section.part", title, ...(cards.length ? cards : [h("p.hint", none)]));
}

function card({ whatLayer }: Atlas, own: ClassAtlas, cluster: Cluster) {
  const name = clusterName(own.index, cluster.number);
  const term = `cluster:${name}`;
  const words = t("atlas.cluster.mean", { name });
  const head = h(
    "h4",
    bdi(name),
    " ",
    keepPressed(
      button(t("atlas.choose"), `choose ${name}`, () => choose("cluster", term)),
      () => asksFor(term),
    ),
  );
  const near = h("div", h("p.hint", t("atlas.nearest")), tiles(cluster.nearest, `near ${name}`));
  const far =
    cluster.farthest.length > 0 &&
    h("div", h("p.hint", t("atlas.farthest")), tiles(cluster.farthest, `far ${name}`));
  return h(
    "article.cluster",
    { "aria-label": t("chip.cluster", { name }) },
    h(".told-of", head, picture(gridOf(cluster.mean), 1, words), numbers(own, cluster, whatLayer)),
    h(".photographs", near, far),
  );
}

/** The numbers of a cluster, each beside that of its class. */
function numbers(own: ClassAtlas, cluster: Cluster, whatLayer: string | null) {
  const whole = own.placement;
  const rows: [name: string, value: string, whole: string][] = [
    [
      t("atlas.cluster.n"),
      t("atlas.cluster.share", { count: cluster.n, share: percent(cluster.share) }),
      String(own.n),
    ],
  ];
  if (cluster.accuracy !== null && own.accuracy !== null)
    rows.push([t("atlas.cluster.accuracy"), percent(cluster.accuracy), percent(own.accuracy)]);
  const placed = (name: string, of: (placement: Placement) => number) =>
    rows.push([name, areaPercent(of(cluster.placement)), whole ? areaPercent(of(whole)) : "–"]);
  placed(t("atlas.extent"), ({ extent }) => extent);
  placed(t("atlas.border"), ({ border }) => border);
  for (const [i, corner] of CORNERS.entries())
    placed(t(`corner.${corner}`), ({ corners }) => corners[i]);
  rows.push([t("atlas.cluster.stability"), cluster.stability.toFixed(2), ""]);
  const heads = ["atlas.cluster", "atlas.cluster.class"].map((name) =>
    h("th", { scope: "col" }, t(name)),
  );
  return h(
    "div",
    h(
      "table.numbers",
      h("caption.visually-hidden", t("atlas.cluster.numbers")),
      h("thead", h("tr", h("td"), ...heads)),
      h(
        "tbody",
        ...rows.map(([name, value, whole]) =>
          h("tr", h("th", { scope: "row" }, name), h("td", value), h("td", whole)),
        ),
      ),
    ),
    cluster.channels.length > 0 &&
      h(
        "p.hint",
        t("atlas.cluster.channels", {
          layer: whatLayer ?? "",
          channels: cluster.channels
            .map(([channel, share]) => `${channel} (${percent(share)})`)
            .join(t("comma")),
        }),
      ),
  );
}
