// What the colours mean.
import { data, report, state } from "../app";
import { kindsOf, scaleWords } from "../maps/describe";
import { ZERO, paintBar } from "../maps/heat";
import { regionColour } from "../maps/look";
import { all, bdi, h } from "./dom";
import { runName, t } from "./words";

/** Most classes whose boxes are explained. */
const MAX_KEYS = 10;

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
  if (kinds.includes("moved")) {
    const [first, other] = [0, data.compared].map((run) => t("runs.more", { run: runName(run) }));
    root.append(row(`−0.5 ${first}`, colourBar("diverging", t("compare.bar")), `${other} +0.5`));
  }
  root.append(boxKeys());
  return root;
}

/** Whose boxes have which colour; empty while none are drawn. */
export function boxKeys() {
  const root = h("span.box-keys");
  fillKeys(root);
  return root;
}

/** The classes of the objects that are known of the images at hand. */
function fillKeys(root: HTMLElement) {
  const known = report.images.index.flatMap((index) => data.knownImage(index)?.regions ?? []);
  const targets = state.boxes ? [...new Set(known.map((region) => region[4]))] : [];
  root.replaceChildren(
    ...targets.slice(0, MAX_KEYS).map((target) => {
      const key = h(
        "span",
        h("span.region"),
        bdi(report.classes[target ?? -1] ?? t("objects.unnamed")),
      );
      all(".region", key)[0].style.color = regionColour(target);
      return key;
    }),
  );
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
  for (const keys of all(".box-keys")) fillKeys(keys);
  for (const words of all(".scale-words"))
    words.textContent = scaleWords((words.dataset.kinds ?? "").split(" "));
}
