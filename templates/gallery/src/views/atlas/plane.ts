// Points in a plane: found by where they are, their density, outlines drawn around them.
import type { Point } from "../../query/located";

/** Cells of a side of the grid in which points are found, and of the grid of their density. */
const CELLS = 64;
const DENSE = 96;

/** Cells on each side that density is averaged over, so often. */
const BLUR = 2;
const ROUNDS = 3;

/** Shares of the highest density at which contours run. */
const LEVELS = [0.05, 0.15, 0.35, 0.65];

/** Most corners of an outline: a link holds it. */
const MAX_CORNERS = 32;

const cellOf = (value: number, cells: number) =>
  Math.min(Math.max(Math.floor(value * cells), 0), cells - 1);

/** Points sorted into cells, so that the nearest one is found in moments. */
export class Finder {
  readonly #starts = new Int32Array(CELLS * CELLS + 1);
  readonly #order: Int32Array;

  /** @param places of the points that can be found */
  constructor(
    readonly points: Point[],
    places: number[],
  ) {
    const cells = places.map((i) => this.#cell(points[i]));
    for (const cell of cells) this.#starts[cell + 1] += 1;
    for (let cell = 0; cell < CELLS * CELLS; cell++) this.#starts[cell + 1] += this.#starts[cell];
    const next = this.#starts.slice();
    this.#order = new Int32Array(places.length);
    for (const [i, cell] of cells.entries()) this.#order[next[cell]++] = places[i];
  }

  #cell([x, y]: Point) {
    return cellOf(y, CELLS) * CELLS + cellOf(x, CELLS);
  }

  /** The nearest point within a distance; -1 where there is none. */
  nearest([x, y]: Point, within: number) {
    let [best, least] = [-1, within ** 2];
    const [left, right] = [cellOf(x - within, CELLS), cellOf(x + within, CELLS)];
    const bottom = cellOf(y + within, CELLS);
    for (let row = cellOf(y - within, CELLS); row <= bottom; row++) {
      const from = this.#starts[row * CELLS + left];
      const to = this.#starts[row * CELLS + right + 1];
      for (let k = from; k < to; k++) {
        const i = this.#order[k];
        const distance = (this.points[i][0] - x) ** 2 + (this.points[i][1] - y) ** 2;
        if (distance <= least) [best, least] = [i, distance];
      }
    }
    return best;
  }

  /** The next point in a direction, which is preferred to one aside; -1 where there is none. */
  towards(from: number, [across, down]: Point) {
    const [x, y] = this.points[from];
    let [best, least] = [-1, Infinity];
    for (const i of this.#order) {
      const [dx, dy] = [this.points[i][0] - x, this.points[i][1] - y];
      const [along, aside] = [dx * across + dy * down, Math.abs(dx * down - dy * across)];
      const cost = along + 2 * aside;
      if (along > 0 && aside <= along && cost < least) [best, least] = [i, cost];
    }
    return best;
  }
}

/** How dense points lie, smoothed. */
function density(points: Point[]) {
  let grid = new Float64Array(DENSE * DENSE);
  for (const [x, y] of points) grid[cellOf(y, DENSE) * DENSE + cellOf(x, DENSE)] += 1;
  for (let round = 0; round < 2 * ROUNDS; round++) {
    const [step, line] = round % 2 ? [DENSE, 1] : [1, DENSE];
    const next = new Float64Array(grid.length);
    for (let i = 0; i < DENSE; i++)
      for (let j = 0; j < DENSE; j++)
        for (let k = Math.max(j - BLUR, 0); k <= Math.min(j + BLUR, DENSE - 1); k++)
          next[i * line + j * step] += grid[i * line + k * step];
    grid = next;
  }
  return grid;
}

/** Lines of equal density, as pairs of ends. */
export function contours(points: Point[]): [Point, Point][] {
  const grid = density(points);
  const most = grid.reduce((one, other) => Math.max(one, other), 0);
  const found: [Point, Point][] = [];
  for (const share of LEVELS)
    for (let row = 0; row < DENSE - 1; row++)
      for (let column = 0; column < DENSE - 1; column++) {
        const ends = crossings(grid, row, column, share * most);
        for (let i = 0; i + 1 < ends.length; i += 2) found.push([ends[i], ends[i + 1]]);
      }
  return found;
}

/** Where a level crosses the sides of the square between four cells' middles, side by side. */
function crossings(grid: Float64Array, row: number, column: number, level: number) {
  const corners = [
    [row, column],
    [row, column + 1],
    [row + 1, column + 1],
    [row + 1, column],
  ] as const;
  return corners.flatMap(([y, x], i): Point[] => {
    const [toY, toX] = corners[(i + 1) % 4];
    const [one, other] = [grid[y * DENSE + x], grid[toY * DENSE + toX]];
    if (one > level === other > level) return [];
    const share = (level - one) / (other - one);
    const at = (from: number, to: number) => (from + share * (to - from) + 0.5) / DENSE;
    return [[at(x, toX), at(y, toY)]];
  });
}

/** Distance of a point from a line between two. */
function aside([x, y]: Point, [ax, ay]: Point, [bx, by]: Point) {
  const length = Math.hypot(bx - ax, by - ay);
  if (!length) return Math.hypot(x - ax, y - ay);
  return Math.abs((bx - ax) * (ay - y) - (ax - x) * (by - ay)) / length;
}

/** A line without the corners that lie nearer than so much to what remains. */
function straightened(line: Point[], least: number): Point[] {
  const [first, last] = [line[0], line[line.length - 1]];
  let [far, most] = [0, least];
  for (let i = 1; i < line.length - 1; i++) {
    const distance = aside(line[i], first, last);
    if (distance > most) [far, most] = [i, distance];
  }
  if (!far) return [first, last];
  return [
    ...straightened(line.slice(0, far + 1), least).slice(0, -1),
    ...straightened(line.slice(far), least),
  ];
}

/** An outline with few corners. */
export function simplified(outline: Point[]) {
  let found = outline;
  for (let least = 0.002; found.length > MAX_CORNERS; least *= 1.5)
    found = straightened(outline, least);
  return found;
}

/** An outline around a point. */
export const ring = ([x, y]: Point, radius: number) =>
  Array.from({ length: 16 }, (_, i): Point => {
    const angle = (i * Math.PI) / 8;
    return [x + radius * Math.cos(angle), y + radius * Math.sin(angle)];
  });
