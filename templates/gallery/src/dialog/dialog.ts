// One map, large: its values, its peak, its high regions, its neighbours.
import { data, store } from "../app";
import { type CellId, idOf, idText } from "../data/cells";
import type { ImageRecord } from "../data/dataset";
import type { CamCell } from "../data/types";
import { describe } from "../maps/describe";
import { draw, frameOf } from "../maps/frames";
import { type Shaded, isDrawn, longSide, scaleOf, tableName, wholeMap } from "../maps/look";
import { sizeOf, valueAt } from "../maps/measure";
import { button, refreshControls, toggle } from "../parts/controls";
import { all, bdi, byId, h } from "../parts/dom";
import { paintColours } from "../parts/legend";
import { number, t } from "../parts/words";
import { change, leave } from "../state/history";
import { type State, concerns } from "../state/state";
import type { Changed } from "../state/store";
import { togglePin } from "../views/pins";
import { findings } from "./findings";
import { save } from "./save";

/** The map in the dialog; the cross-hair is kept in fractions of the photograph. */
interface Shown {
  id: CellId;
  image: ImageRecord;
  cam: CamCell | undefined;
  map: Shaded | null;
  x: number;
  y: number;
  frame: HTMLElement;
}

let shown: Shown | null = null;

/** What had the focus before. */
let returnTo = "";

const dialog = () => byId<HTMLDialogElement>("cell");

/** Open a map. */
export const openCell = (id: string) => change({ open: id }, true);

/** Follow the state: open, change or close the dialog. */
export async function showCell(changed: Changed<State>) {
  const { open } = store.state;
  if (!open) {
    if (dialog().open) dialog().close();
    return;
  }
  if (shown && dialog().open && !concerns(changed, "open", "language"))
    return refresh(shown, changed);
  const id = idOf(open);
  const image = data.has(id.image) ? await data.imageOf(id.image) : null;
  if (!image || open !== idText(id)) return change({ open: "" });
  if (open !== store.state.open) return; // overtaken by another
  const cam = data.camOf(image, id);
  const [x, y] = shown?.id.image === id.image ? [shown.x, shown.y] : [0.5, 0.5];
  const frame = frameOf(id, longSide(image));
  shown = { id, image, cam, map: wholeMap(image, cam), x, y, frame };
  build(shown);
  if (dialog().open) return;
  const focused = document.activeElement?.closest<HTMLElement>("[data-focus]");
  returnTo = focused?.dataset.focus ?? `cell ${open}`;
  dialog().showModal();
}

function build(now: Shown) {
  const focused = document.activeElement?.closest<HTMLElement>("#cell [data-focus]");
  const { id, image, frame } = now;
  const { classSpecific, name } = data.methodOf(id.method);
  const ofClass = classSpecific ? data.classOf(image, id.rank) : t("class.any");
  dialog().replaceChildren(
    h(
      "header",
      {},
      h("h2", { id: "cell-title" }, bdi([image.file, ofClass, name, id.layer].join(" · "))),
      button(t("close"), "close", () => dialog().close()),
    ),
    h("div", { class: "stage" }, frame, beside(now)),
  );
  makeProbe(now);
  draw(frame);
  showScale(now);
  showFindings(now);
  if (focused) focusOn(focused.dataset.focus ?? "");
}

/** Give the focus back to what had it, or to what is there. */
const focusOn = (key: string) =>
  (
    dialog().querySelector<HTMLElement>(`[data-focus="${key}"]:not([disabled])`) ??
    dialog().querySelector("button")
  )?.focus();

/** Let values be read off a frame, with the pointer or with the keys. */
function makeProbe({ frame, id, image }: Shown) {
  frame.append(h("span", { class: "cross", "aria-hidden": "true" }));
  frame.id = "probe";
  frame.tabIndex = 0;
  frame.dataset.focus = "probe";
  frame.setAttribute("role", "application");
  frame.setAttribute("aria-label", t("cell.probe", { what: describe(id, image) }));
  frame.setAttribute("aria-describedby", "reading");
}

/** What stands beside the map. */
const beside = (now: Shown) =>
  h(
    "div",
    { class: "beside" },
    ways(Boolean(now.cam?.picture)),
    isDrawn(now.cam) ? bar() : null,
    h("output", { id: "reading" }),
    h("dl", { id: "facts" }),
    steps(now),
  );

function steps({ cam, id, image }: Shown) {
  const { open } = store.state;
  const pinned = () => store.state.pins.includes(open);
  const pinLabel = () => t(pinned() ? "unpin" : "pin");
  return h(
    "p",
    { class: "steps" },
    button(t("previous"), "previous", () => step(-1), { disabled: !neighbour(-1) }),
    button(t("next"), "next", () => step(1), { disabled: !neighbour(1) }),
    toggle(pinLabel, "pin", pinned, () => togglePin(open)),
    cam ? button(t("save"), "save", () => save(id, image)) : null,
  );
}

/** A way to look at a map: its name, and the state that shows it. */
type Way = [name: string, look: Pick<State, "show" | "contours">];

/** Photograph, heat, overlay or contours; a map in colours has no heat of its own. */
function ways(inColours: boolean) {
  const choices: Way[] = [
    [inColours ? "picture" : "overlay", { show: "overlay", contours: false }],
    ["heat", { show: "heat", contours: false }],
    ["photo", { show: "photo", contours: false }],
    ["contours", { show: "photo", contours: true }],
  ];
  const there = choices.filter(([name]) => !inColours || ["picture", "photo"].includes(name));
  const isOn = ({ show, contours }: Way[1]) => {
    const now = store.state;
    if (inColours) return (now.show === "photo") === (show === "photo");
    return now.show === show && (show !== "photo" || now.contours === contours);
  };
  return h(
    "div",
    { class: "segments", role: "group", "aria-label": t("show") },
    ...there.map(([name, look]) =>
      toggle(
        () => t(`show.${name}`),
        `show-${name}`,
        () => isOn(look),
        () => change(look),
      ),
    ),
  );
}

/** A place for the colours of the scale between its ends. */
const bar = () =>
  h(
    "p",
    { class: "bar-row" },
    h("span", { class: "bar-bottom" }),
    h("canvas", { role: "img", "aria-label": t("cell.bar") }),
    h("span", { class: "bar-top" }),
  );

/** Say what the colours mean. */
function showScale({ image, cam }: Shown) {
  const row = dialog().querySelector(".bar-row");
  if (!row || !isDrawn(cam)) return;
  const [bottom, canvas, top] = row.children;
  const largest = scaleOf(image, cam);
  bottom.textContent = number(cam.signed ? -largest : cam.base);
  top.textContent = number(cam.base + largest);
  paintColours(canvas as HTMLCanvasElement, tableName(cam));
}

/** Follow a change of the look or of the pins. */
function refresh(now: Shown, changed: Changed<State>) {
  refreshControls(dialog());
  draw(now.frame);
  if (concerns(changed, "colormap", "scale")) showScale(now);
  if (!concerns(changed, "threshold", "scale", "cells")) return;
  now.map = wholeMap(now.image, now.cam);
  showFindings(now);
}

/** Mark what is found on the map, and say it. */
function showFindings(now: Shown) {
  const { marks, facts } = findings(now.id, now.image, now.cam, now.map);
  for (const mark of all(".mark", now.frame)) mark.remove();
  now.frame.append(...marks);
  byId("facts").replaceChildren(
    ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, bdi(value)))),
  );
  showReading(now);
}

/** Say the value at the cross-hair. */
function showReading({ image, cam, map, x, y, frame }: Shown) {
  const cross = frame.querySelector<HTMLElement>(".cross");
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
  const place = ids.indexOf(store.state.open);
  return place < 0 ? undefined : ids[place + by];
}

export function step(by: number) {
  const next = neighbour(by);
  if (next) change({ open: next });
}

/** The same map of the next or previous class. */
export function stepClass(by: number) {
  const id = idOf(store.state.open);
  const count = data.knownImage(id.image)?.targets.length ?? data.report.ranks;
  change({ open: idText({ ...id, rank: (id.rank + by + count) % count }) });
}

function moveTo(x: number, y: number) {
  if (!shown) return;
  shown.x = Math.min(Math.max(x, 0), 1 - 1e-9);
  shown.y = Math.min(Math.max(y, 0), 1 - 1e-9);
  showReading(shown);
}

function followPointer(event: MouseEvent) {
  const probe = (event.target as Element).closest("#probe");
  if (!probe) return;
  const box = probe.getBoundingClientRect();
  moveTo((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
}

/** Where the arrow keys move the cross-hair. */
const ARROWS: Record<string, [x: number, y: number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

function followKey(event: KeyboardEvent) {
  const arrow = ARROWS[event.key];
  if (!shown || !arrow) return;
  event.preventDefault();
  const by = event.shiftKey ? 0.1 : 0.01;
  moveTo(shown.x + arrow[0] * by, shown.y + arrow[1] * by);
}

/** Let the state follow, and give the focus back to the map that was shown last. */
function closed() {
  if (store.state.open) leave({ open: "" });
  const elements = all("#view [data-focus]");
  const last = shown && `cell ${idText(shown.id)}`;
  const seen = elements.find((element) => element.dataset.focus === last);
  (seen ?? elements.find((element) => element.dataset.focus === returnTo))?.focus();
}

export function startDialog() {
  dialog().addEventListener("pointermove", followPointer);
  dialog().addEventListener("pointerdown", followPointer);
  dialog().addEventListener("click", (event) => {
    if (event.target === dialog()) dialog().close();
  });
  dialog().addEventListener("close", closed);
  dialog().addEventListener("keydown", followKey);
}
