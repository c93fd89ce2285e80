// What the predictions of many images come to: confusions, confidence, calibration.
import { report } from "../../app";
import type { ClassScore, Confusion, Place } from "../../data/types";
import { bdi, h } from "../../parts/dom";
import { enableRoving } from "../../parts/roving";
import { percent, t } from "../../parts/words";
import { quote } from "../../query/parse";
import { className, leadTo, part } from "./said";
import { s } from "./svg";

/** Pixels of a side of the reliability diagram. */
const SIDE = 160;

/** Room for the words and ticks of its axes, and where these stand. */
const AXIS = 44;
const TICKS = [0, 0.5, 1];

/** Largest radius of a point in it. */
const MAX_RADIUS = 9;

const images = (query: string) => ({ ...leadTo({ view: "overview", query }), tabindex: "-1" });

export function confusion() {
  const { confusion } = report.summary;
  if (!confusion) return null;
  return part("confusion", confusion.whole ? matrix(confusion) : pairs(confusion));
}

/** What shows the images of a cell: mean maps of both classes and the photographs, if there are any. */
function cellPlace(label: number, predicted: number): Place {
  const query = `is:${quote(className(label))} class:${quote(className(predicted))}`;
  const opens = label !== predicted && report.atlas.includes("confusions");
  return opens ? { view: "atlas", atlas: "confusions", query } : { view: "overview", query };
}

/** True classes in rows, predicted ones in columns, with recall and precision at the ends. */
function matrix({ scores, cells }: Confusion) {
  const count = (label: number, predicted: number) =>
    cells.find((cell) => cell.label === label && cell.predicted === predicted)?.count ?? 0;
  const names = scores.map(({ index }) => h("th", { scope: "col" }, bdi(className(index))));
  const rows = scores.map((score) =>
    h(
      "tr",
      h("th", { scope: "row" }, bdi(className(score.index))),
      ...scores.map(({ index }) => countCell(score, index, count(score.index, index))),
      h("td.rate", rate(score.right, score.total)),
    ),
  );
  const precision = scores.map(({ right, predicted }) => h("td.rate", rate(right, predicted)));
  const table = h(
    "table.confused",
    h("caption", t("summary.confusion.caption")),
    h("thead", h("tr", h("td"), ...names, h("th", { scope: "col" }, t("summary.recall")))),
    h("tbody", ...rows),
    h("tfoot", h("tr", h("th", { scope: "row" }, t("summary.precision")), ...precision, h("td"))),
  );
  enableRoving(table, "a");
  return h(".scroller", table);
}

const rate = (right: number, of: number) => (of ? percent(right / of) : "–");

/** A count that leads to its images, shaded by its share of the true class. */
function countCell({ index, total }: ClassScore, predicted: number, count: number) {
  const cell = h("td", { class: index === predicted ? "right" : "wrong" });
  cell.style.setProperty("--share", String(count / Math.max(total, 1)));
  const name = t("summary.confusion.cell", {
    count,
    name: className(index),
    predicted: className(predicted),
  });
  const link = {
    ...leadTo(cellPlace(index, predicted)),
    tabindex: "-1",
    "aria-label": name,
    title: name,
  };
  cell.append(count ? h("a", link, count) : "0");
  return cell;
}

/** The pairs of classes that are confused most often. */
function pairs({ cells, scores }: Confusion) {
  const lines = cells.map(({ label, predicted, count }) => {
    const words = t("summary.confusion.pair", {
      name: className(label),
      predicted: className(predicted),
    });
    const link = leadTo(cellPlace(label, predicted));
    return h("li", h("a", link, bdi(words)), ` ${count}`);
  });
  const list = lines.length ? h("ol.pairs", ...lines) : h("p", t("summary.noErrors"));
  const summary = h("summary", { "data-focus": "by-class" }, t("summary.classes"));
  return h("div", list, h("details", summary, byClass(scores)));
}

/** Recall and precision of each class, in the order of the classes. */
function byClass(scores: ClassScore[]) {
  const heads = ["class", "recall", "precision"].map((key) =>
    h("th", { scope: "col" }, t(`summary.${key}`)),
  );
  const share = (right: number, of: number) => h("td", `${rate(right, of)} (${right}/${of})`);
  const rows = scores.map(({ index, right, total, predicted }) => {
    const link = images(`is:${quote(className(index))}`);
    const name = total ? h("a", link, bdi(className(index))) : bdi(className(index));
    return h("tr", h("th", { scope: "row" }, name), share(right, total), share(right, predicted));
  });
  const table = h("table.by-class", h("thead", h("tr", ...heads)), h("tbody", ...rows));
  enableRoving(table, "a");
  return h(".scroller", table);
}

/** How many predictions have which probability: bars that lead to their images. */
export function confidence() {
  const { low, right, wrong, unknown } = report.summary.confidence;
  const judged = right.some(Boolean) || wrong.some(Boolean);
  const kinds = judged ? { right, wrong } : { unknown };
  const charts = Object.entries(kinds).map(([kind, counts]) => histogram(kind, counts, low));
  return part("confidence", ...charts, axis(low));
}

/** What a query asks for to be of a kind. */
const JUDGED: Record<string, string> = { right: "right:yes ", wrong: "right:no ", unknown: "" };

function histogram(kind: string, counts: number[], low: number) {
  const most = Math.max(...counts, 1);
  const bound = (place: number) => (low + (place * (1 - low)) / counts.length).toFixed(2);
  const bars = counts.map((count, place) => {
    const [from, to] = [bound(place), bound(place + 1)];
    const upper = place + 1 < counts.length ? ` p<${to}` : "";
    const name = t("summary.confidence.bar", { count, from, to });
    const link = images(`${JUDGED[kind]}p>=${from}${upper}`);
    const bar = count ? h("a", { ...link, "aria-label": name, title: name }) : h("span");
    bar.style.setProperty("--height", String(count / most));
    return bar;
  });
  const total = counts.reduce((sum, count) => sum + count, 0);
  const name = t(`summary.confidence.${kind}`, { count: total });
  const chart = h(".bars", { role: "group", "aria-label": name }, ...bars);
  enableRoving(chart, "a");
  return h("div", { class: `histogram ${kind}` }, h("p", name), chart);
}

const axis = (low: number) =>
  h(
    "p.axis",
    { "aria-hidden": "true" },
    h("span", low.toFixed(1)),
    h("span", t("summary.confidence.axis")),
    h("span", "1"),
  );

const label = (x: number, y: number, words: string, anchor = "middle") =>
  s("text", { x, y, "text-anchor": anchor }, document.createTextNode(words));

/** Confidence against the share that is right: on the diagonal, one says the other. */
export function reliability() {
  const bins = report.summary.reliability;
  if (!bins.length) return null;
  const total = bins.reduce((sum, bin) => sum + bin.count, 0);
  const gap = bins.reduce(
    (sum, bin) => sum + (bin.count / total) * Math.abs(bin.confidence - bin.right),
    0,
  );
  const most = Math.max(...bins.map((bin) => bin.count));
  const points = bins.map((bin) =>
    s("circle", {
      cx: bin.confidence * SIDE,
      cy: (1 - bin.right) * SIDE,
      r: Math.max(2, MAX_RADIUS * Math.sqrt(bin.count / most)),
    }),
  );
  const words = bins.map(({ confidence, right, count }) =>
    t("summary.reliability.bin", {
      confidence: confidence.toFixed(2),
      right: percent(right),
      count,
    }),
  );
  const edge = MAX_RADIUS + 1;
  const box = [-AXIS, -edge, SIDE + AXIS + edge, SIDE + AXIS + edge].join(" ");
  const drawing = s(
    "svg",
    { viewBox: box, role: "img", "aria-label": words.join(t("list")) },
    s("rect", { width: SIDE, height: SIDE }),
    s("line", { x1: 0, y1: SIDE, x2: SIDE, y2: 0 }),
    ...TICKS.flatMap((value) => [
      label(value * SIDE, SIDE + 14, String(value)),
      label(-5, (1 - value) * SIDE + 4, String(value), "end"),
    ]),
    label(SIDE / 2, SIDE + 27, t("number.p")),
    s(
      "g",
      { transform: `translate(${10 - AXIS} ${SIDE / 2}) rotate(-90)` },
      label(0, 0, t("summary.reliability.right")),
    ),
    ...points,
  );
  const hint = t("summary.reliability.gap", { gap: percent(gap), count: total });
  return part("reliability", drawing, h("p.hint", hint));
}
