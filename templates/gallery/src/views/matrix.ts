// The heart: any two of layers, methods, classes and images on rows and columns, a third beside.
import {
  PREDICTED,
  classOf,
  imageOf,
  knownImage,
  methodOf,
  ownMethods,
  placeOf,
  rankIn,
  report,
} from "../data/dataset";
import { bdi, button, fold, h, select } from "../parts/dom";
import { SIDES, availability, cellButton, layerFor, photoOf } from "../maps/frames";
import { enableGrid } from "../parts/roving";
import { chosenImages, pageOf } from "../state/selection";
import { change, linkTo, state } from "../state/state";
import {
  layerDetails,
  methodDetails,
  number,
  percent,
  probability,
  prose,
  rankName,
  sentences,
  t,
} from "../parts/words";
import type { Axis, CellId, ImageRecord, State } from "../data/types";

/** Most images on one axis at a time. */
const IMAGES_AT_ONCE = 20;

/** Most images that a strip of photographs shows above the matrix. */
const IN_STRIP = 12;

/** Most columns of maps that are drawn large; with more, the table scrolls by itself. */
const MAX_LARGE = 10;

/** Most columns that a narrow screen holds, so that heads can stay while the page scrolls. */
const FIT_NARROW = 3;

export type Fixed = { image: number; rank: number; method: string; layer: string };

/** The state's field that holds the fixed value of an axis. */
const FIELD: Record<Axis, "image" | "rank" | "method" | "layer"> = {
  image: "image",
  class: "rank",
  method: "method",
  layer: "layer",
};

/** Layers as the tables list them. */
export const layerList = () => [
  ...report.layers.map((layer) => layer.address),
  ...(report.fused ? ["fused"] : []),
  ...(report.input ? ["input"] : []),
];

function valuesOf(axis: Axis): (string | number)[] {
  if (axis === "layer") return layerList();
  if (axis === "method") return ownMethods(state.apart).map((method) => method.key);
  if (axis === "class") return Array.from({ length: report.ranks }, (_, i) => i);
  return pageOf(chosenImages(), IMAGES_AT_ONCE);
}

function nameOf(axis: Axis, value: string | number, fixed: Fixed) {
  if (axis === "layer") return String(value);
  if (axis === "method") return methodOf(String(value)).name;
  if (axis === "image") return report.images.file[placeOf(Number(value))];
  const image = knownImage(fixed.image);
  if (!image || !ofOneImage()) return rankName(Number(value));
  return classOf(image, rankIn(image.index, Number(value)));
}

/** Show a row or column across all images; of an image all its maps. */
function focusOn(axis: Axis, value: string | number): Partial<State> {
  if (axis === "image") {
    const beside = report.ranks === 2 && ownMethods(state.apart).length <= 3 ? "class" : "none";
    return { image: Number(value), rows: "layer", columns: "method", beside };
  }
  const other = state.rows === axis ? state.columns : state.rows;
  const columns = other === "image" ? (axis === "layer" ? "method" : "layer") : other;
  const beside = [axis, "image", columns].includes(state.beside) ? "none" : state.beside;
  return { [FIELD[axis]]: value, rows: "image", columns, beside, page: 0 };
}

/** Whether one image is looked at, so that what is known of it holds for the whole table. */
const ofOneImage = () => state.rows !== "image" && state.columns !== "image";

/** The head of a row or column, with a link that shows it across all images. */
function head(axis: Axis, value: string | number, fixed: Fixed, scope: "row" | "col") {
  const name = nameOf(axis, value, fixed);
  const details = [];
  if (axis === "layer") details.push(...layerDetails(name));
  if (axis === "method") {
    details.push(...methodDetails(String(value)));
    if (!methodOf(String(value)).classSpecific) details.push(t("matrix.anyClass"));
  }
  const image = knownImage(fixed.image);
  if (axis === "class" && image && ofOneImage()) details.push(scores(image, Number(value)));
  if (axis === "image") {
    const [top] = report.images.top[placeOf(Number(value))];
    if (top) details.push(`${report.classes[top[0]]} ${probability(top[1])}`);
  }
  const title = t(axis === "image" ? "matrix.focusImage" : "matrix.focus", { name });
  return h(
    "th",
    { scope },
    h(
      "a",
      { class: "head", ...linkTo(focusOn(axis, value)), title },
      axis === "layer" ? h("code", {}, name) : bdi(name),
    ),
    ...details.map((detail) => h("span", {}, bdi(detail))),
  );
}

/** Probability and logit of an explained class; the model may return no logits. */
export const scores = (image: ImageRecord, rank: number) =>
  t(image.logits.length ? "scores" : "fact.probability", {
    probability: probability(image.probabilities[rank]),
    logit: number(image.logits[rank] ?? NaN),
  });

/** A table of maps. */
function mapTable(rows: Axis, columns: Axis, fixed: Fixed, caption: string) {
  const idAt = (down: string | number, along: string | number) => {
    const id = { ...fixed, [FIELD[rows]]: down, [FIELD[columns]]: along } as Fixed;
    const layer = [rows, columns].includes("layer") ? id.layer : layerFor(id.method, id.layer);
    return { ...id, layer, rank: rankIn(id.image, id.rank) };
  };
  const isThere = (id: CellId) => availability(id.method, id.layer) !== "absent";
  const [allDown, allAcross] = [valuesOf(rows), valuesOf(columns)];
  const down = allDown.filter((one) => allAcross.some((other) => isThere(idAt(one, other))));
  const across = allAcross.filter((other) => allDown.some((one) => isThere(idAt(one, other))));
  const side = across.length > MAX_LARGE ? SIDES.narrow : SIDES.cell;
  const heads = across.map((value) => head(columns, value, fixed, "col"));
  const lines = down.map((value) => {
    const cells = across.map((along) => mapCell(idAt(value, along), side));
    return h("tr", {}, head(rows, value, fixed, "row"), ...cells);
  });
  const table = h(
    "table",
    { class: "matrix" },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, h("td", { class: "corner" }), ...heads)),
    h("tbody", {}, ...lines),
  );
  table.style.setProperty("--columns", String(across.length));
  return table;
}

function mapCell(id: CellId, side: number) {
  const there = availability(id.method, id.layer);
  if (there === "map") return h("td", {}, cellButton(id, { side }));
  if (there !== "absent") return h("td", { class: "nothing" }, t("matrix.notComputed"));
  const said = h("span", { class: "visually-hidden" }, t("cell.absent"));
  return h("td", { class: "nothing" }, h("span", { "aria-hidden": "true" }, "–"), said);
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
export function labels(image: ImageRecord) {
  const said = [];
  const empty = image.cells.find((cell) => cell.state === "empty");
  if (empty)
    said.push(
      t("notes.empty", {
        name: methodOf(empty.method).classSpecific ? classOf(image, empty.rank) : t("class.any"),
      }),
    );
  if (image.cells.some((cell) => cell.state === "undefined")) said.push(t("notes.undefined"));
  return said.map((sentence) => h("p", { class: "note" }, sentence));
}

/** How the maps are drawn, in words. */
export function scaleWords() {
  const words = [t(`scale.${state.scale}.words`)];
  if (state.scale === "report")
    words.push(t("scale.to", { peak: number(Math.max(...Object.values(report.peaks))) }));
  words.push(t("colormap.words", { name: state.colormap }));
  if (report.methods.some((method) => method.signed)) words.push(t("signed.words"));
  if (state.threshold) words.push(t("threshold.words", { share: percent(state.threshold / 100) }));
  if (state.byValue) words.push(t("byValue.words"));
  if (state.contours) words.push(t("contours.words"));
  if (state.cells) words.push(t("cells.words"));
  return sentences(...words);
}

/** The axes' names in a sentence. */
const many = (axis: Axis) => t(`axis.${axis}.many`);

export async function matrixView(root: HTMLElement) {
  const shown = [state.rows, state.columns, state.beside];
  const image = shown.includes("image") ? null : await imageOf(state.image);
  if (shown.includes("image"))
    await Promise.all(valuesOf("image").map((value) => imageOf(Number(value))));
  const few = report.images.index.length <= IN_STRIP;
  if (few && !shown.includes("image")) root.append(strip());
  const about = shown.includes("image") ? null : await summary(state.image);
  root.append(
    h("div", { class: "top" }, about, switches(shown)),
    h("p", { class: "hint" }, sentences(t("matrix.hint"), scrolls() ? t("matrix.scrolls") : "")),
    panels(),
  );
  if (image) root.append(...labels(image));
  root.append(...leftOut().map((reason) => h("p", { class: "note" }, reason)));
  if (shown.includes("image") && chosenImages().length > IMAGES_AT_ONCE)
    root.append(pager(IMAGES_AT_ONCE));
  const grid = root.querySelector(".panels") as HTMLElement;
  enableGrid(grid);
}

/** The images to choose from, as photographs with their predictions. */
export function strip() {
  return h(
    "nav",
    { class: "strip screen-only", "aria-label": t("matrix.images") },
    h(
      "ul",
      {},
      ...report.images.index.map((index, place) => {
        const [top] = report.images.top[place];
        return h(
          "li",
          {},
          h(
            "a",
            { ...linkTo({ image: index }), "aria-current": index === state.image && "true" },
            photoOf(index),
            h(
              "span",
              {},
              h("strong", {}, bdi(report.images.file[place])),
              top
                ? h(
                    "span",
                    { class: "hint" },
                    bdi(`${report.classes[top[0]]} ${probability(top[1])}`),
                  )
                : null,
              badge(place),
            ),
          ),
        );
      }),
    ),
  );
}

/** Whether the first prediction is the true class, in words. */
export function badge(place: number) {
  const label = report.images.label[place];
  const top = report.images.top[place][0];
  if (label === null || !top) return null;
  const right = top[0] === label;
  return h(
    "span",
    { class: `badge ${right ? "right" : "wrong"}` },
    h("span", { "aria-hidden": "true" }, right ? "✓ " : "✗ "),
    bdi(t(right ? "badge.right" : "badge.wrong", { name: report.classes[label] })),
  );
}

/** An image's name, size and predictions. */
export async function summary(index: number) {
  const place = placeOf(index);
  const image = await imageOf(index);
  const [width, height] = report.images.size[place];
  const [left, top, right, bottom] = image?.seen ?? [0, 0, 1, 1];
  const across = Math.round((right - left) * width);
  const down = Math.round((bottom - top) * height);
  const whole = across === width && down === height;
  const size = t(whole ? "image.size" : "image.seen", { width, height, across, down });
  return h(
    "header",
    { class: "summary" },
    h(
      "div",
      {},
      h("h2", {}, bdi(report.images.file[place])),
      h("p", { class: "hint" }, size),
      badge(place),
    ),
    predictions(place),
  );
}

export function predictions(place: number) {
  return h(
    "ol",
    { class: "predictions", "aria-label": t("predictions") },
    ...report.images.top[place].map(([index, share]) => {
      const value = h("span", { class: "value" });
      value.style.width = `${share * 100}%`;
      return h(
        "li",
        {},
        h("span", { class: "name" }, bdi(report.classes[index])),
        h("span", { class: "bar", "aria-hidden": "true" }, value),
        h("span", { class: "percent" }, probability(share)),
      );
    }),
  );
}

/** Axes, and a switch for each axis that is not shown. */
function switches(shown: string[]) {
  const axes = ["layer", "method", "class", "image"] as Axis[];
  const names = axes.map((axis) => [axis, many(axis)] as [Axis, string]);
  const swapped = (own: "rows" | "columns", value: Axis) => {
    const other = own === "rows" ? "columns" : "rows";
    const changes = { [own]: value, page: 0 } as Partial<State>;
    if (state[other] === value) changes[other] = state[own];
    if (state.beside === value) changes.beside = "none";
    change(changes, true);
  };
  const fixed = axes.filter((axis) => !shown.includes(axis));
  const folded = fold(
    t("matrix.axes"),
    "axes",
    select(t("matrix.rows"), "rows", names, state.rows, (value) => swapped("rows", value as Axis)),
    select(t("matrix.columns"), "columns", names, state.columns, (value) =>
      swapped("columns", value as Axis),
    ),
    select(
      t("matrix.beside"),
      "beside",
      [
        ["none", t("matrix.nothingBeside")],
        ...names.filter(
          ([axis]) => axis !== state.rows && axis !== state.columns && axis !== "image",
        ),
      ],
      state.beside,
      (value) => change({ beside: value as State["beside"] }, true),
    ),
    ...fixed.map(chooser),
  );
  return h("div", { role: "group", "aria-label": t("matrix.axes") }, folded);
}

/** A switch for the value of one axis. */
export function chooser(axis: Axis) {
  const field = FIELD[axis];
  const values = axis === "image" ? chosenImages() : valuesOf(axis);
  const options = values.map((value) => [
    value,
    axis === "class" ? rankName(Number(value)) : nameOf(axis, value, state),
  ]) as [string | number, string][];
  if (axis === "class") options.unshift([PREDICTED, rankName(PREDICTED)]);
  const choose = (value: string) =>
    change({ [field]: field === "image" || field === "rank" ? Number(value) : value }, true);
  if (axis !== "image")
    return select(t(`axis.${axis}`), `choose-${axis}`, options, state[field], choose);
  const place = values.indexOf(state.image);
  const step = (by: number) => () => {
    const next = values[place + by];
    if (next !== undefined) change({ image: Number(next) }, true);
  };
  const few = options.length <= 500;
  return h(
    "div",
    { class: "with-steps" },
    few ? select(t("axis.image"), "choose-image", options, state.image, choose) : null,
    button("‹", "previous-image", step(-1), {
      "aria-label": t("previous.image"),
      disabled: place <= 0,
    }),
    button("›", "next-image", step(1), {
      "aria-label": t("next.image"),
      disabled: place < 0 || place >= values.length - 1,
    }),
  );
}

/** Whether a table is too wide for the page. */
const scrolls = () => valuesOf(state.columns).length > MAX_LARGE;

/** The tables, side by side where they are short. */
function panels() {
  const { beside } = state;
  const values = beside === "none" ? [null] : valuesOf(beside);
  const count = valuesOf(state.columns).length;
  const root = h("div", { class: "panels" });
  root.style.setProperty("--columns", String(count));
  if (values.length > 1 && count <= 3) root.classList.add("side-by-side");
  for (const value of values) {
    const fixed =
      beside === "none" ? { ...state } : ({ ...state, [FIELD[beside as Axis]]: value } as Fixed);
    const table = mapTable(state.rows, state.columns, fixed, captionOf(fixed));
    const wide = h("div", { class: "scroller" }, table);
    if (scrolls()) wide.classList.add("wide");
    if (count <= FIT_NARROW) wide.classList.add("fits");
    root.append(
      h(
        "section",
        { class: "panel" },
        panelHead(beside, value, fixed),
        wide,
        h(
          "p",
          { class: "figcaption" },
          captionOf(fixed),
          t("space"),
          h("span", { class: "scale-words" }, scaleWords()),
        ),
      ),
    );
  }
  return root;
}

function panelHead(axis: Axis | "none", value: string | number | null, fixed: Fixed) {
  if (axis === "none" || value === null) return null;
  const image = knownImage(fixed.image);
  const together = axis === "class" && image && ofOneImage();
  return h(
    "h3",
    {},
    h("a", { class: "head", ...linkTo(focusOn(axis, value)) }, bdi(nameOf(axis, value, fixed))),
    together ? h("span", {}, scores(image, Number(value))) : null,
  );
}

/** What a table shows. */
function captionOf(fixed: Fixed) {
  const shown = [state.rows, state.columns];
  const axes = ["image", "class", "method", "layer"] as Axis[];
  const of = axes
    .filter((axis) => !shown.includes(axis))
    .map((axis) => {
      if (axis === "class" && fixed.rank === PREDICTED && !ofOneImage())
        return t("class.predicted");
      const name = nameOf(axis, fixed[FIELD[axis]], fixed);
      return axis === "class" ? t("class.named", { name }) : name;
    });
  return t("matrix.caption", {
    what: of.join(t("comma")),
    rows: many(state.rows),
    columns: many(state.columns),
  });
}

/** Previous and next page of images. */
export function pager(length: number) {
  const pages = Math.ceil(chosenImages().length / length);
  const page = Math.min(state.page, pages - 1);
  return h(
    "nav",
    { class: "pager", "aria-label": t("pages") },
    button(t("previous"), "page-previous", () => change({ page: page - 1 }, true), {
      disabled: page <= 0,
    }),
    h("span", {}, t("page.of", { page: page + 1, pages })),
    button(t("next"), "page-next", () => change({ page: page + 1 }, true), {
      disabled: page >= pages - 1,
    }),
  );
}
