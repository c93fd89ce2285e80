// Elements, never markup: no string from the data is ever parsed as HTML.

/**
 * Make an element.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, unknown>} properties `on…` are listeners, `class`, `data-…`, `aria-…` and
 *   unknown ones attributes (false and null leave them out), the others properties
 * @param {...(Node | string | number | null | false)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    } else if (name in element && !/^(aria-|data-|class$)/.test(name)) {
      /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (element))[name] = value;
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

/** A name from outside, kept apart from the text around it. @param {string} text */
export const bdi = (text) => h("bdi", {}, text);

/** @param {string} id */
export const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/**
 * @param {string} selector
 * @param {ParentNode} root
 * @returns {HTMLElement[]}
 */
export const all = (selector, root = document) =>
  [...root.querySelectorAll(selector)].map((e) => /** @type {HTMLElement} */ (e));

/**
 * Text with addresses as links; they are for reading, nothing is loaded.
 * @param {string} text
 * @returns {(Node | string)[]}
 */
export function linked(text) {
  return text
    .split(/(https:\/\/\S+)/)
    .map((part, i) => (i % 2 ? h("a", { href: part, rel: "noreferrer" }, part) : part));
}

/**
 * A choice of one among few or many.
 * @param {string} label
 * @param {string} key name of the state's field
 * @param {[string | number, string][]} options
 * @param {string | number} value
 * @param {(value: string) => void} choose
 */
export function select(label, key, options, value, choose) {
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
 * @param {string} label
 * @param {string} key
 * @param {{min: number, max: number, step: number, value: number}} range
 * @param {(value: number) => string} say
 * @param {(value: number) => void} choose
 * @param {boolean} live told of every step, not just of the last
 */
export function slider(label, key, range, say, choose, live = true) {
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

/**
 * A switch.
 * @param {string} label
 * @param {string} key
 * @param {boolean} value
 * @param {(value: boolean) => void} choose
 */
export function checkbox(label, key, value, choose) {
  const input = h("input", {
    type: "checkbox",
    checked: value,
    "data-focus": key,
    onchange: () => choose(input.checked),
  });
  return h("label", { class: "check" }, input, h("span", {}, label));
}

/**
 * @param {string} label
 * @param {string} key
 * @param {() => void} act
 * @param {Record<string, unknown>} more
 */
export const button = (label, key, act, more = {}) =>
  h("button", { type: "button", "data-focus": key, onclick: act, ...more }, label);

/**
 * Build a part of the page anew and give the focus back to what had it there.
 * @param {HTMLElement} root
 * @param {() => void} build
 */
export function keepFocus(root, build) {
  const active = /** @type {HTMLElement} */ (document.activeElement);
  const inside = root.contains(active);
  const caret =
    active instanceof HTMLInputElement && active.type === "search" ? active.selectionStart : null;
  build();
  if (!inside) return;
  const again = all("[data-focus]", root).find((one) => one.dataset.focus === active.dataset.focus);
  (again ?? root).focus({ preventScroll: true });
  if (caret !== null && again instanceof HTMLInputElement) again.setSelectionRange(caret, caret);
}

/** Which folds the reader has opened or closed. @type {Map<string, boolean>} */
const folds = new Map();

/**
 * What a narrow screen shows only when asked; a wide one always.
 * @param {string} label
 * @param {string} key
 * @param {...(Node | null)} children
 */
export function fold(label, key, ...children) {
  const open = folds.get(key) ?? !matchMedia("(max-width: 47.99rem)").matches;
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

/** @type {number | undefined} */
let hiding;

/** Say in passing what an action did, to those who see it and to those who do not. @param {string} text */
export function announce(text) {
  (document.querySelector("dialog[open]") ?? byId("messages")).append(announcer);
  announcer.textContent = text;
  announcer.classList.add("shown");
  window.clearTimeout(hiding);
  hiding = window.setTimeout(() => announcer.classList.remove("shown"), MESSAGE);
}
