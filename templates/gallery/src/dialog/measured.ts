// What was measured of one map: each question in words with its numbers, and how the score falls.
import { data, report } from "../app";
import type { EvidenceQuestion } from "../data/types";
import { bdi, h } from "../parts/dom";
import { number, prose, t } from "../parts/words";
import { isByConstruction, numberName } from "../views/evidence/read";
import { curves } from "./curves";
import type { Open } from "./probe";

/** Why a number is missing that was not asked for. */
const NOT_MEASURED = "not_measured";

/** The numbers of the map that is open; hidden where there are none. */
export function measured() {
  const root = h("section.measured");
  const show = (now: Open) => {
    const asked = data.network === "trained" ? (report.evidence?.questions ?? []) : [];
    const rows = asked.flatMap((question) => answer(question, now) ?? []);
    root.hidden = !rows.length;
    root.replaceChildren(h("h3", t("measured")), h("dl", ...rows), ...curves(now));
  };
  return { root, show };
}

/** A question with its numbers; null where it was not put to such maps. */
function answer(question: EvidenceQuestion, now: Open) {
  const { key, coverage, numbers } = question;
  const texts = numbers.flatMap(
    (one) => textOf(one.key, now) ?? (one.key === key ? unmeasured(key, coverage, now) : []),
  );
  if (!texts.length) return null;
  const given = isByConstruction(now.id.method, question) ? [t("evidence.given")] : [];
  const [first, ...more] = texts;
  const others = [...given, ...more, ...ceiling(`${key}.ceiling`, now)];
  return h(
    "div",
    h("dt", h("strong", bdi(numberName(key))), " ", bdi(prose().evidence.questions[key].question)),
    h("dd", first),
    others.length > 0 && h("dd.hint", ...others.map((text) => h("span", bdi(text)))),
  );
}

/** A number of the map, or why it has none; null where it was not measured. */
function textOf(key: string, { id, image }: Open) {
  const map = `${id.method}/${id.layer}`;
  const value = image.numbers[map]?.[key]?.[id.rank];
  const reason = image.undefined[`${key}/${map}`]?.[id.rank] ?? NOT_MEASURED;
  if (value === undefined || (value === null && reason === NOT_MEASURED)) return null;
  const words = prose().evidence.undefined[reason] ?? t("cell.undefined");
  const said = value === null ? t("measured.none", { reason: words }) : number(value);
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

/** What no map of the image and class can be expected to exceed. */
function ceiling(key: string, { id, image }: Open) {
  const value = image.numbers[""]?.[key]?.[id.rank];
  return typeof value === "number" ? [`${numberName(key)} ${number(value)}`] : [];
}
