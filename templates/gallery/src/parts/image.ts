// What is said of an image: its name, its predictions, whether they are right.
import { data, report, state } from "../app";
import type { ImageRecord } from "../data/dataset";
import { photoOf } from "../maps/frames";
import { linkTo } from "../state/history";
import { bdi, h } from "./dom";
import { toolbar } from "./roving";
import { probability, t } from "./words";

/** Most images that a strip of photographs shows. */
export const MAX_IN_STRIP = 12;

/** An image's most probable class with its probability; "" where the model gives none. */
export function topWords(index: number, run = data.run) {
  const top = data.topOf(index, run);
  return top ? `${report.classes[top[0]]} ${probability(top[1])}` : "";
}

/** The same as a hint. */
export function topHint(index: number) {
  const top = data.topOf(index);
  if (!top) return null;
  return h("span.hint", bdi(report.classes[top[0]]), ` ${probability(top[1])}`);
}

/** The images to choose from, as photographs with their predictions. */
export const strip = () =>
  toolbar(
    { class: "strip screen-only", "aria-label": t("matrix.images") },
    ...report.images.index.map(stripEntry),
  );

function stripEntry(index: number) {
  const place = data.placeOf(index);
  return h(
    "a",
    {
      ...linkTo({ image: index }),
      title: [report.images.file[place], topWords(index)].filter(Boolean).join("\n"),
      "aria-current": index === state.image && "true",
      "data-focus": `strip ${index}`,
    },
    photoOf(index),
  );
}

/** Whether the first prediction is the true class, in words. */
export function badge(place: number, run = data.run) {
  const label = report.images.label[place];
  const top = data.topOf(report.images.index[place], run);
  if (label === null || !top) return null;
  const right = top[0] === label;
  return h(
    "span",
    { class: `badge ${right ? "right" : "wrong"}` },
    h("span", { "aria-hidden": "true" }, right ? "✓ " : "✗ "),
    bdi(t(right ? "badge.right" : "badge.wrong", { name: report.classes[label] })),
  );
}

/** An image's size, and how much of it the model saw. */
export function imageSize(image: ImageRecord) {
  const [width, height] = report.images.size[data.placeOf(image.index)];
  const [left, top, right, bottom] = image.seen;
  const across = Math.round((right - left) * width);
  const down = Math.round((bottom - top) * height);
  const whole = across === width && down === height;
  return t(whole ? "image.size" : "image.seen", { width, height, across, down });
}

/** The most probable classes as bars. */
export const predictions = (place: number) =>
  h(
    "ol.predictions",
    { "aria-label": t("predictions") },
    ...report.images.top[place].map(([index, fraction]) => {
      const value = h("span.value");
      value.style.width = `${fraction * 100}%`;
      return h(
        "li",
        h("span.name", bdi(report.classes[index])),
        h("span.bar", { "aria-hidden": "true" }, value),
        h("span.percent", probability(fraction)),
      );
    }),
  );
