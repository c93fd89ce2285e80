// Captions of figures that can be rewritten; kept in the browser where it allows that.
import { report } from "../app";
import { button } from "../parts/controls";
import { all, h } from "../parts/dom";
import { t } from "../parts/words";

type Captions = Record<string, string>;

/** Captions as rewritten, by figure. */
let rewritten: Captions = {};

/** Captions that were given up since the page was opened. */
let givenUp: Captions = {};

const storeName = () => `camreport ${report.id} captions`;

export function readCaptions() {
  try {
    rewritten = JSON.parse(localStorage.getItem(storeName()) ?? "{}");
  } catch {
    rewritten = {}; // a browser that keeps nothing for files
  }
}

function storeCaptions() {
  for (const reset of all('[data-focus="reset"]')) reset.textContent = resetWords();
  try {
    localStorage.setItem(storeName(), JSON.stringify(rewritten));
  } catch {
    // the captions stay as long as the page is open
  }
}

/** Whether captions that were given up can come back. */
const canReturn = () => !Object.keys(rewritten).length && Object.keys(givenUp).length > 0;

const resetWords = () => t(canReturn() ? "tables.undo" : "tables.reset");

/** A button that gives up what was rewritten, or takes it back. */
export const resetButton = () =>
  button(resetWords(), "reset", () => {
    [rewritten, givenUp] = canReturn() ? [givenUp, {}] : [{}, { ...givenUp, ...rewritten }];
    storeCaptions();
    for (const caption of all(".caption")) caption.dispatchEvent(new Event("reset"));
  });

/** A figure's caption, to be rewritten. */
export function captionOf(key: string, text: string, number: number) {
  const show = () => (caption.textContent = rewritten[key] ?? text);
  const caption = h("p.caption", {
    contenteditable: "plaintext-only",
    role: "textbox",
    "aria-label": t("tables.caption", { number }),
    "data-focus": `caption ${key}`,
    onreset: show,
    oninput: () => {
      rewritten[key] = caption.textContent ?? "";
      storeCaptions();
    },
    onblur: () => {
      if (caption.textContent?.trim()) return;
      delete rewritten[key];
      storeCaptions();
      show();
    },
  });
  if (!caption.isContentEditable) caption.contentEditable = "true"; // a browser that is older
  show();
  return caption;
}
