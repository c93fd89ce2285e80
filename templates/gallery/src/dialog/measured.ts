// What was measured of one map: each question in words with its numbers, and how the score falls.
import { data, report } from "../app";
import type { Evidence, EvidenceNumber, EvidenceQuestion } from "../data/types";
import { bdi, h } from "../parts/dom";
import { prose, t } from "../parts/words";
import { endsWords, isGiven, numberName, partWords, valueWords } from "../views/evidence/read";
import { curves } from "./curves";
import type { Open } from "./probe";

/** Why a number is missing that was not asked for. */
const NOT_MEASURED = "not_measured";

/** The numbers of the map that is open; hidden where there are none. */
export function measured() {
  const root = h("section.measured");
  const show = (now: Open) => {
    const { evidence } = report;
    const known = evidence && data.network === "trained" ? evidence : null;
    const rows = known?.questions.flatMap((question) => answer(known, question, now) ?? []) ?? [];
    root.hidden = !rows.length;
    root.replaceChildren(h("h3", t("measured")), h("dl", ...rows), ...curves(now));
  };
  return { root, show };
}

/** A question with its numbers; null where it was not put to such maps. */
function answer(evidence: Evidence, { key, coverage, numbers }: EvidenceQuestion, now: Open) {
  const texts = numbers.flatMap(
    (one) => textOf(one, now) ?? (one.key === key ? unmeasured(key, coverage, now) : []),
  );
  if (!texts.length) return null;
  const { method, layer } = now.id;
  const given = isGiven(evidence, key, method, layer) ? [t("evidence.given")] : [];
  const [first, ...more] = texts;
  const others = [...given, endsWords(numbers[0]), ...more, ...ofImage(key, now)];
  return h(
    "div",
    h("dt", h("strong", bdi(numberName(key))), " ", bdi(prose().evidence.questions[key].question)),
    h("dd", first),
    h("dd.hint", ...others.map((text) => h("span", bdi(text)))),
  );
}

/** A number of the map, or why it has none; null where it was not measured. */
function textOf(own: EvidenceNumber, { id, image }: Open) {
  const { key } = own;
  const map = `${id.method}/${id.layer}`;
  const value = image.numbers[map]?.[key]?.[id.rank];
  const reason = image.undefined[`${key}/${map}`]?.[id.rank] ?? NOT_MEASURED;
  if (value === undefined || (value === null && reason === NOT_MEASURED)) return null;
  const words = prose().evidence.undefined[reason] ?? t("cell.undefined");
  const said = value === null ? t("measured.none", { reason: words }) : valueWords(value, own);
  return key.includes(".") ? `${numberName(key)} ${said}` : said;
}

/** That a question was put to other images or classes alone; nothing where to other maps. */
function unmeasured(key: string, coverage: EvidenceQuestion["coverage"], { id, image }: Open) {
  const isOfSample = Object.values(image.numbers).some((ofMap) => key in ofMap);
  const ofOthers = key in (image.numbers[`${id.method}/${id.layer}`] ?? {});
  if (coverage === "sample" && !isOfSample)
    return [t("measured.none", { reason: t("cell.outside") })];
  return ofOthers ? [t("measured.none", { reason: t("measured.class") })] : [];
}

/** What is measured of the image and class alone: what no map can be expected to exceed. */
const ofImage = (key: string, { id, image }: Open) =>
  Object.entries(image.numbers[""] ?? {}).flatMap(([name, values]) => {
    const value = name.startsWith(`${key}.`) ? values[id.rank] : null;
    return typeof value === "number" ? [partWords(name, value)] : [];
  });
