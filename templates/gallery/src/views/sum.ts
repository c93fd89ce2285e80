// The weighted sum of the picked channels: with all of them Grad-CAM's map.
import { data } from "../app";
import { over, showAs } from "../maps/frames";
import { ZERO, paint } from "../maps/heat";
import { longSide, lookOf, shaded, shape } from "../maps/look";
import type { CamCell } from "../data/types";
import { h } from "../parts/dom";
import { number, sentences, t } from "../parts/words";
import { type Features, channelLevels, pickedIn, rankNow } from "./features";

/** The sum over the photograph, with its caption; `redraw` follows the state. */
export function weightedSum(features: Features) {
  const { image, layer } = features;
  const canvas = h("canvas.heat");
  const map = over(image, canvas);
  const label = h("span.label");
  const photo = h("img", { src: image.photo, alt: "" });
  const frame = h("span.frame", { role: "img" }, photo, map, label);
  const caption = h("figcaption");
  const root = h("figure.sum", frame, caption);
  shape(frame, image.width, image.height);
  const redraw = () => {
    const values = sumOf(features);
    const peak = Math.max(0, ...values);
    const picked = pickedIn(layer).size;
    const words = captionOf(features, picked);
    showAs(frame);
    frame.classList.toggle("empty", !peak);
    frame.setAttribute("aria-label", words);
    [map.hidden, label.hidden] = [!peak, peak > 0];
    label.textContent = t(picked ? "cell.empty" : "channels.pick");
    if (peak) paintSum(canvas, features, values, peak);
    const most = peak ? t("channels.peak", { peak: number(peak) }) : "";
    caption.textContent = sentences(words, most);
    root.classList.toggle("screen-only", !picked);
  };
  redraw();
  return { root, redraw };
}

/** The sum of the picked channels, each times its weight. */
function sumOf({ image, layer }: Features) {
  const sum = new Float64Array(layer.shape[1] * layer.shape[2]);
  for (const channel of pickedIn(layer)) {
    const weight = (layer.weights[rankNow()]?.[channel] ?? 0) * (layer.peaks[channel] ?? 0);
    const own = channelLevels(image, layer, channel);
    for (let i = 0; i < sum.length; i++)
      sum[i] += weight * (layer.signed ? (own[i] - ZERO) / ZERO : own[i] / 255);
  }
  return sum;
}

/** Paint what of the sum speaks for the class. */
function paintSum(
  canvas: HTMLCanvasElement,
  { image, layer }: Features,
  values: Float64Array,
  peak: number,
) {
  const [, height, width] = layer.shape;
  const bytes = Uint8Array.from(values, (value) => Math.max(0, value / peak) * 255 + 0.5);
  const cam = { height, width, peak, signed: false, own: true } as CamCell;
  const map = shaded({ ...image, bytes }, cam, longSide(image));
  paint(canvas, map.index, map.height, map.width, lookOf(cam));
}

function captionOf({ image, layer }: Features, picked: number) {
  const [count] = layer.shape;
  const name = data.classOf(image, rankNow());
  return t(picked === count ? "channels.whole" : "channels.sum", {
    count: picked,
    all: count,
    name,
  });
}
