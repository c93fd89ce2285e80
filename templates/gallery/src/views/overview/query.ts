// The query as a line to write, its mistakes in words, and its terms as chips to take away.
import { report, state } from "../../app";
import { button, search } from "../../parts/controls";
import { all, bdi, h } from "../../parts/dom";
import { t } from "../../parts/words";
import { meant, parse, quote } from "../../query/parse";
import { without } from "../../query/write";
import { change } from "../../state/history";
import { vocabularyOf } from "../../state/selection";
import { mistakeWords, numberKeys, termWords } from "./words";

const terms = () => parse(state.query, vocabularyOf(report));

/** A line to write the query in, with what it can say on demand. */
export function queryLine() {
  const mistakes = h("p", { id: "query-mistakes", class: "mistakes", role: "status" });
  const line = search(
    t("query"),
    "query",
    () => state.query,
    (query) => change({ query, page: 0 }),
  );
  for (const input of all("input", line)) {
    input.setAttribute("aria-describedby", mistakes.id);
    input.setAttribute("placeholder", t("query.placeholder"));
    input.setAttribute("spellcheck", "false");
  }
  const help = h("div", { id: "query-help", popover: "auto" }, ...grammar());
  const open = h("button", { type: "button", "data-focus": "query-help" }, "?");
  open.setAttribute("popovertarget", help.id);
  open.setAttribute("aria-label", t("query.help"));
  open.title = t("query.help");
  const root = h(".query", line, open, help, mistakes);
  const refresh = () => {
    const found = terms();
    const told = found.flatMap((term) => [
      "mistake" in term.asks && mistakeWords(term, term.asks),
      meant(term) && t("query.meant", { query: meant(term) }),
    ]);
    mistakes.textContent = told.filter(Boolean).join(t("space"));
    const invalid = found.some(({ asks }) => "mistake" in asks);
    for (const input of all("input", line)) input.setAttribute("aria-invalid", String(invalid));
  };
  refresh();
  return { root, refresh };
}

/** What a query can say, with this report's own names. */
function grammar() {
  const [one = "", other = one] = report.classes.map(quote);
  const { numbers, flips } = vocabularyOf(report);
  const [first = ""] = numbers;
  const examples: [query: string, words: string][] = [
    ["IMG_07", "name"],
    ['"two words"', "quotes"],
    ["right:no", "right"],
    [`class:${one},${other}`, "class"],
    [`is:${one}`, "is"],
    ...(flips ? [["flip:wrong", "flip"] satisfies [string, string]] : []),
    [`${first}<0.6`, "number"],
    ...(report.atlas.includes("clusters")
      ? [[`cluster:${one}/1`, "cluster"] satisfies [string, string]]
      : []),
  ];
  const rows = examples.map(([query, words]) =>
    h("div", h("dt", h("code", query)), h("dd", t(`query.says.${words}`))),
  );
  return [
    h("h3", t("query.help")),
    h("dl.rows", ...rows),
    h("p.hint", t("query.numbers", { numbers: numberKeys() })),
  ];
}

/** The terms that act, each to be taken away by itself. */
export function chips() {
  const root = h("ul.chips", { "aria-label": t("chips") });
  const refresh = () => {
    const inside = root.contains(document.activeElement);
    const shown = terms().flatMap(({ asks }, place) =>
      "kind" in asks ? [chip(termWords(asks), place)] : [],
    );
    root.replaceChildren(...shown.map((one) => h("li", one)));
    root.hidden = !shown.length;
    const next = shown.at(-1) ?? document.querySelector<HTMLElement>("#view [data-focus=query]");
    if (inside) next?.focus();
  };
  refresh();
  return { root, refresh };
}

const chip = (words: string, place: number) => {
  const act = () =>
    change({ query: without(state.query, vocabularyOf(report), place), page: 0 }, true);
  const own = button("", `chip ${place}`, act, {
    class: "chip",
    "aria-label": t("chip.remove", { filter: words }),
  });
  own.append(bdi(words), h("span", { "aria-hidden": "true" }, "×"));
  return own;
};
