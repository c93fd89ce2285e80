// What stands around every view: title, settings, navigation, and how the maps are drawn.
import { data, store } from "../app";
import { type Option, button, checkbox, fold, select, slider } from "../parts/controls";
import { byId, definitions, h, keepFocus } from "../parts/dom";
import { legend } from "../parts/legend";
import { failedList, failedTitle } from "../parts/notes";
import { prose, t } from "../parts/words";
import { change, linkTo } from "../state/history";
import type { State } from "../state/state";
import { openHelp, showHelp } from "./keys";

type View = State["view"];

/** Every view, in the order of the navigation. */
const VIEWS: View[] = [
  "overview",
  "matrix",
  "compare",
  "channels",
  "tables",
  "methods",
  "provenance",
];

/** Views without maps have no use for the controls. */
const WITHOUT_MAPS: View[] = ["methods", "provenance"];

/** Everything around the view, in the present language. */
export function showShell() {
  const { language } = store.state;
  document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
  const masthead = byId("masthead");
  keepFocus(masthead, () => masthead.replaceChildren(...mastheadParts()));
  const controls = byId("controls");
  controls.setAttribute("aria-label", t("controls"));
  keepFocus(controls, () =>
    controls.replaceChildren(fold(t("controls"), "controls", ...lookControls(), legend())),
  );
  byId("skip").textContent = t("skip");
  showNav();
  showHelp();
}

function mastheadParts() {
  const { title, lede, facts, warning, leftOut, failed } = prose();
  return [
    h("div", { class: "title" }, h("h1", {}, title), h("p", { class: "lede" }, lede)),
    settings(),
    h("details", { class: "about" }, h("summary", {}, t("about")), definitions("facts", facts)),
    ...(warning ? [h("p", { class: "notice alarm" }, t("warning", { text: warning }))] : []),
    ...(leftOut.length ? [leftOutNotice(leftOut)] : []),
    ...(failed.length ? [failedNotice()] : []),
  ];
}

const settings = () =>
  h(
    "div",
    { class: "settings" },
    select(
      t("language"),
      "language",
      Object.entries(data.report.languages),
      () => store.state.language,
      (language) => change({ language }),
    ),
    select<State["theme"]>(
      t("theme"),
      "theme",
      ["auto", "light", "dark"].map((key): Option => [key, t(`theme.${key}`)]),
      () => store.state.theme,
      (theme) => change({ theme }),
    ),
    button(t("help"), "help", openHelp, { "aria-haspopup": "dialog" }),
  );

function leftOutNotice(reasons: string[]) {
  const list = h("ul", {}, ...reasons.map((reason) => h("li", {}, reason)));
  return h("section", { class: "notice", "aria-label": t("leftOut") }, list);
}

/** How many inputs could not be read; which, and why, on demand. */
const failedNotice = () =>
  h(
    "details",
    { class: "notice" },
    h("summary", { "data-focus": "failed" }, failedTitle()),
    failedList(),
  );

/** The navigation, and whether the controls have a use in the present view. */
export function showNav() {
  const views = VIEWS.filter((view) => view !== "channels" || data.report.channels.length);
  const nav = byId("nav");
  nav.setAttribute("aria-label", t("views"));
  keepFocus(nav, () =>
    nav.replaceChildren(h("ul", {}, ...views.map((view) => h("li", {}, ...navEntry(view))))),
  );
  byId("controls").hidden = WITHOUT_MAPS.includes(store.state.view);
}

function navEntry(view: View) {
  const shown = view === store.state.view && "page";
  const properties = { "aria-current": shown, "data-focus": `view ${view}` };
  const link = h("a", { ...linkTo({ view, open: "" }), ...properties }, t(`view.${view}`));
  const pins = store.state.pins.length;
  if (view !== "compare" || !pins) return [link];
  return [link, h("span", { class: "count" }, ` ${pins}`)];
}

/** How the maps are drawn. */
const lookControls = () => [...sliders(), ...choices(), checks()];

function sliders() {
  const say = (value: number) => `${value} %`;
  return [
    slider(
      t("opacity"),
      "opacity",
      { min: 0, max: 100, step: 5 },
      () => store.state.opacity,
      say,
      (opacity) => change({ opacity }),
    ),
    slider(
      t("threshold"),
      "threshold",
      { min: 0, max: 95, step: 5 },
      () => store.state.threshold,
      say,
      (threshold) => change({ threshold }),
    ),
  ];
}

const choices = () => [
  select(
    t("colours"),
    "colormap",
    data.report.colormaps.map((name): Option => [name, name === "jet" ? t("colours.jet") : name]),
    () => store.state.colormap,
    (colormap) => change({ colormap }),
  ),
  select<State["scale"]>(
    t("scale"),
    "scale",
    ["map", "method", "image", "report"].map((key): Option => [key, t(`scale.${key}`)]),
    () => store.state.scale,
    (scale) => change({ scale }),
  ),
  select<State["show"]>(
    t("show"),
    "show",
    ["overlay", "heat", "photo"].map((key): Option => [key, t(`show.${key}`)]),
    () => store.state.show,
    (show) => change({ show }),
  ),
];

function checks() {
  const check = (key: "byValue" | "contours" | "cells" | "grey", label: string) =>
    checkbox(
      label,
      key,
      () => store.state[key],
      (on) => change({ [key]: on }),
    );
  const apart = () => checkbox(t("apart"), "apart", () => store.state.apart, showApart);
  return h(
    "div",
    { class: "checks" },
    check("byValue", t("byValue")),
    check("contours", t("contours")),
    check("cells", t("cells")),
    check("grey", t("grey")),
    data.report.methods.some((method) => method.like) ? apart() : null,
  );
}

/** Give methods that coincide columns of their own, or take them away. */
const showApart = (apart: boolean) =>
  change({ apart, method: data.ownMethod(store.state.method, apart) });
