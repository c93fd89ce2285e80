// A map as a figure for a file: what it says, and where its picture, its colour bar and its lines lie.

/** Pixels of the picture's longer side at the figure's own size. */
export const FIGURE_SIDE = 640;

/** Least width of a figure, so that a narrow picture's caption has room. */
const MIN_WIDTH = 400;

/** Pixels around everything, and between its parts. */
const MARGIN = 16;

const BAR = { width: 200, height: 12 };

const SIZE = { title: 15, text: 13 };

const LINE_HEIGHT = 1.45;

/** Fonts that most machines have, for a file that brings none. */
export const FONTS =
  'Arial, "Liberation Sans", "DejaVu Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif';

/** What a figure says. */
export interface Said {
  title: string;
  /** Values at both ends of the colour bar; null where there is none. */
  ends: [from: string, to: string] | null;
  /** Each begins a line. */
  caption: string[];
}

interface Rectangle {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** A line of text with its start on the baseline. */
export interface Line {
  text: string;
  x: number;
  y: number;
  size: number;
  bold: boolean;
}

export interface Figure {
  width: number;
  height: number;
  picture: Rectangle;
  bar: Rectangle | null;
  lines: Line[];
}

/** Width of a text in pixels. */
export type Measure = (text: string, size: number, bold: boolean) => number;

/**
 * Lay out a figure: the picture, below it the title, the colour bar between its ends, the caption.
 * @param aspect the picture's width over its height
 */
export function layOutFigure(aspect: number, said: Said, measure: Measure): Figure {
  const picture = {
    x: MARGIN,
    y: MARGIN,
    width: Math.round(FIGURE_SIDE * Math.min(1, aspect)),
    height: Math.round(FIGURE_SIDE / Math.max(1, aspect)),
  };
  const width = Math.max(picture.width, MIN_WIDTH);
  const lines: Line[] = [];
  let bottom = MARGIN + picture.height + MARGIN / 2;
  const write = (text: string, size: number, bold: boolean) => {
    for (const line of wrap(text, width, (part) => measure(part, size, bold))) {
      lines.push({ text: line, x: MARGIN, y: bottom + size, size, bold });
      bottom += size * LINE_HEIGHT;
    }
  };
  write(said.title, SIZE.title, true);
  let bar: Rectangle | null = null;
  if (said.ends) {
    const [from, to] = said.ends;
    const x = MARGIN + measure(from, SIZE.text, false) + MARGIN / 2;
    const y = bottom + SIZE.text;
    bar = { x, y: y - BAR.height + 1, ...BAR };
    lines.push({ text: from, x: MARGIN, y, size: SIZE.text, bold: false });
    lines.push({ text: to, x: x + BAR.width + MARGIN / 2, y, size: SIZE.text, bold: false });
    bottom += SIZE.text * LINE_HEIGHT;
  }
  for (const text of said.caption) write(text, SIZE.text, false);
  return { width: width + 2 * MARGIN, height: Math.ceil(bottom + MARGIN), picture, bar, lines };
}

/** Spaces, words, and Chinese signs each with the punctuation that may not begin a line. */
const PIECES =
  /\s+|[\u3000-\u9fff\uff00-\uffef][、。，；：？！）】”]*|[^\s\u3000-\u9fff\uff00-\uffef]+/gu;

/** Break a text into lines that are not wider than `most`; a long word is broken within. */
export function wrap(text: string, most: number, widthOf: (text: string) => number) {
  const lines: string[] = [];
  let line = "";
  for (const piece of text.match(PIECES) ?? []) {
    if (line && widthOf((line + piece).trimEnd()) > most) {
      lines.push(line.trimEnd());
      line = "";
    }
    line = line ? line + piece : piece.trimStart();
    while (widthOf(line.trimEnd()) > most && [...line].length > 1) {
      const start = longestStart(line, most, widthOf);
      lines.push(start);
      line = line.slice(start.length);
    }
  }
  return line.trimEnd() ? [...lines, line.trimEnd()] : lines;
}

/** As much of a text's start as fits, at least one sign. */
function longestStart(text: string, most: number, widthOf: (text: string) => number) {
  const signs = [...text];
  let count = 1;
  while (count < signs.length && widthOf(signs.slice(0, count + 1).join("")) <= most) count++;
  return signs.slice(0, count).join("");
}
