// What stands around every view: title, settings, navigation, and how the maps are drawn.
import { ownMethod, report, tables } from "../data/dataset";
import { bdi, button, byId, checkbox, fold, h, keepFocus, select, slider } from "../parts/dom";
import { ZERO, paintBar } from "../maps/heat";
import { openHelp, showHelp } from "./keys";
import { failedList } from "../views/reading";
import { change, linkTo, state } from "../state/state";
import { prose, t } from "../parts/words";
import type { State, View } from "../data/types";

/** Every view, in the order of the navigation. */
const VIEW_NAMES = [
  "overview",
  "matrix",
  "compare",
  "channels",
  "tables",
  "methods",
  "provenance",
] as View[];

/** Views without maps have no use for the controls. */
const WITHOUT_MAPS = ["methods", "provenance"];

/** Everything around the view. */
export function showFrame() {
  const { title, lede, facts, warning, leftOut, failed } = prose();
  document.documentElement.lang = state.language === "zh" ? "zh-Hans" : state.language;
  const languages = Object.entries(report.languages);
  const masthead = byId("masthead");
  keepFocus(masthead, () =>
    masthead.replaceChildren(
      h("div", { class: "title" }, h("h1", {}, title), h("p", { class: "lede" }, lede)),
      h(
        "div",
        { class: "settings" },
        select(t("language"), "language", languages, state.language, (language) =>
          change({ language }),
        ),
        select(
          t("theme"),
          "theme",
          ["auto", "light", "dark"].map((key) => [key, t(`theme.${key}`)]) as [string, string][],
          state.theme,
          (theme) => change({ theme: theme as State["theme"] }),
        ),
        button(t("help"), "help", openHelp, { "aria-haspopup": "dialog" }),
      ),
      h(
        "details",
        { class: "about" },
        h("summary", {}, t("about")),
        h(
          "dl",
          { class: "facts" },
          ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, bdi(value)))),
        ),
      ),
      ...(warning ? [h("p", { class: "notice alarm" }, t("warning", { text: warning }))] : []),
      ...(leftOut.length
        ? [
            h(
              "section",
              { class: "notice", "aria-label": t("leftOut") },
              h("ul", {}, ...leftOut.map((reason) => h("li", {}, reason))),
            ),
          ]
        : []),
      ...(failed.length ? [failedNotice()] : []),
    ),
  );
  byId("skip").textContent = t("skip");
  showNav();
  showControls();
  showHelp();
  document.documentElement.dataset.theme = state.theme;
}

/** How many inputs could not be read; which, and why, on demand. */
function failedNotice() {
  const { failed, inputs } = prose();
  const title = t("failed.title", { failed: failed.length, all: inputs });
  return h(
    "details",
    { class: "notice" },
    h("summary", { "data-focus": "failed" }, title),
    failedList(),
  );
}

export function showNav() {
  const views = VIEW_NAMES.filter((view) => view !== "channels" || report.channels.length);
  const nav = byId("nav");
  nav.setAttribute("aria-label", t("views"));
  keepFocus(nav, () =>
    nav.replaceChildren(
      h(
        "ul",
        {},
        ...views.map((view) =>
          h(
            "li",
            {},
            h(
              "a",
              {
                ...linkTo({ view, open: "" }),
                "aria-current": view === state.view && "page",
                "data-focus": `view ${view}`,
              },
              t(`view.${view}`),
            ),
            view === "compare" && state.pins.length
              ? h("span", { class: "count" }, ` ${state.pins.length}`)
              : null,
          ),
        ),
      ),
    ),
  );
}

export function showControls() {
  const controls = byId("controls");
  controls.hidden = WITHOUT_MAPS.includes(state.view);
  controls.setAttribute("aria-label", t("controls"));
  const percentOf = (value: number) => `${value} %`;
  const options = (keys: readonly string[], prefix: string) =>
    keys.map((key) => [key, t(`${prefix}.${key}`)] as [string, string]);
  keepFocus(controls, () =>
    controls.replaceChildren(
      fold(
        t("controls"),
        "controls",
        slider(
          t("opacity"),
          "opacity",
          { min: 0, max: 100, step: 5, value: state.opacity },
          percentOf,
          (opacity) => change({ opacity }),
        ),
        slider(
          t("threshold"),
          "threshold",
          { min: 0, max: 95, step: 5, value: state.threshold },
          percentOf,
          (threshold) => change({ threshold }),
        ),
        select(
          t("colours"),
          "colormap",
          report.colormaps.map((name) => [name, name === "jet" ? t("colours.jet") : name]),
          state.colormap,
          (colormap) => change({ colormap }),
        ),
        select(
          t("scale"),
          "scale",
          options(["map", "method", "image", "report"], "scale"),
          state.scale,
          (scale) => change({ scale: scale as State["scale"] }),
        ),
        select(
          t("show"),
          "show",
          options(["overlay", "heat", "photo"], "show"),
          state.show,
          (show) => change({ show: show as State["show"] }),
        ),
        h(
          "div",
          { class: "checks" },
          checkbox(t("byValue"), "byValue", state.byValue, (byValue) => change({ byValue })),
          checkbox(t("contours"), "contours", state.contours, (contours) => change({ contours })),
          checkbox(t("cells"), "cells", state.cells, (cells) => change({ cells })),
          checkbox(t("grey"), "grey", state.grey, (grey) => change({ grey })),
          report.methods.some((method) => method.like)
            ? checkbox(t("apart"), "apart", state.apart, showApart)
            : null,
        ),
        legend(),
      ),
    ),
  );
}

/** Give methods that coincide columns of their own, or take them away. */
const showApart = (apart: boolean) => change({ apart, method: ownMethod(state.method, apart) });

/** What the colours mean now, while a control keeps the focus. */
export const showLegend = () => byId("controls").querySelector(".legend")?.replaceWith(legend());

/** What the colours mean. */
export function legend() {
  const own = h("canvas", { role: "img", "aria-label": t("legend") });
  paintBar(own, tables[state.colormap], 256);
  const rows = [
    h(
      "span",
      { class: "bar-row" },
      h("span", {}, "0"),
      own,
      h("span", {}, t(`legend.${state.scale}`)),
    ),
  ];
  if (report.methods.some((method) => method.signed)) {
    const signed = h("canvas", { role: "img", "aria-label": t("legend.signed") });
    paintBar(signed, tables.diverging, 2 * ZERO + 1);
    rows.push(
      h(
        "span",
        { class: "bar-row" },
        h("span", {}, t("legend.against")),
        signed,
        h("span", {}, t("legend.for")),
      ),
    );
  }
  return h("div", { class: "legend" }, ...rows);
}
