// A layer's feature maps in the present state.
import { data, state } from "../app";
import { CONTRAST, type ImageRecord, PREDICTED } from "../data/dataset";
import type { LayerChannels } from "../data/types";
import { SIDES } from "../maps/frames";
import { OPAQUE, enlarge, indices, paint } from "../maps/heat";
import { tableName } from "../maps/look";
import { colourBar } from "../parts/legend";
import { t } from "../parts/words";

/** An image, and a layer whose feature maps it has. */
export interface Features {
  image: ImageRecord;
  layer: LayerChannels;
}

/** Place of the class in question among those of the image. */
export function rankNow() {
  const { image, rank } = state;
  return data.rankIn(image, rank === CONTRAST ? PREDICTED : rank);
}

/** Which channels are picked. */
export function pickedIn(layer: LayerChannels) {
  const { picked } = state;
  if (picked === "all") return new Set(layer.means.keys());
  const numbers = picked === "" ? [] : picked.split("-").map(Number);
  return new Set(numbers.filter((channel) => channel >= 0 && channel < layer.shape[0]));
}

/** Whether a channel has any value that is not zero. */
export const present = (layer: LayerChannels, channel: number) => Boolean(layer.peaks[channel]);

/** What a channel adds to the class's score, as Grad-CAM weighs it. */
export function contribution(layer: LayerChannels, channel: number) {
  const weight = layer.weights[rankNow()]?.[channel] ?? 0;
  const [, height, width] = layer.shape;
  return weight * (layer.means[channel] ?? 0) * height * width;
}

/** Channels in the chosen order. */
export function ordered(layer: LayerChannels) {
  const numbers = Array.from({ length: layer.shape[0] }, (_, i) => i);
  const { channelSort } = state;
  if (channelSort === "activation")
    numbers.sort((a, b) => (layer.means[b] ?? 0) - (layer.means[a] ?? 0));
  if (channelSort === "contribution")
    numbers.sort((a, b) => contribution(layer, b) - contribution(layer, a));
  return numbers;
}

/** One channel's levels. */
export function channelLevels(image: ImageRecord, layer: LayerChannels, channel: number) {
  const size = layer.shape[1] * layer.shape[2];
  const from = layer.offset + channel * size;
  return image.bytes.subarray(from, from + size);
}

/** How many feature maps lie side by side: about as many as below each other. */
export const gridOf = (count: number) => Math.max(1, Math.round(Math.sqrt(count)));

/** The colours of a layer's feature maps, and what they start from. */
export const channelBar = (layer: LayerChannels): [from: string, bar: HTMLCanvasElement] => [
  layer.signed ? "−1" : "0",
  colourBar(tableName(layer), t("legend")),
];

/** Draw a feature map from zero to its own maximum; its longer side has `side` pixels. */
export function drawChannel(
  canvas: HTMLCanvasElement,
  image: ImageRecord,
  layer: LayerChannels,
  channel: number,
  side = SIDES.channel,
) {
  const [, height, width] = layer.shape;
  const factor = side / Math.max(height, width);
  const [down, across] = [Math.round(height * factor), Math.round(width * factor)];
  const levels = channelLevels(image, layer, channel);
  const values = enlarge(levels, { height, width }, down, across, !state.cells);
  const table = data.tables[tableName(layer)];
  const look = { ...OPAQUE, table, signed: layer.signed };
  paint(canvas, indices(values, layer.signed, 1), down, across, look);
}
