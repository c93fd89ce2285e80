// The page's words in the chosen language.
import { data, report, state } from "../app";
import { CONTRAST, type ImageRecord, PREDICTED, TRUE } from "../data/dataset";

/** The words for a key, with values for its placeholders. */
export function t(key: string, values: Record<string, string | number> = {}) {
  const words = report.strings[state.language][key];
  return words.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** What is said of the run in the chosen language. */
export const prose = () => report.prose[state.language];

/** A name from outside within a sentence: marks in it that turn text around end with it. */
export const isolated = (name: string) => `\u2068${name}\u2069`;

/** Three digits, with a real minus. */
export function number(value: number) {
  if (!Number.isFinite(value)) return "–";
  const plain = Number(value.toPrecision(3));
  const text =
    Math.abs(plain) >= 1e5 || (plain !== 0 && Math.abs(plain) < 1e-3)
      ? plain.toExponential()
      : String(plain);
  return text.replace("-", "−");
}

/** Two digits behind the point, with a real minus, and none before nothing. */
export const decimal = (value: number) =>
  value
    .toFixed(2)
    .replace(/^-(?=[0.]+$)/, "")
    .replace("-", "−");

/** A probability with two digits, or a bound where that would claim certainty. */
export function probability(value: number | null) {
  if (value === null || value === undefined) return "–";
  if (value < 0.005) return "< 0.01";
  return value > 0.995 ? "> 0.99" : value.toFixed(2);
}

/** Sentences one behind the other. */
export const sentences = (...sentences: string[]) => sentences.filter(Boolean).join(t("space"));

/** Names as a sentence lists them: "a, b and c". */
export function listed(names: string[]) {
  const [first, last] = [names.slice(0, -1), names[names.length - 1]];
  return first.length ? t("and", { first: first.join(t("names")), last }) : last;
}

export const percent = (share: number) => `${Math.round(share * 100)}%`;

/** A share of an area: one that is there is not rounded to nothing. */
export const areaPercent = (share: number) =>
  share > 0 && share < 0.005 ? "< 1%" : percent(share);

/** A layer's name with its grid: "conv1 · 55 × 55"; its address where it has none. */
export function layerName(address: string) {
  if (address === "fused" || address === "input") return t(`layer.name.${address}`);
  return report.layers.find((layer) => layer.address === address)?.name ?? address;
}

/** The layers that are the same tensor as one. */
export function layerTwins(address: string) {
  const alike = report.layers.find((layer) => layer.address === address)?.alike ?? [];
  return alike.map((twin) => t("twin", { twin }));
}

/** The lines above a layer's maps: what is read there, its grid, its twins. */
export const layerDetails = (address: string) => [
  ...(prose().layers[address] ?? []),
  ...layerTwins(address),
];

/** The methods whose maps are those of one. */
export function methodDetails(key: string) {
  const alike = state.apart ? [] : data.methodOf(key).alike;
  return alike.map((twin) => t("twin", { twin: data.methodOf(twin).name }));
}

/** A layer's name with its grid in a run; below zero, in that one which has more. */
export const layerIn = (address: string, run: number) =>
  data.runs[Math.abs(run)]?.grids[address] ?? layerName(address);

/** A run's name; below zero, what it has more than the first one. */
export function runName(run: number) {
  const [first, own] = [data.runs[0], data.runs[Math.abs(run)]];
  const name = isolated(own?.name ?? "");
  return run < 0 ? `${name} − ${isolated(first.name)}` : name;
}

/** Name of the explained class at a place, as far as one name holds for all images. */
export function rankName(rank: number) {
  if (rank === PREDICTED) return t("rank.predicted");
  if (rank === TRUE) return t("rank.true");
  if (rank === CONTRAST) return t("fact.contrast");
  return report.sameClasses
    ? report.classes[report.sameClasses[rank]]
    : t("rank", { place: rank + 1 });
}

/** Words for the class at a place among an image's explained ones; the true one is marked. */
export const markTrue = (image: ImageRecord, rank: number, words: string) =>
  data.isTrue(image.index, rank) ? t("class.true", { name: isolated(words) }) : words;

/** The same with the class's probability. */
export function withChance(image: ImageRecord, rank: number) {
  const chance = probability(image.probabilities[rank]);
  const name = data.classOf(image, rank);
  const apart = data.isTrue(image.index, rank) ? isolated(name) : name;
  return markTrue(image, rank, `${apart} ${chance}`);
}

/** Name of the class at such a place, or of the contrast. */
export function className(image: ImageRecord, rank: number) {
  const name = data.classOf(image, rank);
  return rank === CONTRAST ? t("truth.contrast", { name }) : markTrue(image, rank, name);
}
