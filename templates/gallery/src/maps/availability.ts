// Where a method has maps.
import { data, report, state } from "../app";
import { prose, runName, t } from "../parts/words";

/** Layers as the tables list them. */
export const layerList = () => [
  ...report.layers.map((layer) => layer.address),
  ...(report.fused ? ["fused"] : []),
  ...(report.input ? ["input"] : []),
];

/** What is said of a method at all layers, or at one; of a further run it stands behind that. */
function saidOf(words: Record<string, string>, method: string, layer: string, run: number) {
  const key = run ? `${run}:${method}` : method;
  return words[`${key}/null`] ?? words[`${key}/${layer}`];
}

/** Why a run has no map of a method at a layer that another one has; null where it has. */
function lacking(method: string, layer: string, run: number) {
  const own = data.runs[run];
  const there = layer === "fused" || layer === "input" ? own?.[layer] : own && layer in own.layers;
  if (!own || (there && own.methods.includes(method))) return null;
  const name = runName(run);
  return own.methods.includes(method)
    ? t("runs.noLayer", { run: name, layer })
    : t("runs.noMethod", { run: name, method: data.methodOf(method).name });
}

/** Whether a method has a map at a layer of a run: "map", "absent", or why it was left out. */
export function availability(method: string, layer: string, run = data.run): string {
  if (run < 0) {
    const first = availability(method, layer, 0);
    return first === "map" ? availability(method, layer, -run) : first;
  }
  const { perLayer, fuses } = data.methodOf(method);
  const reason = saidOf(prose().reasons, method, layer, run);
  if (reason) return reason;
  const there = layer === "input" ? !perLayer : layer === "fused" ? fuses : perLayer;
  return there ? (lacking(method, layer, run) ?? "map") : "absent";
}

/** The controls, where they stand beside the methods. */
export const shownControls = () => (state.controls ? data.controls : []);

/** Why a method was left out at a layer, in the room of a map. */
export function shortReason(method: string, layer: string, run = data.run) {
  const runs = run < 0 ? [0, -run] : [run];
  const lacks = runs.find((one) => availability(method, layer, one) !== "map") ?? run;
  const said = saidOf(prose().shortReasons, method, layer, lacks);
  return said ?? t("runs.none", { run: runName(lacks) });
}

/** A layer where a method has a map: the wanted one if it can be. */
export function layerFor(method: string, layer: string) {
  const addresses = [layer, ...report.layers.map((one) => one.address).reverse(), "input"];
  return addresses.find((address) => availability(method, address) === "map") ?? layer;
}

/** Layers where a method has maps. */
export const layersOf = (method: string, run = data.run) =>
  layerList().filter((layer) => availability(method, layer, run) === "map");
