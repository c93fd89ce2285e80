// The first lines of a report: what was found, which image to look at first, which map to doubt.
import { data, report } from "../../app";
import type { Summary } from "../../data/types";
import { bdi, h } from "../../parts/dom";
import { prose, t } from "../../parts/words";
import { quote } from "../../query/parse";
import { claim, className, leadTo, leadToImage, said } from "./said";

/** Most classes whose score stands in the first line. */
const MAX_SCORES = 4;

/** Query of the errors that are counted as confident. */
const CONFIDENT = "right:no p>0.8";

/** The outcome in figures where true classes are known, else in words. */
export function outcome() {
  const { headline, accuracy } = report.summary;
  return accuracy ? figures(accuracy) : h("h2.outcome", bdi(said(headline)));
}

/** What was asked: model, images, classes, layers, methods, cost. */
export const asked = () => h("p.asked", bdi(prose().asked));

const accuracyWords = (share: number) => `${(100 * share).toFixed(1)}%`;

const confidentWords = (count: number) =>
  t(count === 1 ? "summary.confident.one" : "summary.confident.other", { count });

/** How many predictions are right, of all and of each class, and how many errors are confident. */
function figures({ right, total, confident }: NonNullable<Summary["accuracy"]>) {
  const { confusion } = report.summary;
  const all = report.images.index.length;
  const scores = confusion?.scores.filter((score) => score.total > 0) ?? [];
  const few = scores.length > 1 && scores.length <= MAX_SCORES ? scores : [];
  const link = (query: string, ...text: (Node | string)[]) =>
    h("a", leadTo({ view: "overview", query }), ...text);
  return h(
    ".outcome.figures",
    h(
      "h2",
      h("strong", accuracyWords(right / total)),
      " ",
      t(total < all ? "summary.right.some" : "summary.right", { right, total, all }),
    ),
    ...few.map(({ index, right, total }) =>
      h("p", link(`is:${quote(className(index))}`, bdi(className(index))), ` ${right}/${total}`),
    ),
    confident ? h("p.wrong", link(CONFIDENT, confidentWords(confident))) : null,
  );
}

/** Which image to look at first, and which map to doubt, each with the reason. */
export function answers() {
  const { first, doubt } = report.summary;
  const answer = (name: string, ...told: (Node | string)[]) =>
    h("div", h("dt", t(`summary.${name}`)), h("dd", ...told));
  return h(
    "dl.answers",
    first.length ? answer("lookFirst", ...lookFirst(first[0])) : null,
    doubt ? answer("trustLeast", ...claim(doubt)) : null,
    !doubt && !data.runs.length && answer("trustLeast", t("summary.trustLeast.none")),
  );
}

const lookFirst = ({ image, reasons }: Summary["first"][number]) => [
  h("a", leadToImage(image), bdi(report.images.file[data.placeOf(image)])),
  t("colon"),
  reasons.map(said).join(t("list")),
];
