// The page's words in the chosen language.
import { PREDICTED, methodOf, report } from "./data.js";
import { state } from "./state.js";

/**
 * The words for a key, with values for its placeholders.
 * @param {string} key
 * @param {Record<string, string | number>} values
 */
export function t(key, values = {}) {
  const words = report.strings[state.language][key];
  return words.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** What is said of the run in the chosen language. */
export const prose = () => report.prose[state.language];

/** Three digits, with a real minus. @param {number} value */
export function number(value) {
  if (!Number.isFinite(value)) return "–";
  const plain = Number(value.toPrecision(3));
  const text =
    Math.abs(plain) >= 1e5 || (plain !== 0 && Math.abs(plain) < 1e-3)
      ? plain.toExponential()
      : String(plain);
  return text.replace("-", "−");
}

/** A probability with two digits, or a bound where that would claim certainty. @param {number | null} value */
export function probability(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.005) return "< 0.01";
  return value > 0.995 ? "> 0.99" : value.toFixed(2);
}

/** Sentences one behind the other. @param {string[]} sentences */
export const sentences = (...sentences) => sentences.filter(Boolean).join(t("space"));

/** Names as a sentence lists them: "a, b and c". @param {string[]} names */
export function listed(names) {
  const [first, last] = [names.slice(0, -1), names[names.length - 1]];
  return first.length ? t("and", { first: first.join(t("names")), last }) : last;
}

/** @param {number} share */
export const percent = (share) => `${Math.round(share * 100)} %`;

/** A share of an area: one that is there is not rounded to nothing. @param {number} share */
export const areaPercent = (share) => (share > 0 && share < 0.005 ? "< 1 %" : percent(share));

/** The lines above a layer's maps: its name, its twins, what is read there. @param {string} address */
export function layerDetails(address) {
  const alike = report.layers.find((layer) => layer.address === address)?.alike ?? [];
  return [...(prose().layers[address] ?? []), ...alike.map((twin) => t("layer.twin", { twin }))];
}

/** The lines above a method's maps: which others coincide with it. @param {string} key */
export function methodDetails(key) {
  const alike = state.apart ? [] : methodOf(key).alike;
  return alike.map((twin) => t("method.twin", { twin: methodOf(twin).name }));
}

/** Name of the explained class at a place, as far as one name holds for all images. @param {number} rank */
export function rankName(rank) {
  if (rank === PREDICTED) return t("rank.predicted");
  return report.sameClasses
    ? report.classes[report.sameClasses[rank]]
    : t("rank", { place: rank + 1 });
}
