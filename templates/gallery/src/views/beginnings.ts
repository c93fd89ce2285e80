// Pairs of maps that are worth a comparison, where none is chosen yet.
import { data, report, state } from "../app";
import { type CellId, idText } from "../data/cells";
import { layersOf } from "../maps/availability";
import { SIDES, frameOf } from "../maps/frames";
import { bdi, h } from "../parts/dom";
import { t } from "../parts/words";
import { change } from "../state/history";
import { rankNow } from "./features";

/** Two maps, what differs between them, and what is the same. */
interface Beginning {
  one: CellId;
  other: CellId;
  differs: [string, string];
  same: string;
}

/** Pairs to begin with, as buttons that show both maps. */
export function beginnings() {
  const pairs = [betweenMethods(), betweenLayers(), betweenClasses()];
  const there = pairs.filter((pair) => pair !== null);
  if (!there.length) return [];
  return [
    h("h3", t("compare.begin")),
    h("ul.beginnings", ...there.map((pair) => h("li", beginning(pair)))),
  ];
}

function beginning({ one, other, differs, same }: Beginning) {
  const pins = [idText(one), idText(other)];
  return h(
    "button",
    { type: "button", "data-focus": `begin ${pins.join(" ")}`, onclick: () => change({ pins }) },
    h("span.two", frameOf(one, SIDES.tile), frameOf(other, SIDES.tile)),
    h("strong", bdi(differs[0]), ` ${t("compare.with")} `, bdi(differs[1])),
    h("span.hint", bdi(same)),
  );
}

/** The map that the report shows first, of the present image and class. */
function first(): CellId {
  const { method, layer } = report.glance;
  return { image: state.image, run: state.run, rank: rankNow(), method, layer };
}

function betweenMethods(): Beginning | null {
  const one = first();
  const own = data.methodOf(one.method);
  const next = data
    .ownMethods(false)
    .find(({ key }) => key !== own.key && layersOf(key).includes(one.layer));
  if (!next) return null;
  const other = { ...one, method: next.key };
  return { one, other, differs: [own.name, next.name], same: one.layer };
}

function betweenLayers(): Beginning | null {
  const other = first();
  const [earliest] = layersOf(other.method);
  if (earliest === other.layer) return null;
  const one = { ...other, layer: earliest };
  const { name } = data.methodOf(other.method);
  return { one, other, differs: [earliest, other.layer], same: name };
}

function betweenClasses(): Beginning | null {
  const one = first();
  const { classSpecific, name } = data.methodOf(one.method);
  const classes = report.sameClasses;
  if (!classSpecific || !classes || classes.length < 2) return null;
  const other = { ...one, rank: one.rank ? 0 : 1 };
  const names = [one, other].map(({ rank }) => report.classes[classes[rank]]);
  return { one, other, differs: [names[0], names[1]], same: `${name} · ${one.layer}` };
}
