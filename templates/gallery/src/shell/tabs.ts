// The views as tabs: one stop of the tab key, the arrows move in it.
import { data, report, state } from "../app";
import { all, h } from "../parts/dom";
import { enableRoving } from "../parts/roving";
import { t } from "../parts/words";
import { linkTo } from "../state/history";
import { VIEWS, type View } from "../state/state";

/** Views that stand in the menu, for they are read and not looked at. */
export const IN_MENU: View[] = ["methods", "provenance"];

export function tabs() {
  const there = (view: View) =>
    (view !== "channels" || report.channels.length > 0) &&
    (view !== "atlas" || report.atlas.length > 0) &&
    (view !== "runs" || data.runs.length > 0) &&
    (view !== "evidence" || !data.runs.length);
  const shown = VIEWS.filter((view) => !IN_MENU.includes(view) && there(view));
  const list = h("div", { role: "tablist", "aria-label": t("views") }, ...shown.map(tab));
  enableRoving(list, "[role=tab]");
  list.addEventListener("keydown", press);
  return list;
}

const tab = (view: View) =>
  h(
    "a",
    { ...linkTo({ view, open: "" }), role: "tab", tabindex: "-1", "data-focus": `view ${view}` },
    t(`view.${view}`),
    view === "compare" && h("span.count"),
  );

/** The space bar presses a tab, as the enter key does. */
function press(event: KeyboardEvent) {
  if (event.key !== " ") return;
  event.preventDefault();
  if (event.target instanceof HTMLElement) event.target.click();
}

/** Say which tab is chosen, and how many maps wait to be compared. */
export function refreshTabs() {
  const { view, pins } = state;
  const own = all("#nav [role=tab]");
  const chosen = own.find((one) => one.dataset.focus === `view ${view}`);
  for (const one of own) {
    one.setAttribute("aria-selected", String(one === chosen));
    one.tabIndex = one === (chosen ?? own[0]) ? 0 : -1;
  }
  chosen?.scrollIntoView({ block: "nearest", inline: "nearest" });
  for (const count of all("#nav .count")) count.textContent = pins.length ? ` ${pins.length}` : "";
}
