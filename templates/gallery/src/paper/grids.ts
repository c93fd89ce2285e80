// A layer's feature maps on paper: all in one picture, with their numbers.
import type { ImageRecord } from "../data/dataset";
import type { LayerChannels } from "../data/types";
import { h } from "../parts/dom";
import { t } from "../parts/words";
import { channelBar, drawChannel, gridOf, present } from "../views/features";

/** Pixels of the longer side of a feature map: 100 to the inch where 16 lie side by side. */
const SIDE = 42;

/** Pixels between two feature maps. */
const GAP = 2;

/** Pixels of a number. */
const NUMBER = 7;

/** The feature maps of one layer of an image, with what their colours mean. */
export function channelFigure(image: ImageRecord, address: string, number: number) {
  const layer = image.channels[address];
  const [count] = layer.shape;
  const said = t("channels.grid", { count, layer: address });
  const [from, bar] = channelBar(layer);
  return h(
    "figure.channel-grid",
    picture(image, layer),
    h(
      "figcaption",
      h("strong", t("tables.figure", { number })),
      ` ${image.file}${t("colon")}${said}${t("stop")}`,
      h("span.bar-row", from, bar),
      ` ${t("legend.channel")}`,
    ),
  );
}

function picture(image: ImageRecord, layer: LayerChannels) {
  const [count, height, width] = layer.shape;
  const across = gridOf(count);
  const factor = SIDE / Math.max(height, width);
  const [down, along] = [height, width].map((side) => Math.round(side * factor) + GAP);
  const canvas = h("canvas", { width: across * along, height: Math.ceil(count / across) * down });
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  const one = h("canvas");
  context.font = `${NUMBER}px sans-serif`;
  context.lineWidth = 1.5;
  for (let channel = 0; channel < count; channel++) {
    const left = (channel % across) * along;
    const top = Math.floor(channel / across) * down;
    context.fillStyle = "#e4e4e0";
    context.fillRect(left, top, along - GAP, down - GAP);
    if (present(layer, channel)) {
      drawChannel(one, image, layer, channel, SIDE);
      context.drawImage(one, left, top);
    }
    context.fillStyle = "#fff";
    context.strokeText(String(channel), left + 1, top + down - GAP - 2);
    context.fillText(String(channel), left + 1, top + down - GAP - 2);
  }
  return canvas;
}
