// A frame is a photograph with a map over it. Frames in view are drawn at once, the others when
// they come into view or go to paper.
import {
  camOf,
  classOf,
  idOf,
  imageOf,
  knownImage,
  levelsOf,
  methodOf,
  overviewOf,
  placeOf,
  report,
  tables,
} from "./data.js";
import { all, h } from "./dom.js";
import { enlarge, indices, paint, paintContours } from "./heat.js";
import { state } from "./state.js";
import { number, prose, rankName, t } from "./words.js";

/** Pixels of the longer side of a map in a table, in a wide table, in the overview, of a channel. */
export const SIDES = { cell: 224, narrow: 112, tile: 160, channel: 64 };

/** @typedef {{id: CellId, side: number, tile: boolean, drawn: string}} Drawing */

/** @type {WeakMap<HTMLElement, Drawing>} */
const drawings = new WeakMap();
/** @type {Set<HTMLElement>} */
const inView = new Set();

const observer = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const frame = /** @type {HTMLElement} */ (target);
      if (isIntersecting) {
        inView.add(frame);
        draw(frame);
      } else inView.delete(frame);
    }
  },
  { rootMargin: "300px" },
);

/** Whether a method has a map at a layer: "map", "absent", or why it was left out. @param {string} method @param {string} layer */
export function availability(method, layer) {
  const facts = methodOf(method);
  const reasons = prose().reasons;
  const reason = reasons[`${method}/null`] ?? reasons[`${method}/${layer}`];
  if (reason) return reason;
  if (layer === "input") return facts.perLayer ? "absent" : "map";
  if (layer === "fused") return facts.fuses ? "map" : "absent";
  return facts.perLayer ? "map" : "absent";
}

/** A layer where a method has a map: the wanted one if it can be. @param {string} method @param {string} layer */
export function layerFor(method, layer) {
  const addresses = [layer, ...report.layers.map((one) => one.address).reverse(), "input"];
  return addresses.find((address) => availability(method, address) === "map") ?? layer;
}

/** The value that gets the last colour under the chosen scale. @param {{scale: number}} image @param {CamCell} cam */
export function scaleOf(image, cam) {
  if (cam.own || state.scale === "map") return cam.peak;
  if (state.scale === "method") return report.peaks[cam.method];
  return state.scale === "image" ? image.scale : Math.max(...Object.values(report.peaks));
}

/** @param {{scale: number}} image @param {CamCell} cam */
export const gainOf = (image, cam) =>
  scaleOf(image, cam) === cam.peak ? 1 : cam.peak / scaleOf(image, cam);

/** @param {CamCell} cam */
export const tableOf = (cam) => tables[cam.signed ? "diverging" : state.colormap];

/** Pixels of the seen part when the photograph's longer side has `side`: height and width. @param {{seen: number[], width: number, height: number}} image @param {number} side */
export function seenSize(image, side) {
  const [left, top, right, bottom] = image.seen;
  const factor = side / Math.max(image.width, image.height);
  return [
    Math.max(1, Math.floor(image.height * factor * (bottom - top) + 0.5)),
    Math.max(1, Math.floor(image.width * factor * (right - left) + 0.5)),
  ];
}

/** Lay an element over the part of the photograph that the model saw. @param {HTMLElement} element @param {number[]} seen */
export function placeSeen(element, [left, top, right, bottom]) {
  Object.assign(element.style, {
    left: `${left * 100}%`,
    top: `${top * 100}%`,
    width: `${(right - left) * 100}%`,
    height: `${(bottom - top) * 100}%`,
  });
}

/** Give a frame the photograph's shape. @param {HTMLElement} frame @param {number} width @param {number} height */
export function shape(frame, width, height) {
  frame.style.aspectRatio = `${width} / ${height}`;
  frame.style.setProperty("--aspect", String(width / height));
}

/**
 * An empty frame of an image's shape; it draws itself when it is seen.
 * @param {CellId} id
 * @param {number} side
 * @param {boolean} tile its photograph is a thumbnail, and the overview's own data will do
 */
export function frameOf(id, side, tile = false) {
  const frame = h("span", { class: "frame" }, h("img", { alt: "" }));
  const [width, height] = report.images.size[placeOf(id.image)] ?? [1, 1];
  shape(frame, width, height);
  drawings.set(frame, { id, side, tile, drawn: "" });
  observer.observe(frame);
  return frame;
}

/** A frame that shows a photograph alone. @param {number} index */
export function photoOf(index) {
  const frame = h(
    "span",
    { class: "frame" },
    h("img", { alt: report.images.file[placeOf(index)] }),
  );
  const [width, height] = report.images.size[placeOf(index)] ?? [1, 1];
  shape(frame, width, height);
  const known = knownImage(index);
  const show = (/** @type {ImageRecord | null} */ image) => {
    if (image) frame.querySelector("img")?.setAttribute("src", image.photo);
  };
  if (known) show(known);
  else imageOf(index).then(show);
  return frame;
}

/** Draw a frame in the present look, unless it shows that already. @param {HTMLElement} frame */
export function draw(frame) {
  const drawing = drawings.get(frame);
  if (!drawing) return;
  const known = knownImage(drawing.id.image);
  if (known) return drawImage(frame, drawing, known);
  load(frame, drawing);
}

/** @param {HTMLElement} frame @param {Drawing} drawing */
async function load(frame, drawing) {
  if (drawing.tile && state.scale !== "image") {
    const small = await overviewOf(drawing.id.image, drawing.id);
    if (small) {
      const [width, height] = small.size;
      return drawImage(frame, drawing, { ...small, width, height, scale: 0, photo: "" });
    }
  }
  const image = await imageOf(drawing.id.image);
  if (image) drawImage(frame, drawing, image);
  else frame.replaceChildren(h("span", { class: "label" }, t("cell.missing")));
}

/**
 * @param {HTMLElement} frame
 * @param {Drawing} drawing
 * @param {{seen: number[], width: number, height: number, photo: string, scale: number, bytes: Uint8Array, byKey: Map<string, CamCell>}} image
 */
function drawImage(frame, drawing, image) {
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
  frame.classList.toggle("grey", state.grey);
  frame.classList.toggle("only-heat", state.show === "heat");
  frame.classList.toggle("only-photo", state.show === "photo");
  if (drawing.drawn === look) return;
  if (!drawing.drawn) fill(frame, drawing, image, cam);
  drawing.drawn = look;
  frame.dataset.drawn = look;
  const canvas = /** @type {HTMLCanvasElement | null} */ (frame.querySelector("canvas.heat"));
  if (!canvas || !cam) return;
  const [height, width] = seenSize(image, side);
  const values = enlarge(levelsOf(image, cam), cam, height, width, !state.cells);
  const index = indices(values, cam.signed, gainOf(image, cam));
  const { threshold, byValue } = state;
  paint(canvas, index, height, width, {
    table: tableOf(cam),
    signed: cam.signed,
    threshold: threshold / 100,
    byValue,
  });
  let lines = /** @type {HTMLCanvasElement | null} */ (frame.querySelector("canvas.lines"));
  if (state.contours) {
    if (!lines) {
      lines = h("canvas", { class: "lines" });
      canvas.after(lines);
    }
    paintContours(lines, index, height, width, cam.signed);
  } else lines?.remove();
}

/**
 * Put the photograph, and canvas, picture or label into a frame.
 * @param {HTMLElement} frame
 * @param {Drawing} drawing
 * @param {{seen: number[], photo: string}} image
 * @param {CamCell | undefined} cam
 */
function fill(frame, drawing, image, cam) {
  const photo = /** @type {HTMLImageElement} */ (frame.querySelector("img"));
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

/** @param {number} index */
function thumbnail(index) {
  const place = placeOf(index);
  const name = String(place).padStart(5, "0");
  return `data/thumbs/${name.slice(0, -3)}/${name}.jpg`;
}

/** Colour the frames in view anew; the others follow when they come into view. */
export function redraw() {
  for (const frame of inView) {
    if (frame.isConnected) draw(frame);
    else {
      inView.delete(frame);
      observer.unobserve(frame);
    }
  }
}

/** Draw everything that is shown, for paper. @param {ParentNode} root */
export const drawAll = (root) => all(".frame", root).forEach(draw);

/**
 * A map in a table: a button that opens it.
 * @param {CellId} id
 * @param {{side?: number, tile?: boolean, caption?: boolean}} options
 */
export function cellButton(id, { side = SIDES.cell, tile = false, caption = true } = {}) {
  const text = `${id.image}.${id.rank}.${id.method}.${id.layer}`;
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

/**
 * Say in words what a cell shows.
 * @param {HTMLElement} cell
 * @param {HTMLElement} peak
 * @param {CellId} id
 * @param {ImageRecord | undefined} image
 */
function label(cell, peak, id, image) {
  cell.setAttribute("aria-label", t("cell.button", { what: describe(id, image) }));
  const cam = image && camOf(image, id);
  if (cam?.state === "positive") peak.textContent = peakOf(cam);
}

/** What a map shows: image, class, method, layer and largest value. @param {CellId} id @param {ImageRecord | undefined} image */
export function describe(id, image = knownImage(id.image)) {
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

/** A map's largest value in words. @param {CamCell} cam */
export function peakOf(cam) {
  const sign = cam.signed ? "±" : "";
  let text = t("cell.peak", { peak: sign + number(cam.peak + cam.base) });
  if (cam.base)
    text = t("cell.range", { base: number(cam.base), peak: number(cam.peak + cam.base) });
  if (cam.layer === "fused") text = t("cell.ofOne", { peak: text });
  return cam.channel === undefined ? text : t("cell.channel", { channel: cam.channel, peak: text });
}

/** The map that a button shows. @param {HTMLElement} cell */
export const idOfCell = (cell) => idOf(cell.dataset.id ?? "");

/**
 * A photograph with its map as one picture, in the present look: for paper and for files.
 * @param {ImageRecord} image
 * @param {CellId} id
 * @param {number} side pixels of the longer side
 */
export function composite(image, id, side) {
  const factor = side / Math.max(image.width, image.height);
  const canvas = h("canvas", {
    width: Math.round(image.width * factor),
    height: Math.round(image.height * factor),
  });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const cam = camOf(image, id);
  const [left, top, right, bottom] = image.seen;
  const box = /** @type {const} */ ([
    left * canvas.width,
    top * canvas.height,
    (right - left) * canvas.width,
    (bottom - top) * canvas.height,
  ]);
  context.fillStyle = "#eee";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const positive = cam?.state === "positive";
  if (state.show !== "heat" || !positive) {
    context.filter =
      `${state.grey || !positive ? "grayscale(1)" : ""} ${positive ? "" : "opacity(0.35)"}`.trim() ||
      "none";
    context.drawImage(image.picture, 0, 0, canvas.width, canvas.height);
    context.filter = "none";
  }
  if (left > 0 || top > 0 || right < 1 || bottom < 1) {
    context.fillStyle = "rgb(0 0 0 / 60%)"; // what the model did not see
    context.beginPath();
    context.rect(0, 0, canvas.width, canvas.height);
    context.rect(...box);
    context.fill("evenodd");
  }
  if (!cam || !positive || cam.picture) return canvas;
  const [height, width] = seenSize(image, side);
  const index = indices(
    enlarge(levelsOf(image, cam), cam, height, width, !state.cells),
    cam.signed,
    gainOf(image, cam),
  );
  const layer = h("canvas");
  if (state.show !== "photo") {
    const { threshold, byValue } = state;
    paint(layer, index, height, width, {
      table: tableOf(cam),
      signed: cam.signed,
      threshold: threshold / 100,
      byValue,
    });
    context.globalAlpha = state.show === "heat" ? 1 : state.opacity / 100;
    context.drawImage(layer, ...box);
    context.globalAlpha = 1;
  }
  if (state.contours) {
    paintContours(layer, index, height, width, cam.signed);
    context.drawImage(layer, ...box);
  }
  return canvas;
}
