// How sure the model is of the images, as bars, and a brush that keeps those between two handles.
import { report, state } from "../../app";
import { h } from "../../parts/dom";
import { t } from "../../parts/words";
import { columnsOf, isRight } from "../../query/match";
import { type Condition, parse } from "../../query/parse";
import { change } from "../../state/history";
import { places, queryWith, vocabularyOf } from "../../state/selection";

const BINS = 20;

/** Steps of a handle to one. */
const STEPS = 100;

type Range = [low: number, high: number];

const owns = (condition: Condition) => condition.kind === "number" && condition.name === "p";

/** The range that the query asks for, within all that there is. */
function asked([least, most]: Range): Range {
  let [low, high] = [least, most];
  for (const { asks } of parse(state.query, vocabularyOf(report))) {
    if (!("kind" in asks) || asks.kind !== "number" || asks.name !== "p") continue;
    if (!asks.sign.startsWith("<")) low = Math.max(low, asks.value);
    if (!asks.sign.startsWith(">")) high = Math.min(high, asks.value);
  }
  return [Math.min(low, most), Math.max(high, least)];
}

/** Ask for a range; what has no bound is not written. */
function ask([low, high]: Range, [least, most]: Range) {
  const terms = [...(low > least ? [`p>=${low}`] : []), ...(high < most ? [`p<=${high}`] : [])];
  const query = queryWith(owns, ...terms);
  if (query !== state.query) change({ query, page: 0 }, true);
}

const rounded = (value: number) => Math.round(value * STEPS) / STEPS;

/** The histogram of confidence with its brush; null where there is nothing to compare. */
export function histogram() {
  const column = columnsOf(report.images).get("p");
  if (!column) return null;
  const all = [...report.images.index.keys()].flatMap((place) => column(place) ?? []);
  const least = Math.min(1, ...all);
  const whole: Range = [Math.floor(Math.min(least, 0.95) * 20) / 20, 1];
  const binOf = (p: number) =>
    Math.min(BINS - 1, Math.floor(((p - whole[0]) / (whole[1] - whole[0])) * BINS));
  const bins = Array.from({ length: BINS }, () => h("span"));
  const brush = handles(whole);
  const plot = h(".bins", { "aria-hidden": "true" }, ...bins);
  dragging(plot, whole, brush.show);
  const root = h(
    "fieldset.facet.histogram",
    h("legend", h("span", t("number.p")), brush.output),
    plot,
    brush.root,
  );
  const refresh = () => {
    const counts = bins.map(() => [0, 0, 0]);
    for (const place of places(report, queryWith(owns))) {
      const p = column(place);
      const kind = [false, true, null].indexOf(isRight(report.images, place));
      if (p !== null) counts[binOf(p)][kind] += 1;
    }
    fill(bins, counts, whole);
    brush.show(asked(whole));
  };
  refresh();
  return { root, refresh };
}

/** Give each bar its heights: the wrong ones above the others. */
function fill(bins: HTMLElement[], counts: number[][], [least, most]: Range) {
  const highest = Math.max(1, ...counts.map(([wrong, right, unknown]) => wrong + right + unknown));
  const width = (most - least) / BINS;
  for (const [place, bin] of bins.entries()) {
    const [wrong, right, unknown] = counts[place];
    bin.style.setProperty("--wrong", String(wrong / highest));
    bin.style.setProperty("--right", String((right + unknown) / highest));
    const [from, to] = [least + place * width, least + (place + 1) * width];
    const values = { from: from.toFixed(2), to: to.toFixed(2), right, wrong, count: unknown };
    bin.title = t(unknown ? "histogram.bar" : "histogram.judged", values);
  }
}

/** Two sliders on one line, one for each end of the range. */
function handles(whole: Range) {
  const [least, most] = whole;
  const output = h("output");
  const make = (key: "low" | "high") =>
    h("input", {
      type: "range",
      min: String(Math.round(least * STEPS)),
      max: String(Math.round(most * STEPS)),
      step: "1",
      "data-focus": key,
      "aria-label": t(`histogram.${key}`),
      oninput: () => show(range(key)),
      onchange: () => ask(range(key), whole),
    });
  const [low, high] = [make("low"), make("high")];
  /** The handles' range; the one that moves pushes the other. */
  const range = (moved: "low" | "high"): Range => {
    const [from, to] = [low.valueAsNumber / STEPS, high.valueAsNumber / STEPS];
    if (from <= to) return [from, to];
    return moved === "low" ? [from, from] : [to, to];
  };
  const root = h(".handles", low, high);
  const show = ([from, to]: Range) => {
    output.textContent = `${from.toFixed(2)} – ${to.toFixed(2)}`;
    for (const [input, value] of [
      [low, from],
      [high, to],
    ] as const) {
      input.value = String(Math.round(value * STEPS));
      input.setAttribute("aria-valuetext", value.toFixed(2));
    }
    const share = (value: number) => String((value - least) / (most - least));
    root.parentElement?.style.setProperty("--from", share(from));
    root.parentElement?.style.setProperty("--to", share(to));
  };
  return { root, output, show };
}

/** Let a pointer choose a range on the bars: what it passes over, or the one bar it presses. */
function dragging(plot: HTMLElement, whole: Range, show: (range: Range) => void) {
  const [least, most] = whole;
  let start: number | null = null;
  const at = (event: PointerEvent) => {
    const { left, width } = plot.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - left) / width, 0), 1);
    return least + share * (most - least);
  };
  const range = (event: PointerEvent): Range => {
    const [one, other] = [start ?? least, at(event)].sort((a, b) => a - b);
    const width = (most - least) / BINS;
    if (other - one > width / 2) return [rounded(one), rounded(other)];
    const bar = Math.min(BINS - 1, Math.floor((one - least) / width));
    return [rounded(least + bar * width), rounded(least + (bar + 1) * width)];
  };
  plot.addEventListener("pointerdown", (event) => {
    start = at(event);
    plot.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  plot.addEventListener("pointermove", (event) => start !== null && show(range(event)));
  plot.addEventListener("pointerup", (event) => {
    if (start !== null) ask(range(event), whole);
    start = null;
  });
  plot.addEventListener("pointercancel", () => {
    start = null;
    show(asked(whole));
  });
}
