// Images as points, so that those that are alike lie near each other: a pointer over one shows its
// photograph and its map, an outline drawn around some chooses them.
import { data, report, state, store } from "../../app";
import { idText } from "../../data/cells";
import type { Atlas, ShippedAtlas } from "../../data/types";
import { cellButton } from "../../maps/cell";
import { SIDES, draw, thumbnail } from "../../maps/frames";
import { type Option, select } from "../../parts/controls";
import { all, bdi, h } from "../../parts/dom";
import { badge, topHint } from "../../parts/image";
import { t } from "../../parts/words";
import { type Point, fitted, outlineText } from "../../query/located";
import { change } from "../../state/history";
import { chosenImages, queryWith, vocabularyOf } from "../../state/selection";
import type { State } from "../../state/state";
import { numberName, numberWords, questionName } from "../overview/words";
import { leadToImage } from "../summary/said";
import { type Colouring, colouring } from "./colours";
import { Finder, contours, ring, simplified } from "./plane";
import { type Shown, alikeChoice, classChoice, mapOf, placesOf } from "./read";

/** Points from which squares stand for discs, and contours show their density. */
const MANY = 3000;

/** CSS pixels: room around the points, reach of a pointer, a movement that draws. */
const [EDGE, REACH, MOVE] = [12, 14, 6];

/** Radius of the outline that a key draws, of the plot's side. */
const RING = 0.06;

const ARROWS: Record<string, Point> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/** What the plot shows. */
interface Plot {
  points: Point[];
  places: number[];
  finder: Finder;
  colours: Colouring;
  lines: [Point, Point][];
  canvas: HTMLCanvasElement;
  over: HTMLCanvasElement;
}

export function scatterPart({ found }: ShippedAtlas): Shown {
  if (!found) return { nodes: [] };
  const { points: own } = found;
  // Up is more, as in any diagram.
  const points = fitted(own[state.plane] ?? own.pca).map(([x, y]): Point => [x, 1 - y]);
  const places = placesOf(found);
  const there = [...places.keys()].filter((i) => places[i] >= 0);
  const plot: Plot = {
    points,
    places,
    finder: new Finder(points, there),
    colours: colouring(found, places),
    lines: points.length > MANY ? contours(points) : [],
    canvas: h("canvas"),
    over: h("canvas"),
  };
  const about = h(".about", { "aria-live": "polite" });
  const surface = surfaceOf(plot, about);
  const paint = () => paintPoints(plot);
  new ResizeObserver(paint).observe(surface);
  store.subscribe(({ theme }) => theme, paint);
  const shown = t("atlas.points", {
    points: points.length.toLocaleString("en"),
    all: found.total.toLocaleString("en"),
    layer: (own.space === "what" && found.whatLayer) || found.whereLayer,
    space: t(`alike.${own.space}`),
  });
  const unseen = points.length - there.length;
  const told = [shown, unseen > 0 && t("atlas.unseen", { count: unseen.toLocaleString("en") })];
  return {
    nodes: [
      h(".switches", planeChoice(own.tsne !== null), ...colourChoice(found)),
      h(".scatter", surface, h(".side", plot.colours.key, about)),
      h("p.figcaption", [...told, t("atlas.scatter.words")].filter(Boolean).join(t("space"))),
    ],
    refresh: paint,
  };
}

const planeChoice = (tsne: boolean) =>
  tsne &&
  select<State["plane"]>(
    t("atlas.plane"),
    "plane",
    (["pca", "tsne"] as const).map((plane): Option => [plane, t(`plane.${plane}`)]),
    () => state.plane,
    (plane) => change({ plane }, true),
  );

/** What the colours say, and which clusters where it is these. */
function colourChoice(found: Atlas) {
  const classes = found.classes.filter((own) => own[state.alike].length).map(({ index }) => index);
  const labelled = report.images.label.some((label) => label !== null);
  const kinds = ["class", ...(labelled ? ["right"] : []), ...(classes.length ? ["cluster"] : [])];
  const numbers = vocabularyOf(report).numbers;
  const choice = select(
    t("atlas.colour"),
    "colour",
    [
      ...kinds.map((kind): Option => [kind, t(`colour.${kind}`)]),
      ...numbers.map((name): Option => [name, numberName(name), questionName(name)]),
    ],
    () => state.colour,
    (colour) => change({ colour }, true),
  );
  const ofClusters = state.colour === "cluster";
  return [choice, ofClusters && alikeChoice(found), ofClusters && classChoice(classes)];
}

/** Where a pointer is, across the points. */
function at({ over }: Plot, { clientX, clientY }: PointerEvent): Point {
  const { left, top, width } = over.getBoundingClientRect();
  const along = (from: number, to: number) => (to - from - EDGE) / (width - 2 * EDGE);
  return [along(left, clientX), along(top, clientY)];
}

/** What takes pointer and keys. */
function surfaceOf(plot: Plot, about: HTMLElement) {
  const { finder, points, places, over, canvas } = plot;
  let current = points.findIndex((_, i) => report.images.index[places[i]] === state.image);
  let path: Point[] | null = null;
  const mark = () => paintOver(plot, current, path);
  const show = (i: number) => {
    if (i < 0 || i === current) return;
    current = i;
    about.replaceChildren(...aboutImage(places[i]));
    mark();
  };
  const choose = (outline: Point[]) => {
    const upright = outline.map(([x, y]): Point => [x, 1 - y]);
    const term = `lasso:${state.plane}/${outlineText(upright)}`;
    change({ query: queryWith(({ kind }) => kind === "lasso", term), page: 0 }, true);
  };
  const side = () => over.clientWidth - 2 * EDGE;
  const surface = h(
    ".plot",
    {
      tabindex: "0",
      role: "application",
      "aria-label": t("atlas.plot", { count: points.length }),
      "data-focus": "plot",
      onpointermove: (event: PointerEvent) => {
        const here = at(plot, event);
        if (!path) return show(finder.nearest(here, REACH / side()));
        path.push(here);
        mark();
      },
      onpointerdown: (event: PointerEvent) => {
        if (event.button || event.pointerType === "touch") return;
        path = [at(plot, event)];
        surface.setPointerCapture(event.pointerId);
      },
      onpointerup: (event: PointerEvent) => {
        const drawn = path ?? [];
        path = null;
        const far = drawn.some(
          ([x, y]) => Math.hypot(x - drawn[0][0], y - drawn[0][1]) * side() > MOVE,
        );
        if (far && drawn.length > 2) return choose(simplified(drawn));
        const hit = finder.nearest(at(plot, event), REACH / side());
        show(hit);
        if (hit >= 0) change({ open: idText(mapOf(report.images.index[places[hit]])) }, true);
        else mark();
      },
      onpointercancel: () => {
        path = null;
        mark();
      },
      onkeydown: (event: KeyboardEvent) => {
        const arrow = ARROWS[event.key];
        const here = points[current];
        if (arrow) show(here ? finder.towards(current, arrow) : finder.nearest([0.5, 0.5], 1));
        else if (!here) return;
        else if (event.key === "Enter")
          change({ open: idText(mapOf(report.images.index[places[current]])) }, true);
        else if (event.key === " ") choose(ring(here, RING));
        else return;
        event.preventDefault();
      },
    },
    canvas,
    over,
  );
  if (current >= 0) about.replaceChildren(...aboutImage(places[current]));
  return surface;
}

/** An image beside the plot: its photograph with its map, its name, what is predicted. */
function aboutImage(place: number) {
  const id = mapOf(report.images.index[place]);
  const cell = cellButton(id, {
    side: SIDES.cell,
    tile: report.folder,
    caption: false,
    place: "point",
  });
  cell.tabIndex = 0;
  const [frame] = all(".frame", cell);
  const [photo] = all<HTMLImageElement>("img", frame);
  if (report.folder) photo.src = thumbnail(id.image);
  draw(frame);
  const value = vocabularyOf(report).numbers.includes(state.colour) && state.colour !== "p";
  return [
    cell,
    h("a.name", { ...leadToImage(id.image) }, bdi(report.images.file[place])),
    topHint(id.image),
    badge(place),
    value && h("span.hint", numberWords(state.colour, place)),
  ].filter((one) => one instanceof Node);
}

/** Make a canvas as large as it is shown; its context in CSS pixels, and their number. */
function ready(canvas: HTMLCanvasElement) {
  const side = canvas.clientWidth;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.height = Math.round(side * ratio);
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const on = (value: number) => EDGE + value * (side - 2 * EDGE);
  return { context, on, style: getComputedStyle(canvas) };
}

/** Draw all points: those that are not chosen pale, behind the others. */
function paintPoints(plot: Plot) {
  const { points, places, colours, lines, canvas } = plot;
  if (!canvas.isConnected) return;
  const { context, on, style } = ready(canvas);
  const images = chosenImages();
  const chosen =
    images.length < report.images.index.length
      ? new Set(images.map((one) => data.placeOf(one)))
      : null;
  const groups = new Map<number, number[]>();
  for (const [i, place] of places.entries()) {
    const own = chosen && !chosen.has(place) ? -2 : colours.of[i];
    const group = groups.get(own) ?? [];
    groups.set(own, group);
    group.push(i);
  }
  const named = colours.colours();
  const many = points.length > MANY;
  for (const [own, group] of [...groups].sort(([a], [b]) => a - b)) {
    context.fillStyle = named[own] ?? style.color;
    context.globalAlpha = own === -2 ? 0.2 : own < 0 ? 0.45 : many ? 0.6 : 0.9;
    if (many)
      for (const i of group) context.fillRect(on(points[i][0]) - 1, on(points[i][1]) - 1, 2, 2);
    else
      discs(
        context,
        group.map((i) => [on(points[i][0]), on(points[i][1])]),
        3.5,
      );
  }
  context.globalAlpha = 0.8;
  context.strokeStyle = getComputedStyle(plot.over).color;
  context.beginPath();
  for (const [[ax, ay], [bx, by]] of lines) {
    context.moveTo(on(ax), on(ay));
    context.lineTo(on(bx), on(by));
  }
  context.stroke();
}

function discs(context: CanvasRenderingContext2D, centres: Point[], radius: number) {
  context.beginPath();
  for (const [x, y] of centres) {
    context.moveTo(x + radius, y);
    context.arc(x, y, radius, 0, 2 * Math.PI);
  }
  context.fill();
}

/** Draw what is pointed at, and the outline as far as it is drawn. */
function paintOver({ over, points }: Plot, current: number, path: Point[] | null) {
  const { context, on, style } = ready(over);
  context.strokeStyle = style.color;
  context.lineWidth = 2;
  context.beginPath();
  if (points[current])
    context.arc(on(points[current][0]), on(points[current][1]), 7, 0, 2 * Math.PI);
  context.stroke();
  context.beginPath();
  for (const [x, y] of path ?? []) context.lineTo(on(x), on(y));
  context.stroke();
}
