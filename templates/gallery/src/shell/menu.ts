// What is seldom needed: language, theme, what is read about the report, paper, keys.
import { report, state } from "../app";
import { type Option, button, select } from "../parts/controls";
import { byId, h } from "../parts/dom";
import { t } from "../parts/words";
import { change, linkTo } from "../state/history";
import type { State } from "../state/state";
import { openHelp } from "./keys";
import { IN_MENU } from "./tabs";

export const menu = () => [
  ...settings(),
  h("ul", { onclick: close }, ...entries().map((entry) => h("li", entry))),
  h("p.hint", t("menu.export"), " ", h("code", "camreport export OUT --pdf")),
];

const settings = () => [
  select(
    t("language"),
    "language",
    Object.entries(report.languages),
    () => state.language,
    (language) => change({ language }),
  ),
  select<State["theme"]>(
    t("theme"),
    "theme",
    ["auto", "light", "dark"].map((key): Option => [key, t(`theme.${key}`)]),
    () => state.theme,
    (theme) => change({ theme }),
  ),
];

const entries = () => [
  ...IN_MENU.map((view) =>
    h("a", { ...linkTo({ view, open: "" }), "data-focus": `view ${view}` }, t(`view.${view}`)),
  ),
  button(t("print"), "print-report", () => window.print()),
  button(t("help"), "help", openHelp, { "aria-haspopup": "dialog" }),
];

const close = () => byId("menu").hidePopover();
