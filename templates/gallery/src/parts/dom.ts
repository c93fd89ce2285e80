// Elements, never markup: no string from the data is ever parsed as HTML.

/**
 * Make an element.
 * @param properties `on…` are listeners, `class`, `data-…`, `aria-…` and unknown ones attributes
 * (false and null leave them out), the others properties
 */
export function h<T extends keyof HTMLElementTagNameMap>(
  tag: T,
  properties: Record<string, unknown> = {},
  ...children: (Node | string | number | null | false)[]
): HTMLElementTagNameMap[T] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value as EventListener);
    } else if (name in element && !/^(aria-|data-|class$)/.test(name)) {
      (element as unknown as Record<string, unknown>)[name] = value;
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const child of children) {
    if (child !== null && child !== false)
      element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** A name from outside, kept apart from the text around it. */
export const bdi = (text: string) => h("bdi", {}, text);

export const byId = (id: string) => document.getElementById(id) as HTMLElement;

export const all = (selector: string, root: ParentNode = document): HTMLElement[] =>
  [...root.querySelectorAll(selector)].map((e) => e as HTMLElement);

/** Text with addresses as links; they are for reading, nothing is loaded. */
export function linked(text: string): (Node | string)[] {
  return text
    .split(/(https:\/\/\S+)/)
    .map((part, i) => (i % 2 ? h("a", { href: part, rel: "noreferrer" }, part) : part));
}

/**
 * A choice of one among few or many.
 * @param key name of the state's field
 */
export function select(
  label: string,
  key: string,
  options: [string | number, string][],
  value: string | number,
  choose: (value: string) => void,
) {
  const chosen = h(
    "select",
    { "data-focus": key, onchange: () => choose(chosen.value) },
    ...options.map(([own, text]) =>
      h("option", { value: String(own), selected: own === value }, text),
    ),
  );
  return h("label", { class: "control" }, h("span", {}, label), chosen);
}

/**
 * A slider that says its value in words.
 * @param live told of every step, not just of the last
 */
export function slider(
  label: string,
  key: string,
  range: { min: number; max: number; step: number; value: number },
  say: (value: number) => string,
  choose: (value: number) => void,
  live = true,
) {
  const output = h("output", {}, say(range.value));
  const input = h("input", {
    type: "range",
    min: String(range.min),
    max: String(range.max),
    step: String(range.step),
    value: String(range.value),
    "data-focus": key,
    "aria-label": label,
    "aria-valuetext": say(range.value),
    oninput: () => {
      output.textContent = say(input.valueAsNumber);
      input.setAttribute("aria-valuetext", say(input.valueAsNumber));
      if (live) choose(input.valueAsNumber);
    },
    onchange: () => live || choose(input.valueAsNumber),
  });
  return h("label", { class: "control" }, h("span", {}, label, " ", output), input);
}

/** A switch. */
export function checkbox(
  label: string,
  key: string,
  value: boolean,
  choose: (value: boolean) => void,
) {
  const input = h("input", {
    type: "checkbox",
    checked: value,
    "data-focus": key,
    onchange: () => choose(input.checked),
  });
  return h("label", { class: "check" }, input, h("span", {}, label));
}

export const button = (
  label: string,
  key: string,
  act: () => void,
  more: Record<string, unknown> = {},
) => h("button", { type: "button", "data-focus": key, onclick: act, ...more }, label);

/** Build a part of the page anew and give the focus back to what had it there. */
export function keepFocus(root: HTMLElement, build: () => void) {
  const active = document.activeElement as HTMLElement;
  const inside = root.contains(active);
  const caret =
    active instanceof HTMLInputElement && active.type === "search" ? active.selectionStart : null;
  build();
  if (!inside) return;
  const again = all("[data-focus]", root).find((one) => one.dataset.focus === active.dataset.focus);
  (again ?? root).focus({ preventScroll: true });
  if (caret !== null && again instanceof HTMLInputElement) again.setSelectionRange(caret, caret);
}

/** Which folds the reader has opened or closed. */
const folds: Map<string, boolean> = new Map();

/** What a narrow screen shows only when asked; a wide one always. */
export function fold(label: string, key: string, ...children: (Node | null)[]) {
  const open = folds.get(key) ?? !matchMedia("(width < 48rem)").matches;
  const details = h(
    "details",
    { class: "fold", open },
    h("summary", { "data-focus": `fold ${key}` }, label),
    h("div", { class: "folded" }, ...children),
  );
  details.addEventListener("toggle", () => folds.set(key, details.open));
  return details;
}

/** How long a message stays, in milliseconds. */
const MESSAGE = 4000;

const announcer = h("p", { id: "announcer", role: "status" });

let hiding: number | undefined;

/** Say in passing what an action did, to those who see it and to those who do not. */
export function announce(text: string) {
  (document.querySelector("dialog[open]") ?? byId("messages")).append(announcer);
  announcer.textContent = text;
  announcer.classList.add("shown");
  window.clearTimeout(hiding);
  hiding = window.setTimeout(() => announcer.classList.remove("shown"), MESSAGE);
}
