// Elements, never markup: no string from the data is ever parsed as HTML.

export type Child = Node | string | number | null | false;

type Name = keyof HTMLElementTagNameMap;

/** A name with classes, `button.plain`; without a name it is a div's. */
type Selector = Name | `${Name}.${string}` | `.${string}`;

type ElementOf<S extends string> = S extends Name
  ? HTMLElementTagNameMap[S]
  : S extends `${infer N extends Name}.${string}`
    ? HTMLElementTagNameMap[N]
    : HTMLDivElement;

type Properties = Record<string, unknown>;

/**
 * Make an element.
 * @param given properties, if any, and children: of the former, `on…` are listeners, `class`,
 *   `data-…`, `aria-…` and unknown ones attributes (false and null leave them out), the others
 *   properties
 */
export function h<S extends Selector>(
  selector: S,
  ...given: Child[] | [Properties, ...Child[]]
): ElementOf<S>;
export function h(selector: string, ...given: (Child | Properties)[]): HTMLElement {
  const [tag, ...classes] = selector.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const one of given)
    if (one === null || one === false) continue;
    else if (typeof one === "object" && !(one instanceof Node)) assign(element, one);
    else element.append(one instanceof Node ? one : String(one));
  return element;
}

function assign(element: HTMLElement, properties: Properties) {
  for (const [name, value] of Object.entries(properties))
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value as EventListener);
    else if (name in element && !/^(aria-|data-|class$)/.test(name))
      Object.assign(element, { [name]: value });
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value === true ? "" : String(value));
}

/** Behind a dot or an underscore of a name, not of a number. */
const BREAKS = /(?<=[._])(?=[^\s\d._])|(?<=[^\s\d][._])(?=\d)/u;

/** A name from outside, kept apart from the text around it; it may be broken behind its dots. */
export const bdi = (text: string) =>
  h("bdi", ...text.split(BREAKS).flatMap((part, i) => (i ? [h("wbr"), part] : [part])));

/** An element that the page always has. */
export const byId = <T extends HTMLElement = HTMLElement>(id: string) =>
  document.getElementById(id) as T;

export const all = <T extends HTMLElement = HTMLElement>(
  selector: string,
  root: ParentNode = document,
) => [...root.querySelectorAll<T>(selector)];

/** Names and values as a list. */
export const definitions = (kind: string, rows: readonly [string, string][]) =>
  h(
    "dl",
    { class: kind },
    ...rows.map(([name, value]) => h("div", h("dt", name), h("dd", bdi(value)))),
  );

/** Text with addresses as links; they are for reading, nothing is loaded. */
export function linked(text: string): (Node | string)[] {
  return text
    .split(/(https:\/\/\S+)/)
    .map((part, i) => (i % 2 ? h("a", { href: part, rel: "noreferrer" }, part) : part));
}

/** Build a part of the page anew and give the focus back to what had it there. */
export function keepFocus(root: HTMLElement, build: () => void) {
  const active = document.activeElement;
  const inside = active instanceof HTMLElement && root.contains(active);
  const caret =
    active instanceof HTMLInputElement && active.type === "search" ? active.selectionStart : null;
  build();
  if (!inside || document.activeElement === active) return;
  const again = all("[data-focus]", root).find((one) => one.dataset.focus === active.dataset.focus);
  (again ?? root).focus({ preventScroll: true });
  if (caret !== null && again instanceof HTMLInputElement) again.setSelectionRange(caret, caret);
}

/** A list in parts that are about equally long. */
export function parted<T>(list: T[], parts: number) {
  const length = Math.ceil(list.length / parts);
  return Array.from({ length: parts }, (_, i) => list.slice(i * length, (i + 1) * length));
}
