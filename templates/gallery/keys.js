// The keys, and the dialog that tells them.
import { rankIn, report } from "./data.js";
import { step, stepClass, togglePin } from "./dialog.js";
import { button, byId, checkbox, h } from "./dom.js";
import { change, state } from "./state.js";
import { t } from "./words.js";

/** Whether single letters are commands; a reader can switch them off. */
let keysOn = true;

/** @type {[string, string][]} */
const KEYS_HELP = [
  ["← → ↑ ↓ Home End", "keys.move"],
  ["Enter", "keys.open"],
  ["Esc", "keys.close"],
  ["← → ↑ ↓", "keys.cross"],
  ["[ ]", "keys.class"],
  ["- =", "keys.opacity"],
  ["p", "keys.pin"],
  ["n b", "keys.step"],
  ["?", "keys.help"],
];

export function showHelp() {
  byId("help").replaceChildren(
    h(
      "header",
      {},
      h("h2", { id: "help-title" }, t("help.title")),
      button(t("close"), "close-help", () =>
        /** @type {HTMLDialogElement} */ (byId("help")).close(),
      ),
    ),
    h("p", {}, t("help.start")),
    h(
      "dl",
      { class: "rows" },
      ...KEYS_HELP.map(([keys, what]) =>
        h(
          "div",
          {},
          h("dt", {}, ...keys.split(" ").flatMap((key) => [h("kbd", {}, key), " "])),
          h("dd", {}, t(what)),
        ),
      ),
    ),
    checkbox(t("keys.on"), "keys-on", keysOn, (on) => (keysOn = on)),
    h("p", { class: "hint" }, t("help.link")),
  );
}

export function openHelp() {
  const help = /** @type {HTMLDialogElement} */ (byId("help"));
  if (!help.open) help.showModal();
}

/** Show the next or previous class, where one is chosen for the view. @param {number} by */
function stepRank(by) {
  const { view, rows, columns, beside } = state;
  if (view === "matrix" && [rows, columns, beside].includes("class")) return;
  change({ rank: (rankIn(state.image, state.rank) + by + report.ranks) % report.ranks });
}

/** @param {KeyboardEvent} event */
export function onKey(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const typing = target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
  const help = /** @type {HTMLDialogElement} */ (byId("help"));
  if (!keysOn || typing || help.open || event.ctrlKey || event.altKey || event.metaKey) return;
  const cell = /** @type {HTMLElement | null} */ (target.closest(".cell[data-id]"));
  const id = state.open || cell?.dataset.id;
  /** @type {Record<string, () => void>} */
  const commands = {
    "?": openHelp,
    "-": () => change({ opacity: Math.max(0, state.opacity - 5) }),
    "=": () => change({ opacity: Math.min(100, state.opacity + 5) }),
    "[": () => (state.open ? stepClass(-1) : stepRank(-1)),
    "]": () => (state.open ? stepClass(1) : stepRank(1)),
    p: () => id && togglePin(id),
    n: () => state.open && step(1),
    b: () => state.open && step(-1),
  };
  const command = commands[event.key];
  if (!command) return;
  event.preventDefault();
  command();
}
