// The images to read first, each with its reasons, and the rule that chose them.
import { data, report, state } from "../../app";
import { PREDICTED } from "../../data/dataset";
import type { Summary } from "../../data/types";
import { layerFor } from "../../maps/availability";
import { cellButton } from "../../maps/cell";
import { kindsOf } from "../../maps/describe";
import { SIDES } from "../../maps/frames";
import { bdi, h } from "../../parts/dom";
import { badge, topHint } from "../../parts/image";
import { figureCaption } from "../../parts/legend";
import { enableRoving } from "../../parts/roving";
import { isRight } from "../../query/match";
import { leadToImage, part, said } from "./said";

export function readFirst() {
  const { first, rule } = report.summary;
  if (!first.length) return null;
  const tiles = h("ul.chosen", ...first.map(tile));
  enableRoving(tiles);
  const kinds = kindsOf([data.methodOf(state.method)], false);
  return part("first", tiles, figureCaption(said(rule), kinds));
}

function tile({ image, reasons }: Summary["first"][number]) {
  const { run, method } = state;
  const layer = layerFor(method, state.layer);
  const id = { image, run, rank: data.rankIn(image, PREDICTED), method, layer };
  const place = data.placeOf(image);
  return h(
    "li",
    cellButton(id, { side: SIDES.cell, caption: false }),
    h("a.name", { ...leadToImage(image) }, bdi(report.images.file[place])),
    topHint(image),
    isRight(report.images, place) === false ? badge(place) : null,
    ...reasons.map((reason) => h("span.reason", said(reason))),
  );
}
