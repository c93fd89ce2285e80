// A frame is a photograph with a map over it. Frames in view are drawn at once, the others when
// they come into view, go to paper, or while there is nothing else to do.
import {
  camOf,
  classOf,
  idText,
  imageOf,
  knownImage,
  methodOf,
  overviewOf,
  placeOf,
  report,
} from "../data/dataset";
import { all, h } from "../parts/dom";
import { paint, paintContours } from "./heat";
import { composite, lookOf, peakOf, placeSeen, shaded, shape } from "./look";
import { state } from "../state/state";
import { prose, rankName, t } from "../parts/words";
import type { CamCell, CellId, ImageRecord } from "../data/types";

/**
 * Pixels of the longer side of a map in a table, in a wide table, in the overview, of a channel,
 * on paper.
 */
export const SIDES = { cell: 224, narrow: 112, tile: 160, channel: 64, paper: 200 };

/** Most frames of a view that are drawn before they are seen: some 35 MB of pixels. */
export const MAX_AHEAD = 240;

export type Drawing = { id: CellId; side: number; tile: boolean; drawn: string };

const drawings: WeakMap<HTMLElement, Drawing> = new WeakMap();
const inView: Set<HTMLElement> = new Set();

const observer = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const frame = target as HTMLElement;
      if (isIntersecting) {
        inView.add(frame);
        draw(frame);
      } else inView.delete(frame);
    }
  },
  { rootMargin: "300px" },
);

/** Whether a method has a map at a layer: "map", "absent", or why it was left out. */
export function availability(method: string, layer: string) {
  const facts = methodOf(method);
  const reasons = prose().reasons;
  const reason = reasons[`${method}/null`] ?? reasons[`${method}/${layer}`];
  if (reason) return reason;
  if (layer === "input") return facts.perLayer ? "absent" : "map";
  if (layer === "fused") return facts.fuses ? "map" : "absent";
  return facts.perLayer ? "map" : "absent";
}

/** A layer where a method has a map: the wanted one if it can be. */
export function layerFor(method: string, layer: string) {
  const addresses = [layer, ...report.layers.map((one) => one.address).reverse(), "input"];
  return addresses.find((address) => availability(method, address) === "map") ?? layer;
}

/**
 * An empty frame of an image's shape; it draws itself when it is seen.
 * @param tile its photograph is a thumbnail, and the overview's own data will do
 */
export function frameOf(id: CellId, side: number, tile = false) {
  const frame = h("span", { class: "frame" }, h("img", { alt: "" }));
  const [width, height] = report.images.size[placeOf(id.image)] ?? [1, 1];
  shape(frame, width, height);
  drawings.set(frame, { id, side, tile, drawn: "" });
  observer.observe(frame);
  return frame;
}

/** A frame that shows a photograph alone. */
export function photoOf(index: number) {
  const photo = h("img", { alt: report.images.file[placeOf(index)] });
  const frame = h("span", { class: "frame", "data-photo": index }, photo);
  const [width, height] = report.images.size[placeOf(index)] ?? [1, 1];
  shape(frame, width, height);
  const known = knownImage(index);
  if (known) photo.src = known.photo;
  else imageOf(index).then((image) => image && (photo.src = image.photo));
  return frame;
}

/** Draw a frame in the present look, unless it shows that already. */
export function draw(frame: HTMLElement) {
  const drawing = drawings.get(frame);
  if (!drawing) return;
  const known = knownImage(drawing.id.image);
  if (known) return drawImage(frame, drawing, known);
  load(frame, drawing);
}

async function load(frame: HTMLElement, drawing: Drawing) {
  if (drawing.tile && state.scale !== "image") {
    const small = await overviewOf(drawing.id.image, drawing.id);
    if (small) {
      const [width, height] = small.size;
      return drawImage(frame, drawing, { ...small, width, height, scale: 0, photo: "" });
    }
  }
  const image = await imageOf(drawing.id.image);
  if (image) drawImage(frame, drawing, image);
  else sayMissing(frame, drawing.id);
}

function sayMissing(frame: HTMLElement, id: CellId) {
  const said = t("cell.missing");
  frame.replaceChildren(h("span", { class: "label" }, said));
  const what = [describe(id), said].join(t("comma"));
  frame.closest(".cell")?.setAttribute("aria-label", t("cell.button", { what }));
}

/** Show photograph, heat or both, and the photograph in colour or grey. */
export function showAs(frame: HTMLElement) {
  frame.classList.toggle("grey", state.grey);
  frame.classList.toggle("only-heat", state.show === "heat");
  frame.classList.toggle("only-photo", state.show === "photo");
}

function drawImage(
  frame: HTMLElement,
  drawing: Drawing,
  image: {
    seen: number[];
    width: number;
    height: number;
    photo: string;
    scale: number;
    bytes: Uint8Array;
    byKey: Map<string, CamCell>;
  },
) {
  const { id, side } = drawing;
  const cam = camOf(image, id);
  const look = [
    state.threshold,
    state.scale,
    state.cells,
    state.byValue,
    state.contours,
    state.colormap,
  ].join();
  showAs(frame);
  if (drawing.drawn === look) return;
  if (!drawing.drawn) fill(frame, drawing, image, cam);
  drawing.drawn = look;
  frame.dataset.drawn = look;
  const canvas = frame.querySelector("canvas.heat") as HTMLCanvasElement | null;
  if (!canvas || !cam) return;
  const { height, width, index } = shaded(image, cam, side);
  paint(canvas, index, height, width, lookOf(cam));
  let lines = frame.querySelector("canvas.lines") as HTMLCanvasElement | null;
  if (state.contours) {
    if (!lines) {
      lines = h("canvas", { class: "lines" });
      canvas.after(lines);
    }
    paintContours(lines, index, height, width, cam.signed);
  } else lines?.remove();
}

/** Put the photograph, and canvas, picture or label into a frame. */
function fill(
  frame: HTMLElement,
  drawing: Drawing,
  image: { seen: number[]; photo: string },
  cam: CamCell | undefined,
) {
  const photo = frame.querySelector("img") as HTMLImageElement;
  photo.src = drawing.tile && report.folder ? thumbnail(drawing.id.image) : image.photo;
  frame.classList.add(cam?.state ?? "absent");
  if (cam?.picture) {
    const seen = h(
      "span",
      { class: "seen" },
      h("img", { class: "picture", src: cam.picture, alt: "" }),
    );
    placeSeen(seen, image.seen);
    frame.append(seen);
  } else if (cam?.state === "positive") {
    const seen = h("span", { class: "seen" }, h("canvas", { class: "heat" }));
    placeSeen(seen, image.seen);
    frame.append(seen);
  } else {
    frame.append(h("span", { class: "label" }, t(`cell.${cam?.state ?? "absent"}`)));
  }
}

function thumbnail(index: number) {
  const place = placeOf(index);
  const name = String(place).padStart(5, "0");
  return `data/thumbs/${name.slice(0, -3)}/${name}.jpg`;
}

/** Counts what was begun, so that what was overtaken is dropped. */
let aheadTurn = 0;

/** Milliseconds that a frame may take to draw without being noticed. */
const MOMENT = 5;

/** Draw the view's other frames in idle time: a picture of the whole page shows them. */
export function drawAhead() {
  const mine = ++aheadTurn;
  const frames = all("#view .frame").slice(0, MAX_AHEAD);
  const later = () => (window.requestIdleCallback ?? setTimeout)(next);
  /** @param deadline none where the browser knows no idle time */
  const next = (deadline: IdleDeadline | void) => {
    do {
      const frame = mine === aheadTurn && frames.shift();
      if (!frame) return;
      draw(frame);
    } while (deadline && deadline.timeRemaining() > MOMENT);
    later();
  };
  later();
}

/** Colour the frames in view anew; the others follow. */
export function redraw() {
  drawAhead();
  for (const frame of inView) {
    if (frame.isConnected) draw(frame);
    else {
      inView.delete(frame);
      observer.unobserve(frame);
    }
  }
}

/** Draw everything that is shown, for paper. */
export const drawAll = (root: ParentNode) => all(".frame", root).forEach(draw);

/**
 * Put one small picture into each frame, for paper: some browsers print a photograph in full as
 * often as it is shown.
 */
export function flatten(root: ParentNode) {
  for (const frame of all(".frame", root)) {
    const id = drawings.get(frame)?.id ?? { image: Number(frame.dataset.photo), method: "" };
    const image = knownImage(id.image);
    if (!image || frame.querySelector(".picture")) continue;
    frame.append(
      h("span", { class: "printed" }, composite(image, "rank" in id ? id : null, SIDES.paper)),
    );
  }
}

/** Take the printed pictures away again. */
export const unflatten = (root: ParentNode) =>
  all(".printed", root).forEach((printed) => printed.remove());

/** A map in a table: a button that opens it. */
export function cellButton(
  id: CellId,
  {
    side = SIDES.cell,
    tile = false,
    caption = true,
  }: { side?: number; tile?: boolean; caption?: boolean } = {},
) {
  const text = idText(id);
  const frame = frameOf(id, side, tile);
  const cell = h(
    "button",
    {
      class: "cell",
      type: "button",
      tabindex: "-1",
      "data-id": text,
      "data-focus": `cell ${text}`,
    },
    frame,
  );
  const known = knownImage(id.image);
  const peak = h("span", { class: "peak" });
  if (caption) cell.append(peak);
  label(cell, peak, id, known);
  if (!known && !tile) imageOf(id.image).then((image) => label(cell, peak, id, image ?? undefined));
  return cell;
}

/** Say in words what a cell shows. */
function label(cell: HTMLElement, peak: HTMLElement, id: CellId, image: ImageRecord | undefined) {
  cell.setAttribute("aria-label", t("cell.button", { what: describe(id, image) }));
  const cam = image && camOf(image, id);
  if (cam?.state === "positive") peak.textContent = peakOf(cam);
}

/** What a map shows: image, class, method, layer and largest value. */
export function describe(id: CellId, image: ImageRecord | undefined = knownImage(id.image)) {
  const cam = image && camOf(image, id);
  const facts = methodOf(id.method);
  const words = [
    report.images.file[placeOf(id.image)],
    facts.classSpecific
      ? t("class.named", { name: image ? classOf(image, id.rank) : rankName(id.rank) })
      : t("class.any"),
    facts.name,
    id.layer,
  ];
  if (cam) words.push(cam.state === "positive" ? peakOf(cam) : t(`cell.${cam.state}`));
  return words.join(t("comma"));
}
