// One tab stop for a grid of cells; arrows, Home, End and the page keys move in it, as they lie.
import { all, h } from "./dom";

const KEYS = [
  "ArrowLeft",
  "ArrowRight",
  "ArrowUp",
  "ArrowDown",
  "Home",
  "End",
  "PageUp",
  "PageDown",
];

/** Rows that a page key skips. */
const ROWS_SKIPPED = 4;

/** Where an element lies. */
function middle(element: HTMLElement) {
  const box = element.getBoundingClientRect();
  const { width, height } = box;
  return { x: box.left + width / 2, y: box.top + height / 2, width, height };
}

/** The cell where a key leads. */
function target(cells: HTMLElement[], from: HTMLElement, key: string) {
  const own = middle(from);
  const placed = cells.map((cell) => ({ cell, ...middle(cell) }));
  const reach = (one: { height: number }) => Math.max(one.height, own.height) / 2;
  const inColumn = (one: { x: number; width: number }) =>
    Math.abs(one.x - own.x) < Math.max(one.width, own.width) / 2;
  const row = placed.filter((one) => Math.abs(one.y - own.y) < reach(one));
  row.sort((a, b) => a.x - b.x);
  const place = row.findIndex((one) => one.cell === from);
  if (key === "Home") return (row.find(({ cell }) => cell.matches(".cell")) ?? row[0]).cell;
  if (key === "End") return row[row.length - 1].cell;
  if (key === "ArrowLeft") return row[place - 1]?.cell;
  if (key === "ArrowRight") return row[place + 1]?.cell;
  const down = key === "ArrowDown" || key === "PageDown";
  const after = placed.filter((one) => (down ? one.y - own.y : own.y - one.y) >= reach(one));
  const near = after.filter(inColumn);
  const maps = near.filter(({ cell }) => cell.matches(".cell"));
  const beyond = [maps, near].find((some) => some.length) ?? after;
  const heights = [...new Set(beyond.map((one) => Math.round(one.y)))].sort((a, b) =>
    down ? a - b : b - a,
  );
  const wanted = heights[Math.min(key.startsWith("Page") ? ROWS_SKIPPED : 0, heights.length - 1)];
  const there = beyond.filter((one) => Math.abs(one.y - wanted) < own.height / 2);
  return there.sort((a, b) => Math.abs(a.x - own.x) - Math.abs(b.x - own.x))[0]?.cell;
}

/**
 * Make the cells in an element one stop of the tab key: the first map has it at first.
 * @param what selector of the cells; one of them may have the stop already
 */
export function enableRoving(root: HTMLElement, what = ".cell") {
  const cellAt = (event: Event) => (event.target as Element).closest<HTMLElement>(what);
  const stop = `${what}[tabindex='0']`;
  const first = root.querySelector(".cell") ?? root.querySelector(what);
  if (!root.querySelector(stop)) first?.setAttribute("tabindex", "0");
  root.addEventListener("focusin", (event) => {
    const cell = cellAt(event);
    if (!cell) return;
    for (const other of all(stop, root)) other.tabIndex = -1;
    cell.tabIndex = 0;
  });
  root.addEventListener("keydown", (event) => {
    const from = cellAt(event);
    if (!from || !KEYS.includes(event.key) || event.altKey || event.metaKey) return;
    const cells = all(what, root).filter((cell) => cell.offsetParent !== null);
    event.preventDefault();
    target(cells, from, event.key)?.focus();
  });
}

/** Links or buttons as one stop of the tab key: the one that is chosen has it. */
export function toolbar(properties: Record<string, unknown>, ...controls: HTMLElement[]) {
  const isChosen = (one: HTMLElement) => one.matches("[aria-pressed=true], [aria-current]");
  const chosen = controls.find(isChosen) ?? controls[0];
  for (const control of controls) control.tabIndex = control === chosen ? 0 : -1;
  const bar = h("div", { role: "toolbar", ...properties }, ...controls);
  enableRoving(bar, ":is(a, button)");
  return bar;
}
