// What changed from the first run to another, in numbers with their intervals.
import { data, report, state } from "../../app";
import type { Comparison, Delta } from "../../data/types";
import { chooser } from "../../parts/chooser";
import { bdi, h } from "../../parts/dom";
import { decimal, runName, t } from "../../parts/words";
import { said } from "../summary/said";

/** Numbers of the whole run, and those of the chosen method and layer. */
const shownDeltas = ({ deltas }: Comparison) =>
  deltas.filter(
    ({ run, method, layer }) =>
      run === data.compared && (!method || (method === state.method && layer === state.layer)),
  );

export function deltas(comparison: Comparison) {
  const shown = shownDeltas(comparison);
  const [first, own] = [0, data.compared].map(runName);
  const heads = [t("runs.number"), first, own, t("runs.difference"), t("runs.interval"), "n"];
  const most = Math.max(...shown.flatMap(({ low, high, delta }) => [low, high, delta].map(size)));
  const ofMaps = comparison.deltas.some(({ method }) => method);
  const table = h(
    "table.numbers.deltas",
    h("caption.visually-hidden", t("runs.deltas")),
    h("thead", h("tr", ...heads.map((text) => h("th", { scope: "col" }, bdi(text))))),
    h("tbody", ...shown.map((delta) => line(delta, most || 1))),
  );
  return titled(
    "deltas",
    h("p.hint", t("runs.deltas.words", { run: own, first })),
    ofMaps && h(".with-choice", chooser("method"), chooser("layer")),
    h(".scroller", { tabindex: "0", role: "group", "aria-label": t("runs.deltas") }, table),
  );
}

const size = (value: number | null) => Math.abs(value ?? 0);

/** A number with some digits behind the point, a real minus, and none before nothing. */
const written = (value: number | null, digits = 3) =>
  value === null
    ? "–"
    : value
        .toFixed(digits)
        .replace(/^-(?=[0.]+$)/, "")
        .replace("-", "−");

const signed = (text: string) => (/^[\d.]*[1-9]/.test(text) ? `+${text}` : text);

function line(delta: Delta, most: number) {
  const { name, n, before, after, low, high } = delta;
  const interval =
    low === null || high === null ? "–" : `${signed(written(low))} … ${signed(written(high))}`;
  return h(
    "tr",
    h("th", { scope: "row" }, said(name), ...remarks(delta).map((text) => h("span.hint", text))),
    h("td", written(before)),
    h("td", written(after)),
    h("td", h("strong", signed(written(delta.delta)))),
    h("td", interval, bar(delta, most)),
    h("td", String(n)),
  );
}

/** What a difference may not be taken for. */
function remarks({ apart, p }: Delta) {
  return [
    ...(apart === null ? [t("runs.apart.few")] : apart ? [] : [t("runs.apart.no")]),
    ...(p === null ? [] : [t("runs.p", { p: p < 0.01 ? "< 0.01" : decimal(p) })]),
  ];
}

/** A difference and its interval on a scale with zero in its middle. */
function bar({ delta, low, high }: Delta, most: number) {
  const at = (value: number) => 50 + (50 * value) / most;
  const mark = (kind: string, from: number, to = from) => {
    const own = h("span", { class: kind });
    Object.assign(own.style, { left: `${at(from)}%`, width: `${at(to) - at(from)}%` });
    return own;
  };
  return h(
    "span.scale",
    { "aria-hidden": "true" },
    mark("zero", 0),
    delta !== null && mark("median", Math.min(0, delta), Math.max(0, delta)),
    low !== null && high !== null && mark("interval", low, high),
  );
}

/** A section of the runs with its title. */
export const titled = (name: string, ...content: (Node | null | false)[]) =>
  h("section.part", { "data-part": name }, h("h3", t(`runs.${name}`)), ...content);

/** The outcome in words; the accuracy of each run, and the difference to the first one. */
export function outcome({ runs, deltas }: Comparison) {
  const shown = runs.flatMap(({ name, accuracy }) => {
    if (!accuracy) return [];
    const { right, total } = accuracy;
    const share = h("strong", `${((100 * right) / total).toFixed(1)}%`);
    return [h("p", bdi(name), " ", share, ` ${right}/${total}`)];
  });
  const own = deltas.find(({ key, run }) => key === "accuracy" && run === data.compared);
  const points = (value: number | null) => signed(written(value === null ? null : 100 * value, 1));
  if (own) {
    const { delta, low, high } = own;
    const values = { points: points(delta), low: points(low), high: points(high) };
    shown.push(h("p", t("runs.points", values)));
  }
  return h(
    ".run-outcome",
    h("h2", bdi(said(report.summary.headline))),
    h(".outcome.figures", ...shown),
  );
}
