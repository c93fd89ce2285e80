// From anywhere to an image, by a part of its name.
import { data, report, state } from "../app";
import { focusOn } from "../parts/axes";
import { announce } from "../parts/announce";
import { h } from "../parts/dom";
import { MAX_IN_STRIP } from "../parts/image";
import { t } from "../parts/words";
import { quote } from "../query/parse";
import { change } from "../state/history";

/** Most names that a browser is given to complete. */
const MAX_NAMES = 500;

/** A field for a name, where there are more images than a strip shows. */
export function imageSearch() {
  const { file } = report.images;
  if (file.length <= MAX_IN_STRIP) return "";
  const input = h("input", {
    type: "search",
    placeholder: t("find"),
    "aria-label": t("find"),
    "aria-keyshortcuts": "/",
    "data-focus": "find",
    onkeydown: (event: KeyboardEvent) => event.key === "Enter" && find(input.value),
  });
  input.setAttribute("list", "names");
  const names = file.slice(0, MAX_NAMES).map((name) => h("option", { value: name }));
  return h("span.find", input, h("datalist", { id: "names" }, ...names));
}

/** The field with which a view finds images itself. */
export const ownSearch = () => document.querySelector<HTMLElement>("#view [data-focus=query]");

/** Go to the field that finds images: the view's own, or that of the bar. */
export const focusSearch = () =>
  (ownSearch() ?? document.querySelector<HTMLElement>("#pick [data-focus=find]"))?.focus();

/** Show the one image that a text names, or all whose names hold it. */
function find(text: string) {
  const { index, file } = report.images;
  const wanted = text.trim().toLowerCase();
  if (!wanted) return;
  const holding = index.filter((_, place) => file[place].toLowerCase().includes(wanted));
  const named = holding.filter((one) => file[data.placeOf(one)].toLowerCase() === wanted);
  const [found, ...others] = named.length ? named : holding;
  if (found === undefined) return announce(t("find.nothing", { text }));
  if (others.length) return change({ view: "overview", query: quote(text.trim()), page: 0 }, true);
  const { view } = state;
  const one = view === "channels" ? { image: found } : focusOn("image", found);
  change({ view: view === "channels" ? view : "matrix", ...one, open: "" }, true);
}
