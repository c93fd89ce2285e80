// Maps in words.
import { data, report, state } from "../app";
import type { CellId } from "../data/cells";
import { CONTRAST, type ImageRecord, type Pair, isSubtracted } from "../data/dataset";
import type { CamCell, MethodFacts } from "../data/types";
import { showsMatrix } from "../parts/axes";
import {
  className,
  isolated,
  number,
  percent,
  probability,
  prose,
  rankName,
  runName,
  sentences,
  t,
} from "../parts/words";

/** A map's largest value. */
export function peakOf(cam: CamCell) {
  const sign = cam.signed ? "±" : "";
  let text = t("cell.peak", { peak: sign + number(cam.largest) });
  if (cam.base) text = t("cell.range", { base: number(cam.base), peak: number(cam.largest) });
  if (cam.layer === "fused") text = t("cell.ofOne", { peak: text });
  return cam.channel === undefined ? text : t("cell.channel", { channel: cam.channel, peak: text });
}

/** What stands in the place of a map that is not drawn: why it is not there. */
export function absence(id: CellId, cam: CamCell | undefined) {
  if (cam?.state === "empty" && id.run < 0) return t("runs.same");
  if (cam) return t(`cell.${cam.state}`);
  const control = data.methodOf(id.method).family === "control";
  if (!control && data.network === "trained")
    return data.runs.length ? t("runs.noMap", { run: runName(id.run) }) : t("cell.absent");
  const sampled = data.knownImage(id.image, id.run)?.scrambled.length;
  return t(control || !sampled ? "cell.outside" : "cell.notScrambled");
}

/** What a map shows: image, class, method, layer and largest value. */
export function describe(id: CellId, image = data.knownImage(id.image, id.run)) {
  const cam = image && data.camOf(image, id);
  const facts = data.methodOf(id.method);
  const words = [
    report.images.file[data.placeOf(id.image)],
    ...(data.runs.length ? [runName(id.run)] : []),
    facts.classSpecific ? classWords(id.rank, image) : t("class.any"),
    facts.name,
    id.layer,
  ];
  if (data.network === "scrambled") words.push(t("network.scrambled"));
  if (image) words.push(cam?.state === "positive" ? peakOf(cam) : absence(id, cam));
  return words.join(t("comma"));
}

/** Which class a map is of, or between which two it tells apart. */
function classWords(rank: number, image: ImageRecord | undefined) {
  if (image && rank === CONTRAST) return className(image, rank);
  return t("class.named", { name: image ? className(image, rank) : rankName(rank) });
}

/** The classes of an image's pair, for a sentence. */
export const pairNames = (image: ImageRecord, { predicted, other }: Pair) => ({
  first: isolated(data.classOf(image, predicted)),
  second: isolated(data.classOf(image, other)),
});

/** Whether the table shows contrasts in place of one class's maps. */
export function showsContrast() {
  const { rank, rows, columns, beside } = state;
  return showsMatrix() && rank === CONTRAST && ![rows, columns, beside].includes("class");
}

/** What a contrast map is the difference of. */
export function contrastWords(image: ImageRecord, cam: CamCell | undefined) {
  const pair = data.pairOf(image.index, image.run);
  const key = cam && isSubtracted(cam) ? "truth.drawn" : "truth.exact";
  return pair ? t(key, pairNames(image, pair)) : "";
}

/** Probability and logit of an explained class; the model may return no logits. */
export function scores(image: ImageRecord, rank: number) {
  const place = data.rankIn(image.index, rank);
  return t(image.logits.length ? "scores" : "fact.probability", {
    probability: probability(image.probabilities[place]),
    logit: number(image.logits[place] ?? NaN),
  });
}

/** Why some methods have no map at some layers. */
export const leftOut = () => [
  ...new Set(
    Object.entries(prose().reasons)
      .filter(([key]) => report.methods.some((method) => key.startsWith(`${method.key}/`)))
      .map(([, reason]) => reason),
  ),
];

/** What the labels in place of an image's maps mean. */
export function labelNotes(image: ImageRecord) {
  const notes = [];
  const empty = image.cells.find((cell) => cell.state === "empty");
  if (empty) {
    const { classSpecific } = data.methodOf(empty.method);
    const name = classSpecific ? data.classOf(image, empty.rank) : t("class.any");
    notes.push(t("notes.empty", { name }));
  }
  if (image.cells.some((cell) => cell.state === "undefined")) notes.push(t("notes.undefined"));
  return notes;
}

/** How far the photographs show through the maps. */
function opacityWords() {
  const { show, byValue, lift, opacity } = state;
  if (show === "heat") return "";
  if (!byValue) return t("uniform.words", { share: percent(opacity / 100) });
  return t(lift ? "lift.words" : "byValue.words");
}

/** Whether the table shows how maps of two runs differ. */
function showsMoved() {
  const { rows, columns, beside, run } = state;
  const onTable = [rows, columns, beside].includes("run");
  return showsMatrix() && (onTable ? data.runs.length === 2 : run < 0);
}

/** Which kinds of maps there are among those of some methods: positive, signed, or contrasts alone; or how runs differ. */
export function kindsOf(methods: MethodFacts[] = report.methods, contrast = showsContrast()) {
  if (contrast) return ["contrast"];
  const moved = showsMoved();
  if (moved && state.run < 0) return ["moved"];
  return [
    ...(moved ? ["moved"] : []),
    ...(methods.some((method) => !method.signed) ? ["positive"] : []),
    ...(methods.some((method) => method.signed) ? ["signed"] : []),
  ];
}

/** How maps of some kinds are drawn. */
export function scaleWords(kinds = kindsOf()) {
  const { scale, colormap, threshold, contours, cells } = state;
  const { peaks } = report;
  const words = [t(`scale.${scale}.words`)];
  if (scale === "report")
    words.push(t("scale.to", { peak: number(Math.max(...Object.values(peaks))) }));
  if (kinds.includes("positive")) words.push(t("colormap.words", { name: colormap }));
  if (kinds.includes("contrast")) words.push(t("contrast.words"));
  if (kinds.includes("signed")) words.push(t("signed.words"));
  if (kinds.includes("moved")) words.push(t("runs.scale"));
  words.push(opacityWords());
  if (threshold) words.push(t("threshold.words", { share: percent(threshold / 100) }));
  if (contours) words.push(t("contours.words"));
  if (cells) words.push(t("cells.words"));
  if (state.boxes) words.push(t("boxes.words"));
  return sentences(...words);
}
