// The keys, and the dialog that tells them.
import { data, report, state } from "../app";
import { step, stepClass } from "../dialog/dialog";
import { showsMatrix } from "../parts/axes";
import { button, checkbox } from "../parts/controls";
import { byId, h } from "../parts/dom";
import { t } from "../parts/words";
import { change } from "../state/history";
import { focusSearch } from "./search";
import { togglePin } from "../views/pins";

/** Whether single letters are commands; a reader can switch them off. */
let keysOn = true;

/** Percent that a key changes the opacity by. */
const OPACITY_STEP = 5;

const KEYS: [keys: string, what: string][] = [
  ["← → ↑ ↓ Home End", "keys.move"],
  ["Enter", "keys.open"],
  ["Esc", "keys.close"],
  ["← → ↑ ↓", "keys.cross"],
  ["[ ]", "keys.class"],
  ["- =", "keys.opacity"],
  ["p", "keys.pin"],
  ["n b", "keys.step"],
  ["v", "keys.numbers"],
  ["/", "keys.find"],
  ["?", "keys.help"],
];

const help = () => byId<HTMLDialogElement>("help");

export function showHelp() {
  const rows = KEYS.map(([keys, what]) => {
    const shown = keys.split(" ").flatMap((key) => [h("kbd", key), " "]);
    return h("div", h("dt", ...shown), h("dd", t(what)));
  });
  help().replaceChildren(
    h(
      "header",
      h("h2", { id: "help-title" }, t("help.title")),
      button(t("close"), "close-help", () => help().close()),
    ),
    h("p", t("help.start")),
    h("dl.rows", ...rows),
    checkbox(
      t("keys.on"),
      "keys-on",
      () => keysOn,
      (on) => (keysOn = on),
    ),
    h("p.hint", t("help.link")),
  );
}

/** Open the help; from the menu, the focus comes back to the button that opens that. */
export function openHelp() {
  if (help().open) return;
  const menu = document.activeElement?.closest("[popover]");
  document.querySelector<HTMLElement>(`[popovertarget="${menu?.id}"]`)?.focus();
  help().showModal();
}

/** Show the next or previous class, where one is chosen for the view. */
function stepRank(by: number) {
  const { rows, columns, beside, image, rank } = state;
  if (showsMatrix() && [rows, columns, beside].includes("class")) return;
  const ranks = data.knownImage(image)?.targets.length ?? report.ranks;
  change({ rank: (data.rankIn(image, rank) + by + ranks) % ranks });
}

function stepOpacity(by: number) {
  change({ opacity: Math.min(Math.max(state.opacity + by, 0), 100) });
}

/** What each key does while a map is open, or the focus is on one. */
function commands(id: string | undefined): Record<string, () => unknown> {
  const open = Boolean(state.open);
  return {
    "?": openHelp,
    "-": () => stepOpacity(-OPACITY_STEP),
    "=": () => stepOpacity(OPACITY_STEP),
    "[": () => (open ? stepClass(-1) : stepRank(-1)),
    "]": () => (open ? stepClass(1) : stepRank(1)),
    p: () => id && togglePin(id),
    n: () => open && step(1),
    b: () => open && step(-1),
    v: () => change({ numbers: !state.numbers }),
    "/": () => !open && focusSearch(),
  };
}

export function onKey(event: KeyboardEvent) {
  const target = event.target as HTMLElement;
  const typing = target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
  if (!keysOn || typing || help().open || event.ctrlKey || event.altKey || event.metaKey) return;
  const cell = target.closest<HTMLElement>(".cell[data-id]");
  const command = commands(state.open || cell?.dataset.id)[event.key];
  if (!command) return;
  event.preventDefault();
  command();
}
