// What came out, in a sentence.
import { h } from "../../parts/dom";
import { prose } from "../../parts/words";
import { type View, viewRoot } from "../view";

export function summaryView(): View {
  const root = viewRoot("summary", h("h2", {}, prose().lede));
  return { root, update: () => true, uses: [] };
}
