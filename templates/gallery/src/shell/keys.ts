// The keys, and the dialog that tells them.
import { rankIn, report } from "../data/dataset";
import { step, stepClass, togglePin } from "../views/dialog";
import { button, byId, checkbox, h } from "../parts/dom";
import { change, state } from "../state/state";
import { t } from "../parts/words";

/** Whether single letters are commands; a reader can switch them off. */
let keysOn = true;

const KEYS_HELP: [string, string][] = [
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
      button(t("close"), "close-help", () => (byId("help") as HTMLDialogElement).close()),
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
  const help = byId("help") as HTMLDialogElement;
  if (!help.open) help.showModal();
}

/** Show the next or previous class, where one is chosen for the view. */
function stepRank(by: number) {
  const { view, rows, columns, beside } = state;
  if (view === "matrix" && [rows, columns, beside].includes("class")) return;
  change({ rank: (rankIn(state.image, state.rank) + by + report.ranks) % report.ranks });
}

export function onKey(event: KeyboardEvent) {
  const target = event.target as HTMLElement;
  const typing = target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
  const help = byId("help") as HTMLDialogElement;
  if (!keysOn || typing || help.open || event.ctrlKey || event.altKey || event.metaKey) return;
  const cell = target.closest(".cell[data-id]") as HTMLElement | null;
  const id = state.open || cell?.dataset.id;
  const commands: Record<string, () => void> = {
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
