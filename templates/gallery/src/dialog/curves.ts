// How a score falls while a map's picture is covered, what it marks most first, or last.
import { data } from "../app";
import { h } from "../parts/dom";
import { decimal, probability, t } from "../parts/words";
import { s } from "../views/summary/svg";
import type { Open } from "./probe";

/** Size of the plot, and the room for the words of its axes. */
const PLOT = { width: 260, height: 110, left: 30, top: 8, bottom: 30 };

/** What covers first what a map marks most, and what covers that last. */
const CURVES = ["morf", "lerf"] as const;

/** The two curves of a map as a figure; none where they were not measured. */
export function curves({ id, image }: Open) {
  const path = `${id.method}/${id.layer}`;
  const found = CURVES.map((name) => image.curves[`order.${name}/${path}`]?.[id.rank]);
  const [first, last] = found.map((curve) => curve?.filter((value) => value !== null) ?? []);
  if (first.length < 2 || last.length < 2) return [];
  const areas = [first, last].map((curve) => decimal(areaBelow(curve)));
  const [whole, covered] = [first[0], first[first.length - 1]].map(probability);
  const [deletion, insertion] = areas;
  const name = data.classOf(image, id.rank);
  const label = t("curves.words", { name, whole, covered, deletion, insertion });
  return [
    h(
      "figure.curves",
      plot([first, last], label),
      h("figcaption", ...CURVES.map((name, place) => key(name, areas[place])), t("curves")),
    ),
  ];
}

/** The area below a curve of equal steps from 0 to 1. */
const areaBelow = (curve: number[]) =>
  curve.slice(1).reduce((sum, value, i) => sum + (value + curve[i]) / 2, 0) / (curve.length - 1);

const key = (name: string, area: string) => h(`span.key.${name}`, t(`curves.${name}`, { area }));

function plot(both: number[][], label: string) {
  const { width, height, left, top, bottom } = PLOT;
  const x = (share: number) => left + share * (width - left - 20);
  const y = (value: number) => top + (1 - value) * height;
  const text = (at: number, down: number, words: string, anchor: string) =>
    s("text", { x: at, y: down, "text-anchor": anchor }, document.createTextNode(words));
  const line = (curve: number[], place: number) =>
    s("polyline", {
      class: CURVES[place],
      points: curve.map((value, i) => `${x(i / (curve.length - 1))},${y(value)}`).join(" "),
    });
  const low = top + height;
  return s(
    "svg",
    { viewBox: `0 0 ${width} ${low + bottom}`, role: "img", "aria-label": label },
    s("path", { class: "axes", d: `M${left} ${top}V${low}H${x(1)}` }),
    text(left - 4, y(1) + 4, "1", "end"),
    text(left - 4, low + 4, "0", "end"),
    text(x(0), low + 13, "0%", "middle"),
    text(x(1), low + 13, "100%", "middle"),
    text(x(0.5), low + 26, t("curves.x"), "middle"),
    s(
      "g",
      { transform: `translate(10 ${y(0.5)}) rotate(-90)` },
      text(0, 0, t("curves.y"), "middle"),
    ),
    ...both.map(line),
  );
}
