// All feature maps of a layer, and how their weighted sum becomes the map.
import { data, report, state } from "../app";
import type { ImageRecord } from "../data/dataset";
import type { LayerChannels } from "../data/types";
import { tableName } from "../maps/look";
import { announce } from "../parts/announce";
import { imageSteps } from "../parts/chooser";
import {
  type Option,
  button,
  keepPressed,
  refreshControls,
  select,
  slider,
} from "../parts/controls";
import { bdi, byId, h, keepFocus } from "../parts/dom";
import { MAX_IN_STRIP, strip } from "../parts/image";
import { paintColours } from "../parts/legend";
import { notes } from "../parts/notes";
import { enableRoving } from "../parts/roving";
import { layerDetails, number, t } from "../parts/words";
import { change } from "../state/history";
import { FILTER, LOOKS, type State, concerns } from "../state/state";
import {
  type Features,
  channelBar,
  contribution,
  drawChannel,
  gridOf,
  ordered,
  pickedIn,
  present,
} from "./features";
import { topImages } from "./tops";
import { weightedSum } from "./sum";
import { type View, rebuiltBy, viewRoot } from "./view";

/** Fields that act on the feature maps, and on their sum over the photograph. */
const USED = [
  ...(["colormap", "cells"] as const),
  ...(["opacity", "threshold", "byValue", "lift", "show", "grey", "rank"] as const),
];

export async function channelsView(): Promise<View> {
  const title = h("h2", t("view.channels"));
  const rebuilt = rebuiltBy("image", "rank", "channelLayer", ...FILTER);
  const image = await data.imageOf(state.image);
  const layer = image?.channels[state.channelLayer];
  if (!image || !layer)
    return { root: viewRoot("channels", title, ...notes([t("cell.missing")])), update: rebuilt };
  const features = { image, layer };
  let maps = grid(features);
  const sum = weightedSum(features);
  const picks = pickers(layer);
  const tops = await topImages(layer);
  const few = report.images.index.length <= MAX_IN_STRIP;
  const [from, bar] = channelBar(layer);
  const key = h("span.bar-row", from, bar, t("legend.channel"));
  const root = viewRoot(
    "channels",
    title,
    h(".switches", few ? strip() : imageSteps(fileName(image)), ...choices()),
    h("p.figcaption", captionOf(image), " ", key),
    h(".channels", maps.root, h(".aside", sum.root, ...picks, tops?.root ?? null)),
  );
  const update: View["update"] = (changed) => {
    if (!rebuilt(changed)) return false;
    refreshControls(root);
    if (concerns(changed, "colormap", "cells")) {
      maps.redraw();
      paintColours(bar, tableName(layer));
    }
    if (concerns(changed, "picked", ...LOOKS)) sum.redraw();
    if (concerns(changed, "picked")) tops?.refresh();
    if (!changed.has("channelSort")) return true;
    const old = maps.root;
    maps = grid(features);
    keepFocus(byId("view"), () => old.replaceWith(maps.root));
    return true;
  };
  return { root, update, uses: USED };
}

/** What is shown. */
function captionOf(image: ImageRecord) {
  const { channelLayer } = state;
  return [image.file, channelLayer, ...layerDetails(channelLayer)].join(" · ");
}

const fileName = ({ file }: ImageRecord) => h("span.place", bdi(file));

/** Which layer is shown, and its channels in what order. */
const choices = () => [
  select(
    t("axis.layer"),
    "channelLayer",
    report.channels.map((address): Option => [address, address]),
    () => state.channelLayer,
    (channelLayer) => change({ channelLayer, picked: "" }, true),
  ),
  select<State["channelSort"]>(
    t("channels.sort"),
    "channelSort",
    ["index", "activation", "contribution"].map((key) => [key, t(`channels.by.${key}`)]),
    () => state.channelSort,
    (channelSort) => change({ channelSort }),
  ),
];

/** How many channels are added up: the first, all, or none. */
function pickers(layer: LayerChannels) {
  const [count] = layer.shape;
  const pickFirst = (most: number) => {
    const first = ordered(layer).slice(0, most);
    change({ picked: first.sort((a, b) => a - b).join("-") });
  };
  return [
    slider(
      t("channels.first"),
      "top",
      { min: 0, max: count, step: 1 },
      () => pickedIn(layer).size,
      (picked) => t("channels.count", { count: picked, all: count }),
      pickFirst,
      false,
    ),
    h(
      "span.steps",
      button(t("channels.all"), "pick-all", () => change({ picked: "all" })),
      button(t("channels.clear"), "pick-none", () => change({ picked: "" })),
    ),
  ];
}

/** All feature maps, as buttons that pick them; `redraw` colours them anew. */
function grid({ image, layer }: Features) {
  const [, height, width] = layer.shape;
  const order = ordered(layer);
  const canvases = new Map(order.map((channel) => [channel, h("canvas")]));
  const redraw = () => {
    for (const [channel, canvas] of canvases)
      if (present(layer, channel)) drawChannel(canvas, image, layer, channel);
  };
  redraw();
  const cells = [...canvases].map(([channel, canvas]) => cell(layer, channel, canvas));
  const name = t("channels.grid", { count: order.length, layer: state.channelLayer });
  const root = h(".feature-maps", { role: "group", "aria-label": name }, ...cells);
  root.style.setProperty("--across", String(gridOf(order.length)));
  root.style.setProperty("--shape", `${width} / ${height}`);
  enableRoving(root);
  return { root, redraw };
}

function cell(layer: LayerChannels, channel: number, canvas: HTMLCanvasElement) {
  const words = t("channels.one", {
    channel,
    mean: number(layer.means[channel] ?? 0),
    share: number(contribution(layer, channel)),
  });
  const own = button("", `channel ${channel}`, () => pick(layer, channel), {
    class: "cell channel",
    tabindex: "-1",
    title: words,
    "aria-label": words,
  });
  own.append(present(layer, channel) ? canvas : h("span.flat"), h("span.number", channel));
  return keepPressed(own, () => pickedIn(layer).has(channel));
}

/** Pick a channel, or leave it out again. */
function pick(layer: LayerChannels, channel: number) {
  const picked = pickedIn(layer);
  if (!picked.delete(channel)) picked.add(channel);
  change({ picked: [...picked].sort((a, b) => a - b).join("-") });
  announce(t("channels.count", { count: picked.size, all: layer.shape[0] }));
}
