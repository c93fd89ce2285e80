// One map, large: its values, its peak, its high regions, its neighbours; saved as a picture.
import {
  camOf,
  classOf,
  idOf,
  idText,
  imageOf,
  knownImage,
  methodOf,
  report,
} from "../data/dataset";
import { all, announce, bdi, button, byId, h } from "../parts/dom";
import { describe, draw, frameOf } from "../maps/frames";
import { ZERO, paintBar } from "../maps/heat";
import { composite, scaleOf, shaded, tableOf } from "../maps/look";
import {
  type Region,
  boxShare,
  imagePixel,
  peakAt,
  regions,
  sizeOf,
  valueAt,
} from "../maps/measure";
import { change, leave, state } from "../state/state";
import { areaPercent, number, percent, probability, t } from "../parts/words";
import type { CamCell, CellId, ImageRecord, Shaded, State } from "../data/types";

/** Most cells that can be pinned. */
export const MAX_PINS = 4;

/** Most regions with a box on the map; the facts count them all. */
const MAX_BOXES = 10;

export type Shown = {
  id: CellId;
  image: ImageRecord;
  cam: CamCell | undefined;
  map: Shaded | null;
  x: number;
  y: number;
};

let shown: Shown | null = null;

/** What had the focus before. */
let returnTo: string = "";

const dialog = () => byId("cell") as HTMLDialogElement;

/** Open a map. */
export function openCell(id: string) {
  change({ open: id }, true);
}

/** Follow the state: open, change or close the dialog. */
export async function showCell() {
  if (!state.open) {
    if (dialog().open) dialog().close();
    return;
  }
  const id = idOf(state.open);
  const image = report.images.index.includes(id.image) ? await imageOf(id.image) : null;
  if (!image || state.open !== idText(id)) return change({ open: "" });
  const cam = camOf(image, id);
  const drawn = cam?.state === "positive" && !cam.picture;
  const map = drawn ? shaded(image, cam, Math.max(image.width, image.height)) : null;
  const [x, y] = shown?.id.image === id.image ? [shown.x, shown.y] : [0.5, 0.5];
  shown = { id, image, cam, map, x, y };
  build(shown);
  if (!dialog().open) {
    const focused = document.activeElement?.closest("[data-focus]") as HTMLElement | null;
    returnTo = focused?.dataset.focus ?? `cell ${state.open}`;
    dialog().showModal();
  }
}

function build(now: Shown) {
  const { id, image, cam, map } = now;
  const kept = (document.activeElement?.closest("#cell [data-focus]") as HTMLElement | null)
    ?.dataset.focus;
  const frame = frameOf(id, Math.max(image.width, image.height));
  const cross = h("span", { class: "cross", "aria-hidden": "true" });
  frame.append(cross);
  frame.id = "probe";
  frame.tabIndex = 0;
  frame.dataset.focus = "probe";
  frame.setAttribute("role", "application");
  frame.setAttribute("aria-label", t("cell.probe", { what: describe(id, image) }));
  frame.setAttribute("aria-describedby", "reading");
  draw(frame);
  const high = cam && map ? regions(map, cam) : [];
  if (cam && map) frame.append(...marks(image, cam, map, high));
  const title = [
    image.file,
    methodOf(id.method).classSpecific ? classOf(image, id.rank) : t("class.any"),
    methodOf(id.method).name,
    id.layer,
  ];
  dialog().replaceChildren(
    h(
      "header",
      {},
      h("h2", { id: "cell-title" }, bdi(title.join(" · "))),
      button(t("close"), "close", () => dialog().close()),
    ),
    h(
      "div",
      { class: "stage" },
      frame,
      h(
        "div",
        { class: "beside" },
        ways(Boolean(cam?.picture)),
        colourBar(now),
        h("output", { id: "reading" }),
        facts(now, high),
        h(
          "p",
          { class: "steps" },
          button(t("previous"), "previous", () => step(-1), { disabled: !neighbour(-1) }),
          button(t("next"), "next", () => step(1), { disabled: !neighbour(1) }),
          button(
            state.pins.includes(state.open) ? t("unpin") : t("pin"),
            "pin",
            () => togglePin(state.open),
            { "aria-pressed": String(state.pins.includes(state.open)) },
          ),
          cam ? button(t("save"), "save", () => save(now)) : null,
        ),
      ),
    ),
  );
  showReading();
  if (kept) focusIn(kept);
}

const focusIn = (key: string) =>
  (
    dialog().querySelector<HTMLElement>(`[data-focus="${key}"]:not([disabled])`) ??
    dialog().querySelector("button")
  )?.focus();

/** Photograph, heat, overlay or contours; a map in colours has no heat of its own. */
function ways(inColours: boolean) {
  const choices: [string, Partial<State>][] = inColours
    ? [
        ["picture", { show: "overlay", contours: false }],
        ["photo", { show: "photo", contours: false }],
      ]
    : [
        ["overlay", { show: "overlay", contours: false }],
        ["heat", { show: "heat", contours: false }],
        ["photo", { show: "photo", contours: false }],
        ["contours", { show: "photo", contours: true }],
      ];
  return h(
    "div",
    { class: "segments", role: "group", "aria-label": t("show") },
    ...choices.map(([name, changes]) => {
      const alike = (state.show === "photo") === (changes.show === "photo");
      const on = inColours
        ? alike
        : state.show === changes.show &&
          (state.contours === changes.contours || name === "heat" || name === "overlay");
      return button(t(`show.${name}`), `show-${name}`, () => change(changes), {
        "aria-pressed": String(on),
      });
    }),
  );
}

function colourBar({ image, cam }: Shown) {
  if (!cam || cam.picture || cam.state !== "positive") return null;
  const canvas = h("canvas", { role: "img", "aria-label": t("cell.bar") });
  paintBar(canvas, tableOf(cam), cam.signed ? 2 * ZERO + 1 : 256);
  const top = scaleOf(image, cam);
  return h(
    "p",
    { class: "bar-row" },
    h("span", { class: "bar-bottom" }, number(cam.signed ? -top : cam.base)),
    canvas,
    h("span", { class: "bar-top" }, number(cam.base + top)),
  );
}

/** The peak, and a box around each high region: the largest in bold. */
function marks(image: ImageRecord, cam: CamCell, map: Shaded, high: Region[]) {
  const [left, top, right, bottom] = image.seen;
  const x = (column: number) => (left + (column / map.width) * (right - left)) * 100;
  const y = (row: number) => (top + (row / map.height) * (bottom - top)) * 100;
  const { column, row } = peakAt(map, cam);
  const peak = h("span", { class: "mark peak-mark", "aria-hidden": "true" }, "+");
  Object.assign(peak.style, { left: `${x(column + 0.5)}%`, top: `${y(row + 0.5)}%` });
  const boxes = high.slice(0, MAX_BOXES).map((box, place) => {
    const kind = place ? "mark box thin" : "mark box";
    const rectangle = h("span", { class: kind, "aria-hidden": "true" });
    Object.assign(rectangle.style, {
      left: `${x(box.left)}%`,
      top: `${y(box.top)}%`,
      width: `${x(box.right) - x(box.left)}%`,
      height: `${y(box.bottom) - y(box.top)}%`,
    });
    return rectangle;
  });
  return [...boxes.reverse(), peak];
}

function facts({ id, image, cam, map }: Shown, high: Region[]) {
  const rows = [];
  if (methodOf(id.method).classSpecific) {
    const said = t("fact.probability", { probability: probability(image.probabilities[id.rank]) });
    rows.push([t("fact.class"), [classOf(image, id.rank), said].join(t("comma"))]);
  }
  if (cam) {
    const cells = `${cam.grid[1]} × ${cam.grid[0]}`;
    const drawn = cam.state === "positive";
    rows.push([t("fact.grid"), t("fact.cells", { cells })]);
    rows.push([t("fact.largest"), drawn ? number(cam.largest) : t(`cell.${cam.state}`)]);
  }
  if (cam && map) {
    const { column, row } = peakAt(map, cam);
    const [x, y] = imagePixel(image, map, column, row);
    rows.push([t("fact.peak"), t("fact.at", { x, y })], ...regionFacts(image, cam, map, high));
    const own = cam.own || state.scale === "map";
    rows.push([t("fact.scale"), t(own ? "scale.map" : `scale.${state.scale}`)]);
  }
  return h(
    "dl",
    { id: "facts" },
    ...rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, bdi(value)))),
  );
}

/** Where the largest high region lies, and how much of the map is high. */
function regionFacts(image: ImageRecord, cam: CamCell, map: Shaded, high: Region[]) {
  const share = percent(boxShare());
  const name = t(cam.signed ? "fact.areaSigned" : "fact.area", { share });
  const pixels = high.reduce((sum, region) => sum + region.pixels, 0);
  const area = areaPercent(pixels / map.index.length);
  if (!high.length) return [[name, area]];
  const [box] = high;
  const [x0, y0] = imagePixel(image, map, box.left, box.top);
  const [x1, y1] = imagePixel(image, map, box.right - 1, box.bottom - 1);
  return [
    [
      t(cam.signed ? "fact.boxSigned" : "fact.box", { share }),
      t("fact.rectangle", { x0, y0, x1, y1 }),
    ],
    [name, high.length > 1 ? t("fact.regions", { area, count: high.length }) : area],
  ];
}

/** Say the value at the cross-hair, which is kept in shares of the photograph. */
function showReading() {
  if (!shown) return;
  const { image, cam, map, x, y } = shown;
  const cross = dialog().querySelector(".cross") as HTMLElement | null;
  if (cross) Object.assign(cross.style, { left: `${x * 100}%`, top: `${y * 100}%` });
  const [width, height] = sizeOf(image);
  const place = `x ${Math.floor(x * width)}, y ${Math.floor(y * height)}`;
  byId("reading").textContent = `${place}\n${valueAt(image, cam, map, x, y)}`;
}

/** The map before or behind in the view. */
function neighbour(by: number) {
  const ids = all("#view .cell[data-id]")
    .filter((cell) => cell.offsetParent)
    .map((cell) => cell.dataset.id ?? "");
  const place = ids.indexOf(state.open);
  return place < 0 ? undefined : ids[place + by];
}

export function step(by: number) {
  const next = neighbour(by);
  if (next) change({ open: next });
}

/** The same map of the next or previous class. */
export function stepClass(by: number) {
  const id = idOf(state.open);
  const image = knownImage(id.image);
  const count = image?.targets.length ?? report.ranks;
  change({ open: idText({ ...id, rank: (id.rank + by + count) % count }) });
}

/** Pin a map for comparison, or take its pin away. */
export function togglePin(id: string) {
  const pinned = state.pins.includes(id);
  if (!pinned && state.pins.length === MAX_PINS)
    return announce(t("pins.full", { most: MAX_PINS }));
  const pins = pinned ? state.pins.filter((pin) => pin !== id) : [...state.pins, id];
  change({ pins, pair: "" });
  announce(t("pins.count", { count: pins.length, most: MAX_PINS }));
}

/** Short ASCII of a name, for a file. */
const plain = (text: string) =>
  text
    .normalize("NFKD")
    .replace(/[^A-Za-z0-9.]+/g, "-")
    .replace(/^[-.]+|[-.]+$/g, "")
    .slice(0, 40);

/** Name of a map's file, without its ending. */
function fileName(id: CellId, image: ImageRecord) {
  const named = [`class${image.targets[id.rank]}`, plain(classOf(image, id.rank))];
  const classes = methodOf(id.method).classSpecific ? named.filter(Boolean).join("-") : "any-class";
  const file = plain(image.file.replace(/\.[^.]*$/, "")) || `image${image.index + 1}`;
  return [file, classes, id.method, plain(id.layer)].join("_");
}

/** Hand a file over to the reader. */
const download = (address: string, name: string) =>
  h("a", { href: address, download: name }).click();

function save({ id, image, cam }: Shown) {
  const name = fileName(id, image);
  if (cam?.picture) return download(cam.picture, `${name}.jpg`);
  composite(image, id, Math.max(image.width, image.height)).toBlob((blob) => {
    if (!blob) return;
    const address = URL.createObjectURL(blob);
    download(address, `${name}.png`);
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
}

function moveTo(x: number, y: number) {
  if (!shown) return;
  shown.x = Math.min(Math.max(x, 0), 1 - 1e-9);
  shown.y = Math.min(Math.max(y, 0), 1 - 1e-9);
  showReading();
}

function followPointer(event: MouseEvent) {
  const probe = (event.target as HTMLElement).closest("#probe");
  if (!probe) return;
  const box = probe.getBoundingClientRect();
  moveTo((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
}

export function startDialog() {
  dialog().addEventListener("pointermove", followPointer);
  dialog().addEventListener("pointerdown", followPointer);
  dialog().addEventListener("click", (event) => {
    if (event.target === dialog()) dialog().close();
  });
  dialog().addEventListener("close", () => {
    if (state.open) leave({ open: "" });
    const elements = all("#view [data-focus]");
    const last = shown && `cell ${idText(shown.id)}`;
    const seen = elements.find((element) => element.dataset.focus === last);
    (seen ?? elements.find((element) => element.dataset.focus === returnTo))?.focus();
  });
  dialog().addEventListener("keydown", (event) => {
    const steps: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    if (!shown || !steps[event.key]) return;
    event.preventDefault();
    const by = event.shiftKey ? 0.1 : 0.01;
    moveTo(shown.x + steps[event.key][0] * by, shown.y + steps[event.key][1] * by);
  });
}
