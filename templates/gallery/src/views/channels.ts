// All feature maps of a layer, and how their weighted sum becomes the map.
import { classOf, imageOf, rankIn, report, tables } from "../data/dataset";
import { announce, button, h, select, slider } from "../parts/dom";
import { SIDES, showAs } from "../maps/frames";
import { enableGrid } from "../parts/roving";
import { ZERO, enlarge, indices, paint } from "../maps/heat";
import { lookOf, placeSeen, shaded, shape } from "../maps/look";
import { chooser, strip } from "./matrix";
import { change, state } from "../state/state";
import { layerDetails, number, sentences, t } from "../parts/words";
import type { CamCell, ImageRecord, LayerChannels, State } from "../data/types";

export async function channelsView(root: HTMLElement) {
  root.append(h("h2", {}, t("view.channels")));
  if (!report.channels.length) {
    root.append(
      h("p", {}, t("channels.none")),
      h("p", {}, h("code", {}, `--channels ${report.layers[report.layers.length - 1].address}`)),
    );
    return;
  }
  const image = await imageOf(state.image);
  const layer = image?.channels[state.channelLayer];
  if (!image || !layer) {
    root.append(h("p", { class: "note" }, t("cell.missing")));
    return;
  }
  if (report.images.index.length <= 12) root.append(strip());
  const order = ordered(layer);
  const picked = pickedIn(layer);
  root.append(
    h(
      "div",
      { class: "switches" },
      chooser("image"),
      report.ranks > 1 ? chooser("class") : null,
      select(
        t("axis.layer"),
        "channelLayer",
        report.channels.map((address) => [address, address]),
        state.channelLayer,
        (channelLayer) => change({ channelLayer, picked: "" }, true),
      ),
      select(
        t("channels.sort"),
        "channelSort",
        ["index", "activation", "contribution"].map((key) => [key, t(`channels.by.${key}`)]) as [
          string,
          string,
        ][],
        state.channelSort,
        (channelSort) => change({ channelSort: channelSort as State["channelSort"] }),
      ),
      slider(
        t("channels.first"),
        "top",
        { min: 0, max: layer.shape[0], step: 1, value: picked.size },
        (count) => t("channels.count", { count, all: layer.shape[0] }),
        (count) =>
          change({
            picked: order
              .slice(0, count)
              .sort((a, b) => a - b)
              .join("-"),
          }),
        false,
      ),
      h(
        "span",
        { class: "steps" },
        button(t("channels.all"), "pick-all", () => change({ picked: "all" })),
        button(t("channels.clear"), "pick-none", () => change({ picked: "" })),
      ),
    ),
    h(
      "p",
      { class: "figcaption" },
      [image.file, state.channelLayer, ...layerDetails(state.channelLayer)].join(" · "),
    ),
  );
  root.append(
    h("div", { class: "channels" }, grid(image, layer, order, picked), sum(image, layer, picked)),
  );
}

/** Place of the class in question. */
const rank = () => rankIn(state.image, state.rank);

/** Which channels are picked. */
function pickedIn(layer: LayerChannels) {
  if (state.picked === "all") return new Set(layer.means.keys());
  const numbers = state.picked === "" ? [] : state.picked.split("-").map(Number);
  return new Set(numbers.filter((channel) => channel >= 0 && channel < layer.shape[0]));
}

/** What a channel adds to the class's score, as Grad-CAM weighs it. */
const contribution = (layer: LayerChannels, channel: number) =>
  (layer.weights[rank()]?.[channel] ?? 0) *
  (layer.means[channel] ?? 0) *
  layer.shape[1] *
  layer.shape[2];

/** Channels in the chosen order. */
function ordered(layer: LayerChannels) {
  const numbers = Array.from({ length: layer.shape[0] }, (_, i) => i);
  if (state.channelSort === "activation")
    numbers.sort((a, b) => (layer.means[b] ?? 0) - (layer.means[a] ?? 0));
  if (state.channelSort === "contribution")
    numbers.sort((a, b) => contribution(layer, b) - contribution(layer, a));
  return numbers;
}

/** One channel's levels. */
function levels(image: ImageRecord, layer: LayerChannels, channel: number) {
  const size = layer.shape[1] * layer.shape[2];
  const from = layer.offset + channel * size;
  return image.bytes.subarray(from, from + size);
}

function grid(image: ImageRecord, layer: LayerChannels, order: number[], picked: Set<number>) {
  const [, height, width] = layer.shape;
  const side = Math.max(height, width);
  const size = [
    Math.round((SIDES.channel * height) / side),
    Math.round((SIDES.channel * width) / side),
  ];
  const cells = order.map((channel) => {
    const canvas = h("canvas");
    const peak = layer.peaks[channel] ?? 0;
    const values = enlarge(
      levels(image, layer, channel),
      { height, width },
      size[0],
      size[1],
      !state.cells,
    );
    const table = tables[layer.signed ? "diverging" : state.colormap];
    if (peak)
      paint(canvas, indices(values, layer.signed, 1), size[0], size[1], {
        table,
        signed: layer.signed,
        threshold: 0,
        byValue: false,
      });
    const words = t("channels.one", {
      channel,
      mean: number(layer.means[channel] ?? 0),
      share: number(contribution(layer, channel)),
    });
    return h(
      "button",
      {
        type: "button",
        class: "cell channel",
        tabindex: "-1",
        "aria-pressed": String(picked.has(channel)),
        "aria-label": words,
        title: words,
        "data-focus": `channel ${channel}`,
        onclick: () => toggle(layer, channel),
      },
      peak ? canvas : h("span", { class: "flat" }),
      h("span", { class: "number" }, channel),
    );
  });
  const across = Math.max(1, Math.round(Math.sqrt(order.length)));
  const root = h(
    "div",
    {
      class: "feature-maps",
      role: "group",
      "aria-label": t("channels.grid", { count: order.length, layer: state.channelLayer }),
    },
    ...cells,
  );
  root.style.setProperty("--across", String(across));
  root.style.setProperty("--shape", `${width} / ${height}`);
  enableGrid(root);
  return root;
}

function toggle(layer: LayerChannels, channel: number) {
  const picked = pickedIn(layer);
  if (!picked.delete(channel)) picked.add(channel);
  change({ picked: [...picked].sort((a, b) => a - b).join("-") });
  announce(t("channels.count", { count: picked.size, all: layer.shape[0] }));
}

/** The picked channels' weighted sum: with all of them Grad-CAM's map. */
function weightedSum(image: ImageRecord, layer: LayerChannels, picked: Set<number>) {
  const sum = new Float64Array(layer.shape[1] * layer.shape[2]);
  for (const channel of picked) {
    const weight = (layer.weights[rank()]?.[channel] ?? 0) * (layer.peaks[channel] ?? 0);
    const own = levels(image, layer, channel);
    for (let i = 0; i < sum.length; i++)
      sum[i] += weight * (layer.signed ? (own[i] - ZERO) / ZERO : own[i] / 255);
  }
  return sum;
}

function sum(image: ImageRecord, layer: LayerChannels, picked: Set<number>) {
  const values = weightedSum(image, layer, picked);
  const peak = Math.max(0, ...values);
  const [count, height, width] = layer.shape;
  const frame = h("span", { class: "frame" }, h("img", { src: image.photo, alt: "" }));
  shape(frame, image.width, image.height);
  showAs(frame);
  if (peak > 0) {
    const bytes = Uint8Array.from(values, (value) => Math.max(0, value / peak) * 255 + 0.5);
    const cam = { height, width, peak, signed: false, own: true } as CamCell;
    const map = shaded({ ...image, bytes }, cam, Math.max(image.width, image.height));
    const canvas = h("canvas", { class: "heat" });
    paint(canvas, map.index, map.height, map.width, lookOf(cam));
    const seen = h("span", { class: "seen" }, canvas);
    placeSeen(seen, image.seen);
    frame.append(seen);
  } else {
    frame.classList.add("empty");
    frame.append(h("span", { class: "label" }, t(picked.size ? "cell.empty" : "channels.pick")));
  }
  const name = classOf(image, rank());
  const words = t(picked.size === count ? "channels.whole" : "channels.sum", {
    count: picked.size,
    all: count,
    name,
  });
  frame.setAttribute("role", "img");
  frame.setAttribute("aria-label", words);
  const most = peak > 0 ? t("channels.peak", { peak: number(peak) }) : "";
  const some = picked.size ? "sum" : "sum screen-only";
  return h("figure", { class: some }, frame, h("figcaption", {}, sentences(words, most)));
}
