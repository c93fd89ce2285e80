// How maps are drawn: presets that set several fields at once, and a control for each field.
import { data, report, state } from "../app";
import { type Option, button, checkbox, keepPressed, select, slider } from "../parts/controls";
import { all, byId, h } from "../parts/dom";
import { t } from "../parts/words";
import { change } from "../state/history";
import { LOOKS, type State, initialState, some } from "../state/state";

export const appearance = () => [
  h(".named", h("h2", { id: "appearance-title" }, t("appearance")), resetButton()),
  presetButtons(),
  ...sliders(),
  ...choices(),
  checks(),
];

/** Screens on which the controls stand beside the maps, and do not lie over them. */
const wide = matchMedia("(width >= 80rem)");

/** Let the panel stay open beside the maps where there is room; else a click beside closes it. */
function dock() {
  byId("appearance").popover = wide.matches ? "manual" : "auto";
}

export function startAppearance() {
  dock();
  wide.addEventListener("change", dock);
  byId("tools").addEventListener("keydown", ({ key }) => {
    if (key !== "Escape") return;
    byId("appearance").hidePopover();
    byId("open-appearance").focus();
  });
}

/** Whether the state has some values already. */
function shows(values: Partial<State>) {
  const then = { ...state, ...values };
  return LOOKS.every((field) => then[field] === state[field]);
}

/** How maps look in a report that was just opened. */
const standard = () => some(initialState(data), LOOKS);

const resetButton = () =>
  button(t("appearance.reset"), "reset-look", () => change(standard()), { class: "plain" });

/** Values that make a look together, by its name. */
function presets(): [name: string, look: Partial<State>][] {
  const { opacity, colormap } = initialState(data);
  const plain = { lift: false, contours: false, cells: false, grey: false };
  const heat = { ...plain, show: "overlay", byValue: true, opacity, colormap } as const;
  return [
    ["heat", heat],
    ["papers", { ...heat, byValue: false, opacity: 50, colormap: "jet" }],
    ["outline", { ...heat, show: "photo", contours: true }],
    ["cells", { ...heat, cells: true }],
  ];
}

function presetButtons() {
  const buttons = presets().map(([name, look]) => {
    const own = button(t(`preset.${name}`), `preset ${name}`, () => change(look));
    return keepPressed(own, () => shows(look));
  });
  return h(".presets", { role: "group", "aria-label": t("presets") }, ...buttons);
}

function sliders() {
  const say = (value: number) => `${value}%`;
  return [
    slider(
      t("opacity"),
      "opacity",
      { min: 0, max: 100, step: 5 },
      () => state.opacity,
      say,
      (opacity) => change({ opacity }),
    ),
    slider(
      t("threshold"),
      "threshold",
      { min: 0, max: 95, step: 5 },
      () => state.threshold,
      say,
      (threshold) => change({ threshold }),
    ),
  ];
}

const choices = () => [
  select<State["scale"]>(
    t("scale"),
    "scale",
    ["map", "method", "image", "report"].map((key): Option => [key, t(`scale.${key}`)]),
    () => state.scale,
    (scale) => change({ scale }),
  ),
  select(
    t("colours"),
    "colormap",
    report.colormaps.map((name): Option => [name, name === "jet" ? t("colours.jet") : name]),
    () => state.colormap,
    (colormap) => change({ colormap }),
  ),
  select<State["show"]>(
    t("show"),
    "show",
    ["overlay", "heat", "photo"].map((key): Option => [key, t(`show.${key}`)]),
    () => state.show,
    (show) => change({ show }),
  ),
];

function checks() {
  const check = (key: "byValue" | "lift" | "contours" | "cells" | "grey" | "boxes" | "numbers") =>
    checkbox(
      t(key),
      key,
      () => state[key],
      (on) => change({ [key]: on }),
    );
  const apart = () => checkbox(t("apart"), "apart", () => state.apart, showApart);
  return h(
    ".checks",
    ...(["byValue", "lift", "contours", "cells", "grey"] as const).map(check),
    hasRegions() && check("boxes"),
    check("numbers"),
    report.methods.some((method) => method.like) ? apart() : null,
  );
}

/** Whether it is known where objects are. */
const hasRegions = () => report.evidence?.questions.some(({ key }) => key === "regions") ?? false;

/** Give methods that coincide columns of their own, or take them away. */
const showApart = (apart: boolean) =>
  change({ apart, method: data.ownMethod(state.method, apart) });

/** Say whether maps look otherwise than in a report that was just opened. */
export function markChanged() {
  const changed = !shows(standard());
  byId("open-appearance").classList.toggle("changed", changed);
  for (const reset of all('[data-focus="reset-look"]')) reset.hidden = !changed;
}

/** Offer the controls that act on the present view; where none does, not even the button. */
export function offerLooks(fields: readonly (keyof State)[]) {
  const used = new Set<string>(fields);
  byId("open-appearance").hidden = !LOOKS.some((field) => used.has(field));
  for (const control of all("#appearance .control, #appearance .check")) {
    const key = control.querySelector<HTMLElement>("[data-focus]")?.dataset.focus ?? "";
    control.hidden = !used.has(key);
  }
}
