// Where a method has maps.
import { data, report, state } from "../app";
import { prose } from "../parts/words";

/** Layers as the tables list them. */
export const layerList = () => [
  ...report.layers.map((layer) => layer.address),
  ...(report.fused ? ["fused"] : []),
  ...(report.input ? ["input"] : []),
];

/** Whether a method has a map at a layer: "map", "absent", or why it was left out. */
export function availability(method: string, layer: string) {
  const { perLayer, fuses } = data.methodOf(method);
  const { reasons } = prose();
  const reason = reasons[`${method}/null`] ?? reasons[`${method}/${layer}`];
  if (reason) return reason;
  if (layer === "input") return perLayer ? "absent" : "map";
  if (layer === "fused") return fuses ? "map" : "absent";
  return perLayer ? "map" : "absent";
}

/** The controls, where they stand beside the methods. */
export const shownControls = () => (state.controls ? data.controls : []);

/** Why a method was left out at a layer, in the room of a map. */
export function shortReason(method: string, layer: string) {
  const { shortReasons } = prose();
  return shortReasons[`${method}/null`] ?? shortReasons[`${method}/${layer}`];
}

/** A layer where a method has a map: the wanted one if it can be. */
export function layerFor(method: string, layer: string) {
  const addresses = [layer, ...report.layers.map((one) => one.address).reverse(), "input"];
  return addresses.find((address) => availability(method, address) === "map") ?? layer;
}

/** Layers where a method has maps. */
export const layersOf = (method: string) =>
  layerList().filter((layer) => availability(method, layer) === "map");
