// Controls: each shows a value of the state, and can be told to show it as it is now.
import { all, h } from "./dom";

/** A choice; those of one group stand under its name. */
export type Option = [value: string | number, text: string, group?: string];

/** How each control shows its value anew. */
const refreshers = new WeakMap<Element, () => void>();

/** Let the controls in a part of the page show their values as they are now. */
export function refreshControls(root: ParentNode) {
  for (const control of all("[data-focus]", root)) refreshers.get(control)?.();
}

/**
 * A choice of one among few or many.
 * @param key name of the state's field
 */
export function select<T extends string>(
  label: string,
  key: string,
  options: Option[],
  value: () => string | number,
  choose: (value: T) => void,
) {
  const entries = options.map(([own, text]) => h("option", { value: String(own) }, text));
  const groups = new Map<string, HTMLElement>();
  const listed = options.map(([, , label], place) => {
    if (!label) return entries[place];
    const group = groups.get(label) ?? h("optgroup", { label });
    groups.set(label, group);
    group.append(entries[place]);
    return group;
  });
  const chosen = h(
    "select",
    { "data-focus": key, onchange: () => choose(chosen.value as T) },
    ...new Set(listed),
  );
  const refresh = () => {
    for (const entry of entries) entry.selected = entry.value === String(value());
  };
  refresh();
  refreshers.set(chosen, refresh);
  return h("label.control", h("span", label), chosen);
}

/** What a slider chooses from. */
export interface Range {
  min: number;
  max: number;
  step: number;
}

/**
 * A slider that says its value in words.
 * @param live told of every step, not just of the last
 */
export function slider(
  label: string,
  key: string,
  range: Range,
  value: () => number,
  say: (value: number) => string,
  choose: (value: number) => void,
  live = true,
) {
  const output = h("output");
  const input = h("input", {
    type: "range",
    min: String(range.min),
    max: String(range.max),
    step: String(range.step),
    "data-focus": key,
    "aria-label": label,
    oninput: () => {
      tell(input.valueAsNumber);
      if (live) choose(input.valueAsNumber);
    },
    onchange: () => live || choose(input.valueAsNumber),
  });
  const tell = (shown: number) => {
    output.textContent = say(shown);
    input.setAttribute("aria-valuetext", say(shown));
  };
  const refresh = () => {
    input.value = String(value());
    tell(value());
  };
  refresh();
  refreshers.set(input, refresh);
  return h("label.control", h("span", label, " ", output), input);
}

/** A switch. */
export function checkbox(
  label: string,
  key: string,
  value: () => boolean,
  choose: (value: boolean) => void,
) {
  const input = h("input", {
    type: "checkbox",
    "data-focus": key,
    onchange: () => choose(input.checked),
  });
  const refresh = () => (input.checked = value());
  refresh();
  refreshers.set(input, refresh);
  return h("label.check", input, h("span", label));
}

/** A field for a text to search for. */
export function search(
  label: string,
  key: string,
  value: () => string,
  choose: (value: string) => void,
) {
  const input = h("input", {
    type: "search",
    value: value(),
    "data-focus": key,
    oninput: () => choose(input.value),
  });
  refreshers.set(input, () => {
    if (input.value !== value()) input.value = value();
  });
  return h("label.control", h("span", label), input);
}

export const button = (
  label: string,
  key: string,
  act: () => void,
  more: Record<string, unknown> = {},
) => h("button", { type: "button", "data-focus": key, onclick: act, ...more }, label);

/** Let a button say whether it is pressed. */
export function keepPressed(own: HTMLButtonElement, on: () => boolean, also = () => {}) {
  const refresh = () => {
    own.setAttribute("aria-pressed", String(on()));
    also();
  };
  refresh();
  refreshers.set(own, refresh);
  return own;
}

/** A button that is on or off. */
export function toggle(label: () => string, key: string, on: () => boolean, act: () => void) {
  const own = button("", key, act);
  return keepPressed(own, on, () => (own.textContent = label()));
}

/** Which folds the reader has opened or closed. */
const folds = new Map<string, boolean>();

/** What a narrow screen shows only when asked; a wide one always. */
export function fold(label: string, key: string, ...children: (Node | null)[]) {
  const open = folds.get(key) ?? !matchMedia("(width < 48rem)").matches;
  const details = h(
    "details.fold",
    { open },
    h("summary", { "data-focus": `fold ${key}` }, label),
    h(".folded", ...children),
  );
  details.addEventListener("toggle", () => folds.set(key, details.open));
  return details;
}
