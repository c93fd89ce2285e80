// The state in the browser's address and history: every change shows in the address, some are steps.
import { data, state, store } from "../app";
import { all } from "../parts/dom";
import { linkOf, readLink } from "./link";
import { LASTING, type State } from "./state";

/** What of the lasting fields was chosen since the page was last opened by an address. */
let chosen: Partial<State> = {};

/** While a step is being taken back: the addresses before the steps that were made since. */
let overtaken: string[] | null = null;

const link = (changes: Partial<State> = {}) => linkOf({ ...state, ...changes }, data);

/** What makes an element a link to another state; it follows where the present one changes. */
export const linkTo = (changes: Partial<State>) => ({
  href: link(changes),
  "data-to": JSON.stringify(changes),
});

/** Let all links start from the present state. */
export function refreshLinks() {
  for (const anchor of all("a[data-to]"))
    anchor.setAttribute("href", link(JSON.parse(anchor.dataset.to ?? "")));
}

/** Go where a link leads, as a step. */
function takeLink(event: MouseEvent) {
  const anchor = (event.target as Element).closest<HTMLElement>("a[data-to]");
  if (!anchor || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  change(JSON.parse(anchor.dataset.to ?? ""), true);
}

export function followHistory() {
  history.replaceState({ ...history.state, visited: true }, "");
  window.addEventListener("popstate", settle);
  window.addEventListener("hashchange", takeAddress);
  document.addEventListener("click", takeLink);
}

/**
 * Once a step has been taken back: let the address there say what is shown, and make the steps
 * since.
 */
function settle() {
  history.scrollRestoration = "auto";
  if (!overtaken) return;
  const [there, ...later] = [...overtaken, link()];
  overtaken = null;
  history.replaceState(history.state, "", there);
  for (const url of later) history.pushState({ visited: true, step: true }, "", url);
}

/** Take the state of the address, which was entered or lies in the history. */
function takeAddress() {
  const { visited } = history.state ?? {};
  if (!visited) chosen = {};
  store.set({ ...readLink(location.hash, data), ...chosen });
  history.replaceState({ ...history.state, visited: true }, "", visited ? link() : undefined);
}

/**
 * Change the state and the link with it.
 * @param step whether the browser's back button returns to the state before
 */
export function change(changes: Partial<State>, step = false) {
  for (const field of LASTING)
    if (field in changes) chosen = { ...chosen, [field]: changes[field] };
  const [here, url] = [link(), link(changes)];
  const moves = step && url !== here;
  if (moves && overtaken) overtaken.push(here);
  else if (moves) {
    if (changes.open) history.scrollRestoration = "manual"; // the page stays where it is behind a map
    history.pushState({ visited: true, step }, "", url);
  } else history.replaceState(history.state, "", url);
  store.set(changes);
}

/** Take back the last step; what was chosen meanwhile stays. */
export function leave(changes: Partial<State>) {
  if (overtaken?.pop() === undefined) {
    if (!history.state?.step) return change(changes);
    overtaken = [];
    history.back();
  }
  store.set(changes);
}
