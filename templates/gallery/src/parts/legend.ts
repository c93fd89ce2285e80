// What the colours mean.
import { data, state } from "../app";
import { kindsOf, scaleWords } from "../maps/describe";
import { ZERO, paintBar } from "../maps/heat";
import { all, h } from "./dom";
import { t } from "./words";

/** A colour map as a bar, with a name for those who do not see it. */
export function colourBar(map: string, label: string) {
  const bar = h("canvas", { role: "img", "aria-label": label });
  paintColours(bar, map);
  return bar;
}

/** Paint a colour map into a canvas. */
export const paintColours = (canvas: HTMLCanvasElement, map: string) =>
  paintBar(canvas, data.tables[map], map === "diverging" ? 2 * ZERO + 1 : 256);

/**
 * What a figure shows, how its maps are drawn, and what their colours mean.
 * @param kinds of the maps in it
 */
export function figureCaption(what = "", kinds = kindsOf()) {
  const words = h("span.scale-words", scaleWords(kinds));
  words.dataset.kinds = kinds.join(" ");
  return h("p.figcaption", what, " ", words, " ", legend(kinds));
}

/** The present colour map, and that of signed maps, as far as there are such maps. */
export function legend(kinds = kindsOf()) {
  const { colormap, scale } = state;
  const root = h("span.legend");
  if (kinds.includes("positive"))
    root.append(row("0", colourBar(colormap, t("legend")), t(`legend.${scale}`), "positive"));
  if (kinds.includes("contrast")) {
    const bar = colourBar("diverging", t("compare.bar"));
    root.append(row(t("contrast.otherHigher"), bar, t("contrast.predictedHigher")));
  } else if (kinds.includes("signed")) {
    const signed = colourBar("diverging", t("legend.signed"));
    root.append(row(t("legend.against"), signed, t("legend.for")));
  }
  return root;
}

const row = (from: string, bar: HTMLElement, to: string, kind = "") =>
  h("span", { class: `bar-row ${kind}` }, h("span", from), bar, h("span", to));

/** Let all captions say how the maps are drawn now. */
export function refreshLegends() {
  const { colormap, scale } = state;
  for (const first of all(".legend > .positive")) {
    const [, bar, to] = first.children;
    paintColours(bar as HTMLCanvasElement, colormap);
    to.textContent = t(`legend.${scale}`);
  }
  for (const words of all(".scale-words"))
    words.textContent = scaleWords((words.dataset.kinds ?? "").split(" "));
}
