// A figure as SVG: photograph and heat embedded, colour bar and caption as they are, to be edited.
import type { Box } from "../data/types";
import { FONTS, type Figure } from "./figure";

const NAMESPACE = "http://www.w3.org/2000/svg";

/** Steps of the gradient that the colour bar is. */
const STOPS = 32;

/** What lies in a figure's picture. */
export interface Layers {
  /** Address of the photograph; none where the map is shown alone. */
  photo: string | null;
  /** Saturation and opacity of the photograph. */
  pale: { grey: boolean; opacity: number };
  seen: Box;
  /** Outlines of known regions, as fractions of the photograph's sides, each with its colour. */
  regions: { box: Box; colour: string }[];
  /** Address of the map over the part that the model saw. */
  map: string | null;
  /** Colours of the bar, RGB, and how many there are. */
  colours: { table: Uint8Array; count: number } | null;
}

function node(
  tag: string,
  attributes: Record<string, string | number>,
  ...inside: (Node | string)[]
) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...inside);
  return element;
}

/** A text without the signs that XML has no place for, control characters and halves of pairs. */
const clean = (text: string) =>
  text.replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, "\ufffd");

/** The figure's file. */
export function svgOf(figure: Figure, title: string, layers: Layers) {
  const { width, height } = figure;
  const root = node(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "font-family": FONTS },
    node("title", {}, clean(title)),
    definitions(layers),
    node("rect", { width, height, fill: "#fff" }),
    ...picture(figure, layers),
    ...bar(figure),
    ...figure.lines.map(({ text, x, y, size, bold }) =>
      node(
        "text",
        { x, y, "font-size": size, "font-weight": bold ? 700 : 400, fill: "#17201e" },
        clean(text),
      ),
    ),
  );
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(root)}\n`;
}

function definitions({ colours, pale }: Layers) {
  const all = node("defs", {});
  if (pale.grey)
    all.append(
      node("filter", { id: "grey" }, node("feColorMatrix", { type: "saturate", values: 0 })),
    );
  if (!colours) return all;
  const gradient = node("linearGradient", { id: "colours" });
  for (let stop = 0; stop <= STOPS; stop++) {
    const from = 3 * Math.round((stop / STOPS) * (colours.count - 1));
    const colour = `rgb(${[...colours.table.subarray(from, from + 3)].join()})`;
    gradient.append(node("stop", { offset: stop / STOPS, "stop-color": colour }));
  }
  all.append(gradient);
  return all;
}

/** Photograph, what the model did not see of it, and the map. */
function picture(
  { picture: { x, y, width, height } }: Figure,
  { photo, pale, seen, regions, map }: Layers,
) {
  const within = ([left, top, right, bottom]: Box) => ({
    x: x + left * width,
    y: y + top * height,
    width: (right - left) * width,
    height: (bottom - top) * height,
  });
  const [left, top, right, bottom] = seen;
  const part = within(seen);
  const whole = { x, y, width, height };
  const ground = node("rect", { ...whole, fill: "#eee" });
  const parts: Node[] = [ground];
  const stretched = { preserveAspectRatio: "none" };
  if (photo) {
    const look: Record<string, string | number> = pale.grey ? { filter: "url(#grey)" } : {};
    if (pale.opacity < 1) look.opacity = pale.opacity;
    parts.push(node("image", { ...whole, ...stretched, ...look, href: photo }));
  }
  if (left > 0 || top > 0 || right < 1 || bottom < 1) {
    const outline = `${rectangle(whole)} ${rectangle(part)}`;
    parts.push(node("path", { d: outline, "fill-rule": "evenodd", "fill-opacity": 0.6 }));
  }
  if (map) parts.push(node("image", { ...part, ...stretched, href: map }));
  for (const { box, colour } of regions)
    for (const stroke of [
      { stroke: "#000", "stroke-width": 4, "stroke-opacity": 0.6 },
      { stroke: colour, "stroke-width": 2 },
    ])
      parts.push(node("rect", { ...within(box), fill: "none", ...stroke }));
  return parts;
}

const rectangle = ({ x, y, width, height }: Record<"x" | "y" | "width" | "height", number>) =>
  `M${x} ${y}h${width}v${height}h${-width}z`;

const bar = ({ bar }: Figure) => (bar ? [node("rect", { ...bar, fill: "url(#colours)" })] : []);
