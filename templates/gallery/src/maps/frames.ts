// A frame is a photograph with a map over it. Frames in view are drawn at once, the others when
// they come into view, go to paper, or while there is nothing else to do.
import { data, report, state } from "../app";
import type { CellId } from "../data/cells";
import type { ImageRecord, Unpacked } from "../data/dataset";
import type { CamCell } from "../data/types";
import { all, h } from "../parts/dom";
import { t } from "../parts/words";
import { PAINTED, pick } from "../state/state";
import { composite } from "./composite";
import { absence, describe } from "./describe";
import { paint, paintContours } from "./heat";
import { type Ground, lookOf, placeSeen, regionColour, shaded, shape } from "./look";

/** Pixels of the longer side of a map in a table, in a wide table, in the overview, of a channel, on paper. */
export const SIDES = { cell: 224, narrow: 112, tile: 160, channel: 64, paper: 200 };

/** Most frames of a view that are drawn before they are seen: some 35 MB of pixels. */
export const MAX_AHEAD = 240;

/** Milliseconds that a frame may take to draw without being noticed. */
const MOMENT = 5;

/** What a frame shows, and in what look it is drawn; `tile` as for `frameOf`. */
interface Drawing {
  id: CellId;
  side: number;
  tile: boolean;
  drawn: string;
}

/** What an image lends a frame. */
type Source = Ground & Unpacked & { photo: string; regions: ImageRecord["regions"] };

const drawings = new WeakMap<HTMLElement, Drawing>();

const inView = new Set<HTMLElement>();

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

/** An empty frame with the shape of a photograph. */
function emptyFrame(index: number, photo: HTMLImageElement) {
  const frame = h("span.frame", photo);
  const [width, height] = report.images.size[data.placeOf(index)] ?? [1, 1];
  shape(frame, width, height);
  return frame;
}

/**
 * An empty frame of an image's shape; it draws itself when it is seen.
 * @param tile its photograph is a thumbnail, and the overview's own data will do
 */
export function frameOf(id: CellId, side: number, tile = false) {
  const frame = emptyFrame(id.image, h("img", { alt: "" }));
  drawings.set(frame, { id, side, tile, drawn: "" });
  observer.observe(frame);
  return frame;
}

/** Let a frame show another map of its image. */
export function retarget(frame: HTMLElement, id: CellId) {
  const drawing = drawings.get(frame);
  if (!drawing) return;
  drawings.set(frame, { ...drawing, id, drawn: "" });
  frame.classList.remove("positive", "empty", "undefined", "absent");
  for (const old of all(".seen, .label, .region", frame)) old.remove();
  draw(frame);
}

/** A frame that shows a photograph alone. */
export function photoOf(index: number) {
  const photo = h("img", { alt: report.images.file[data.placeOf(index)] });
  const frame = emptyFrame(index, photo);
  frame.dataset.photo = String(index);
  const known = data.knownImage(index);
  if (known) photo.src = known.photo;
  else data.imageOf(index).then((image) => image && (photo.src = image.photo));
  return frame;
}

/** Draw a frame in the present look, unless it shows that already. */
export function draw(frame: HTMLElement) {
  const drawing = drawings.get(frame);
  if (!drawing) return;
  const known = data.knownImage(drawing.id.image, drawing.id.run);
  if (known) drawImage(frame, drawing, known);
  else load(frame, drawing);
}

async function load(frame: HTMLElement, drawing: Drawing) {
  const { id } = drawing;
  if (drawing.tile && !id.run && state.scale !== "image" && !state.boxes) {
    const small = await data.overviewOf(id.image, id);
    if (small) {
      const [width, height] = small.size;
      return drawImage(frame, drawing, {
        ...small,
        ...{ width, height, run: 0, scale: 0, photo: "", regions: [] },
      });
    }
  }
  const image = await data.imageOf(id.image, id.run);
  if (image) drawImage(frame, drawing, image);
  else sayMissing(frame, id);
}

function sayMissing(frame: HTMLElement, id: CellId) {
  const said = t("cell.missing");
  frame.replaceChildren(h("span.label", said));
  const what = [describe(id), said].join(t("comma"));
  frame.closest(".cell")?.setAttribute("aria-label", t("cell.button", { what }));
}

/** Show photograph, heat or both, and the photograph in colour or grey. */
export function showAs(frame: HTMLElement) {
  const { grey, show } = state;
  frame.classList.toggle("grey", grey);
  frame.classList.toggle("only-heat", show === "heat");
  frame.classList.toggle("only-photo", show === "photo");
}

function drawImage(frame: HTMLElement, drawing: Drawing, image: Source) {
  const cam = data.camOf(image, drawing.id);
  const look = pick(state, PAINTED).join();
  showAs(frame);
  if (!drawing.drawn) fill(frame, drawing, image, cam);
  showRegions(frame, image);
  if (drawing.drawn === look) return;
  drawing.drawn = look;
  frame.dataset.drawn = look;
  const canvas = frame.querySelector<HTMLCanvasElement>("canvas.heat");
  if (canvas && cam) colour(canvas, image, cam, drawing.side);
}

/** Draw the known regions of objects over a photograph, or take them away. */
function showRegions(frame: HTMLElement, { regions }: Source) {
  const drawn = all(".region", frame);
  if (!state.boxes) for (const one of drawn) one.remove();
  else if (!drawn.length)
    for (const [left, top, right, bottom, target] of regions) {
      const box = h("span.region", { "aria-hidden": "true" });
      placeSeen(box, [left, top, right, bottom]);
      box.style.color = regionColour(target);
      box.dataset.name = report.classes[target ?? -1] ?? "";
      frame.append(box);
    }
}

/** Paint a map into its canvas, and its contours into another behind it. */
function colour(canvas: HTMLCanvasElement, image: Source, cam: CamCell, side: number) {
  const { height, width, index } = shaded(image, cam, side);
  paint(canvas, index, height, width, lookOf(cam));
  const lines = canvas.parentElement?.querySelector<HTMLCanvasElement>("canvas.lines");
  if (!state.contours) return lines?.remove();
  const drawn = lines ?? h("canvas.lines");
  if (!lines) canvas.after(drawn);
  paintContours(drawn, index, height, width, cam.signed);
}

/** Put the photograph, and canvas, picture or label into a frame. */
function fill(frame: HTMLElement, drawing: Drawing, image: Source, cam: CamCell | undefined) {
  const photo = frame.querySelector("img") as HTMLImageElement;
  photo.src = drawing.tile && report.folder ? thumbnail(drawing.id.image) : image.photo;
  frame.classList.add(cam?.state ?? "absent");
  if (cam?.picture) frame.append(over(image, h("img.picture", { src: cam.picture, alt: "" })));
  else if (cam?.state === "positive") frame.append(over(image, h("canvas.heat")));
  else frame.append(h("span.label", absence(drawing.id, cam)));
}

/** Something over the part of a photograph that the model saw. */
export function over({ seen }: Pick<Ground, "seen">, child: HTMLElement) {
  const part = h("span.seen", child);
  placeSeen(part, seen);
  return part;
}

export function thumbnail(index: number) {
  const name = String(data.placeOf(index)).padStart(5, "0");
  return `data/thumbs/${name.slice(0, -3)}/${name}.jpg`;
}

/** Counts what was begun, so that what was overtaken is dropped. */
let aheadTurn = 0;

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
    const id = drawings.get(frame)?.id ?? null;
    const image = data.knownImage(id?.image ?? Number(frame.dataset.photo), id?.run);
    if (!image || frame.querySelector(".picture")) continue;
    frame.append(h("span.printed", composite(image, id, SIDES.paper)));
  }
}

/** Take the printed pictures away again. */
export const unflatten = (root: ParentNode) =>
  all(".printed", root).forEach((printed) => printed.remove());
