// A layer's feature maps in the present state.
import { data, store } from "../app";
import type { ImageRecord } from "../data/dataset";
import type { LayerChannels } from "../data/types";

/** An image, and a layer whose feature maps it has. */
export interface Features {
  image: ImageRecord;
  layer: LayerChannels;
}

/** Place of the class in question among those of the image. */
export const rankNow = () => data.rankIn(store.state.image, store.state.rank);

/** Which channels are picked. */
export function pickedIn(layer: LayerChannels) {
  const { picked } = store.state;
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
  const { channelSort } = store.state;
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
