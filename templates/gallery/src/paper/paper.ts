// The report on paper: a cover, each image's figure with its caption, methods and provenance.
import { data, report, state } from "../app";
import type { ImageRecord } from "../data/dataset";
import type { MethodProse } from "../data/types";
import { kindsOf, labelNotes, leftOut, scaleWords } from "../maps/describe";
import { bdi, byId, definitions, h, linked } from "../parts/dom";
import { badge, predictions, topWords } from "../parts/image";
import { legend } from "../parts/legend";
import { failedList, failedTitle, notes } from "../parts/notes";
import { listed, prose, sentences, t } from "../parts/words";
import type { State } from "../state/state";
import { evidenceOnPaper } from "../views/evidence/evidence";
import { structureSection } from "../views/structure";
import { summaryOnPaper } from "../views/summary/paper";
import { channelFigure } from "./grids";
import { type Column, columnsOf, mapsTable } from "./sheet";

/** Views that are printed as they stand on the screen. */
const AS_SHOWN: State["view"][] = ["tables", "compare", "channels", "atlas", "runs"];

/** Lay out the pages; called when printing begins, and not before. */
export function layOut() {
  const { folder, images } = report;
  const { view, image } = state;
  // A folder's report is too large to print as a whole.
  const asShown = AS_SHOWN.includes(view) || (folder && view === "overview");
  document.body.classList.toggle("as-shown", asShown);
  if (asShown) return byId("paper").replaceChildren();
  const indices = folder ? [image] : images.index;
  const known = indices.map((index) => data.knownImage(index));
  let figures = 0;
  const sheets = known.filter((one) => one !== undefined).map((one) => sheet(one, () => ++figures));
  byId("paper").replaceChildren(cover(), ...evidenceOnPaper(), ...sheets, appendix());
}

function cover() {
  const { title, warning, failed } = prose();
  const { folder, images } = report;
  const count = images.index.length.toLocaleString("en");
  return h(
    "section.cover",
    h("h1", title),
    summaryOnPaper(),
    warning ? h("p.notice.alarm", t("warning", { text: warning })) : null,
    failed.length ? h(".notice", h("h2", failedTitle()), failedList()) : null,
    folder ? h("p", t("paper.folder", { count })) : null,
    h("ul.at-a-glance", ...(folder ? [] : images.index).map(atAGlance)),
  );
}

/** An image on the cover. */
function atAGlance(index: number) {
  const place = data.placeOf(index);
  const name = h("strong", bdi(report.images.file[place]));
  return h(
    "li",
    h("img", { src: data.knownImage(index)?.photo ?? "", alt: "" }),
    h("div", name, badge(place), ...predicted(index, place)),
  );
}

/** The most probable classes; of several runs, the first one of each. */
const predicted = (index: number, place: number) =>
  data.runs.length
    ? data.runs.map(({ name }, run) => h("p", bdi(name), t("colon"), bdi(topWords(index, run))))
    : [predictions(place)];

/** An image's figures. */
function sheet(image: ImageRecord, next: () => number) {
  const parts = columnsOf(image);
  const kinds = kindsOf(report.methods, false);
  const figures = parts.map((columns) => {
    const which = parts.length > 1 ? columnWords(image, columns) : "";
    return h(
      "figure",
      mapsTable(image, columns),
      h(
        "figcaption",
        h("strong", t("tables.figure", { number: next() })),
        " ",
        sentences(sheetCaption(image), which, scaleWords(kinds)),
        " ",
        legend(kinds),
      ),
    );
  });
  const grids = report.channels.map((address) => channelFigure(image, address, next()));
  const title = h("h2", bdi(image.file));
  return h("section.sheet", title, ...figures, ...notes(labelNotes(image)), ...grids);
}

function sheetCaption(image: ImageRecord) {
  const [width, height] = report.images.size[data.placeOf(image.index)];
  return t("paper.caption", { image: image.file, width, height });
}

/** Which class and methods a part of an image's figure shows. */
function columnWords(image: ImageRecord, columns: Column[]) {
  const [{ rank }] = columns;
  const name =
    rank === null ? t("class.any") : t("class.named", { name: data.classOf(image, rank) });
  const methods = listed([...new Set(columns.map(({ method }) => data.methodOf(method).name))]);
  return t("paper.columns", { name, methods });
}

function appendix() {
  const { methods, leftOut: ofRun, provenance } = prose();
  return h(
    "section.appendix",
    h("h2", t("view.methods")),
    h(".methods", ...Object.values(methods).map(methodSection)),
    ...notes([...ofRun, ...leftOut()]),
    h("h2", t("view.provenance")),
    definitions("rows", provenance),
    structureSection(),
  );
}

const methodSection = (method: MethodProse) =>
  h(
    "section",
    h("h3", method.name),
    h("p", sentences(method.meaning, method.caution)),
    h("p.formula", method.formula),
    h("p.hint", ...linked(method.source)),
  );
