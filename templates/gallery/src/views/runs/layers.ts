// How alike the maps of two runs are, layer by layer, and which layers stand for each other.
import { data, state } from "../../app";
import { bytesOf } from "../../data/bytes";
import type { Comparison, MeanDifference } from "../../data/types";
import { OPAQUE, enlarge, indices, paint } from "../../maps/heat";
import { bdi, h } from "../../parts/dom";
import { colourBar } from "../../parts/legend";
import { decimal, layerName, number, percent, runName, t } from "../../parts/words";
import { linkTo } from "../../state/history";
import { said } from "../summary/said";
import { titled } from "./numbers";

/** Pixels of a side of a mean difference. */
const SIDE = 96;

/** Methods in rows, layers in columns. */
export function agreement({ agreement, differences }: Comparison) {
  const own = agreement.filter(({ run }) => run === data.compared);
  const methods = data
    .ownMethods(state.apart)
    .filter(({ key }) => own.some(({ method }) => method === key));
  const layers = [...new Set(own.map(({ layer }) => layer))];
  const cell = (method: string, layer: string) => {
    const found = own.find((one) => one.method === method && one.layer === layer);
    if (!found) return h("td", "–");
    if (found.missing) return h("td", h("span.hint", said(found.missing)));
    const { correlation, moved } = found;
    const mean = differences.find(
      (one) => one.run === data.compared && one.method === method && one.layer === layer,
    );
    const to = linkTo({
      view: "matrix",
      rows: "image",
      columns: "run",
      beside: "none",
      method,
      layer,
    });
    return h(
      "td",
      mean ? meanCanvas(mean) : null,
      h("a", to, `ρ\u00a0${correlation === null ? "–" : decimal(correlation)}`),
      moved === null ? null : h("span.hint", t("runs.moved", { share: percent(moved) })),
    );
  };
  const table = h(
    "table.frames.alike",
    h("caption.visually-hidden", t("runs.agreement")),
    h(
      "thead",
      h("tr", h("td"), ...layers.map((layer) => h("th", { scope: "col" }, bdi(layerName(layer))))),
    ),
    h(
      "tbody",
      ...methods.map(({ key, name }) =>
        h("tr", h("th", { scope: "row" }, bdi(name)), ...layers.map((layer) => cell(key, layer))),
      ),
    ),
  );
  table.style.setProperty("--maps", String(layers.length));
  const [first, run] = [0, data.compared].map(runName);
  const more = [0, data.compared].map((one) => t("runs.more", { run: runName(one) }));
  return titled(
    "agreement",
    h("p.hint", t("runs.agreement.words", { run, first })),
    h(".scroller", { tabindex: "0", role: "group", "aria-label": t("runs.agreement") }, table),
    h(
      "p.bar-row",
      h("span", more[0]),
      colourBar("diverging", t("compare.bar")),
      h("span", more[1]),
    ),
  );
}

function meanCanvas({ method, layer, n, largest, height, width, levels }: MeanDifference) {
  const { name } = data.methodOf(method);
  const words = t("runs.mean", { method: name, layer, count: n, largest: number(largest) });
  const canvas = h("canvas", { role: "img", "aria-label": words, title: words });
  const values = enlarge(bytesOf(levels), { height, width }, SIDE, SIDE, true);
  const table = data.tables.diverging;
  paint(canvas, indices(values, true, 1), SIDE, SIDE, { ...OPAQUE, table, signed: true });
  return canvas;
}

/** Which layers stand for each other, with the reason; folded where the names are the same. */
export function pairs({ pairs, runs }: Comparison) {
  const heads = [...runs.map(({ name }) => name), t("runs.pair")];
  const lines = pairs.map(({ layer, why }) =>
    h("tr", ...runs.map(({ grids }) => h("td", bdi(grids[layer] ?? "–"))), h("td", said(why))),
  );
  return h(
    "details",
    { open: pairs.some(({ by }) => by !== "name") },
    h("summary", { "data-focus": "pairs" }, t("runs.pairs")),
    h(
      ".scroller",
      h(
        "table.numbers",
        h("thead", h("tr", ...heads.map((name) => h("th", { scope: "col" }, bdi(name))))),
        h("tbody", ...lines),
      ),
    ),
  );
}
