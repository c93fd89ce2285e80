// The bar above every view: what the report is of, the views, what is looked at, how it is drawn.
import { data, state } from "../app";
import { chooser } from "../parts/chooser";
import { refreshControls } from "../parts/controls";
import { all, bdi, byId, h, keepFocus } from "../parts/dom";
import { prose, t } from "../parts/words";
import { change } from "../state/history";
import type { State } from "../state/state";
import { appearance, markChanged, offerLooks } from "./appearance";
import { showHelp } from "./keys";
import { menu } from "./menu";
import { imageSearch, ownSearch } from "./search";
import { refreshTabs, tabs } from "./tabs";

/** Fields of the state whose controls act on the present view. */
let used: readonly (keyof State)[] = [];

/** Everything around the view, in the present language. */
export function showShell() {
  const { language } = state;
  document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
  byId("skip").textContent = t("skip");
  byId("run").replaceChildren(home());
  fill("nav", tabs());
  fill(
    "pick",
    imageSearch(),
    data.runs.length ? chooser("run") : "",
    data.choosesClass ? chooser("class") : "",
  );
  fill("appearance", ...appearance());
  fill("menu", ...menu());
  nameButton("open-appearance", "appearance");
  nameButton("open-menu", "menu");
  showWarning();
  showHelp();
  refreshTabs();
  markChanged();
  offerControls(used);
}

/** The report's name leads to its start; the keys get there by the first tab. */
const home = () =>
  h(
    "a",
    {
      href: "",
      tabindex: "-1",
      onclick: (event: MouseEvent) => {
        event.preventDefault();
        change({ view: "summary", open: "" }, true);
      },
    },
    bdi(prose().run),
  );

/** Build a part of the bar anew. */
function fill(id: string, ...children: (Node | string)[]) {
  const part = byId(id);
  keepFocus(part, () => part.replaceChildren(...children));
}

function nameButton(id: string, key: string) {
  byId(id).setAttribute("aria-label", t(key));
  byId(id).title = t(key);
}

/** A warning about the model or its classes stands above every view. */
function showWarning() {
  const { warning } = prose();
  const line = byId("warning");
  line.hidden = !warning;
  line.replaceChildren(h("summary", { "data-focus": "warning" }, t("warning", { text: warning })));
}

/** Let the bar's controls show the present state. */
export function refreshBar() {
  for (const id of ["pick", "appearance", "menu"]) refreshControls(byId(id));
  markChanged();
}

/** Offer the controls of some fields of the state, and no others. */
export function offerControls(fields: readonly (keyof State)[]) {
  used = fields;
  for (const one of all("#pick .control")) {
    const key = all("[data-focus]", one)[0].dataset.focus;
    one.hidden = !fields.includes(key === "choose-run" ? "run" : "rank");
  }
  for (const one of all("#pick .find")) one.hidden = Boolean(ownSearch());
  offerLooks(fields);
}
