// The page: its frame, its views, its keys. Started once the data is there.
import { idOf, missing, rankIn, receive, report, setReport, tables, unpackAll } from "./data.js";
import { channelsView } from "./channels.js";
import { compareView, moveCompare } from "./compare.js";
import { openCell, showCell, startDialog, step, stepClass, togglePin } from "./dialog.js";
import { all, bdi, button, byId, checkbox, fold, h, select, slider } from "./dom.js";
import { drawAll, flatten, redraw, unflatten } from "./frames.js";
import { ZERO, paintBar } from "./heat.js";
import { matrixView, scaleWords } from "./matrix.js";
import { overviewView } from "./overview.js";
import { stopFlicker } from "./pair.js";
import { layOut } from "./paper.js";
import { failures, methodsView, provenanceView } from "./reading.js";
import { LOOKS, change, link, startState, state } from "./state.js";
import { readCaptions, tablesView } from "./tables.js";
import { prose, t } from "./words.js";

/** @type {Record<View, (root: HTMLElement) => unknown>} */
const VIEWS = {
  overview: overviewView,
  matrix: matrixView,
  compare: compareView,
  channels: channelsView,
  tables: tablesView,
  methods: methodsView,
  provenance: provenanceView,
};

/** Views without maps have no use for the controls. */
const WITHOUT_MAPS = ["methods", "provenance"];

/** Fields of the comparison that move pictures and build nothing. */
const MOVES = ["zoom", "atX", "atY", "swipe"];

/** Whether single letters are commands; a reader can switch them off. */
let keysOn = true;

/** Counts what was begun, so that what was overtaken is dropped. */
let turn = 0;

/** Build the present view, and give the focus back to what had it. */
async function showView() {
  const mine = ++turn;
  stopFlicker();
  const root = h("div", { class: `view view-${state.view}` });
  await VIEWS[state.view](root);
  if (mine !== turn) return;
  const view = byId("view");
  const focused = /** @type {HTMLElement | null} */ (
    view.contains(document.activeElement) ? document.activeElement : null
  );
  const key = focused?.dataset.focus;
  const caret =
    focused instanceof HTMLInputElement && focused.type === "search"
      ? focused.selectionStart
      : null;
  view.replaceChildren(root);
  if (!focused) return;
  const again = all("[data-focus]", root).find((element) => element.dataset.focus === key);
  (again ?? view).focus({ preventScroll: true });
  if (caret !== null && again instanceof HTMLInputElement) again.setSelectionRange(caret, caret);
}

/** Everything around the view. */
function showFrame() {
  const { title, lede, facts, warning, leftOut, failed } = prose();
  document.documentElement.lang = state.language === "zh" ? "zh-Hans" : state.language;
  document.title = title;
  const languages = Object.entries(report.languages);
  byId("masthead").replaceChildren(
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
        /** @type {[string, string][]} */ (
          ["auto", "light", "dark"].map((key) => [key, t(`theme.${key}`)])
        ),
        state.theme,
        (theme) => change({ theme: /** @type {State["theme"]} */ (theme) }),
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
    ...(failed.length ? [failures("h2")] : []),
  );
  byId("skip").textContent = t("skip");
  showNav();
  showControls();
  showHelp();
  document.documentElement.dataset.theme = state.theme;
}

function showNav() {
  const views = /** @type {View[]} */ (Object.keys(VIEWS)).filter(
    (view) => view !== "channels" || report.channels.length,
  );
  byId("nav").setAttribute("aria-label", t("views"));
  byId("nav").replaceChildren(
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
              href: link({ view, open: "" }),
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
  );
}

function showControls() {
  const controls = byId("controls");
  controls.hidden = WITHOUT_MAPS.includes(state.view);
  controls.setAttribute("aria-label", t("controls"));
  const focused = /** @type {HTMLElement | null} */ (
    controls.contains(document.activeElement) ? document.activeElement : null
  );
  const percentOf = (/** @type {number} */ value) => `${value} %`;
  const options = (/** @type {readonly string[]} */ keys, /** @type {string} */ prefix) =>
    keys.map((key) => /** @type {[string, string]} */ ([key, t(`${prefix}.${key}`)]));
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
        (scale) => change({ scale: /** @type {State["scale"]} */ (scale) }),
      ),
      select(t("show"), "show", options(["overlay", "heat", "photo"], "show"), state.show, (show) =>
        change({ show: /** @type {State["show"]} */ (show) }),
      ),
      h(
        "div",
        { class: "checks" },
        checkbox(t("byValue"), "byValue", state.byValue, (byValue) => change({ byValue })),
        checkbox(t("contours"), "contours", state.contours, (contours) => change({ contours })),
        checkbox(t("cells"), "cells", state.cells, (cells) => change({ cells })),
        checkbox(t("grey"), "grey", state.grey, (grey) => change({ grey })),
      ),
      legend(),
    ),
  );
  if (focused)
    all("[data-focus]", controls)
      .find((element) => element.dataset.focus === focused.dataset.focus)
      ?.focus();
}

function legend() {
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

/** Colour what is shown anew. */
function recolour() {
  document.documentElement.style.setProperty("--opacity", String(state.opacity / 100));
  redraw();
  for (const words of all(".scale-words")) words.textContent = scaleWords();
}

/** @param {Set<keyof State>} changed */
function applyChanges(changed) {
  const fields = [...changed];
  const looks = fields.every((field) => LOOKS.includes(field));
  if (changed.has("language") || changed.has("theme")) showFrame();
  const looked = fields.some((field) => LOOKS.includes(field));
  if (looked && !byId("controls").contains(document.activeElement)) showControls();
  if (looks && (changed.has("colormap") || changed.has("scale")))
    byId("controls").querySelector(".legend")?.replaceWith(legend());
  if (looked) recolour();
  if (changed.has("open") || (state.open && looks)) showCell();
  const own =
    ["compare", "channels"].includes(state.view) &&
    looks &&
    fields.some((field) => field !== "opacity" && field !== "show" && field !== "grey");
  const structural = fields.filter(
    (field) =>
      !LOOKS.includes(field) && field !== "open" && field !== "theme" && !MOVES.includes(field),
  );
  if (structural.length === 1 && structural[0] === "pins" && state.view !== "compare") {
    showNav();
    if (state.open) showCell();
  } else if (structural.length || own) {
    if (changed.has("view")) window.scrollTo({ top: 0 });
    showNav();
    showControls();
    showView();
  } else if (fields.some((field) => MOVES.includes(field))) moveCompare(byId("view"));
}

// --- help and keys

/** @type {[string, string][]} */
const KEYS_HELP = [
  ["← → ↑ ↓ Home End", "keys.move"],
  ["Enter", "keys.open"],
  ["Esc", "keys.close"],
  ["[ ]", "keys.class"],
  ["- =", "keys.opacity"],
  ["p", "keys.pin"],
  ["n b", "keys.step"],
  ["?", "keys.help"],
];

function showHelp() {
  byId("help").replaceChildren(
    h(
      "header",
      {},
      h("h2", { id: "help-title" }, t("help.title")),
      button(t("close"), "close-help", () =>
        /** @type {HTMLDialogElement} */ (byId("help")).close(),
      ),
    ),
    h(
      "dl",
      { class: "rows" },
      ...KEYS_HELP.map(([keys, what]) =>
        h(
          "div",
          {},
          h("dt", {}, ...keys.split(" ").flatMap((key) => [h("kbd", {}, key), " "])),
          h("dd", {}, t(what)),
        ),
      ),
    ),
    checkbox(t("keys.on"), "keys-on", keysOn, (on) => (keysOn = on)),
    h("p", { class: "hint" }, t("help.link")),
  );
}

function openHelp() {
  const help = /** @type {HTMLDialogElement} */ (byId("help"));
  if (!help.open) help.showModal();
}

/** Place of the next or previous class. @param {number} by */
const nextRank = (by) => (rankIn(state.image, state.rank) + by + report.ranks) % report.ranks;

/** @param {KeyboardEvent} event */
function onKey(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const typing = target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
  if (!keysOn || typing || event.ctrlKey || event.altKey || event.metaKey) return;
  const cell = /** @type {HTMLElement | null} */ (target.closest(".cell[data-id]"));
  const id = state.open || cell?.dataset.id;
  /** @type {Record<string, () => void>} */
  const commands = {
    "?": openHelp,
    "-": () => change({ opacity: Math.max(0, state.opacity - 5) }),
    "=": () => change({ opacity: Math.min(100, state.opacity + 5) }),
    "[": () => (state.open ? stepClass(-1) : change({ rank: nextRank(-1) })),
    "]": () => (state.open ? stepClass(1) : change({ rank: nextRank(1) })),
    p: () => id && togglePin(id),
    n: () => state.open && step(1),
    b: () => state.open && step(-1),
  };
  const command = commands[event.key];
  if (!command) return;
  event.preventDefault();
  command();
}

function showMissing() {
  const notice = byId("missing");
  notice.hidden = missing.size === 0;
  notice.textContent = t("missing", { files: [...missing].join(t("comma")) });
}

// --- start

async function start() {
  startState(applyChanges);
  readCaptions();
  startDialog();
  if (!report.folder) unpackAll();
  document.getElementById("fallback")?.remove(); // with the data that has been read
  byId("app").hidden = false;
  showFrame();
  recolour();
  await showView();
  if (state.open) showCell();
  const bars = () => {
    const sticky =
      getComputedStyle(byId("controls")).position === "sticky" && !byId("controls").hidden;
    document.documentElement.style.setProperty(
      "--bars",
      sticky ? `${byId("controls").offsetHeight}px` : "0px",
    );
  };
  new ResizeObserver(bars).observe(byId("controls"));
  byId("view").addEventListener("click", (event) => {
    const cell = /** @type {HTMLElement | null} */ (
      /** @type {HTMLElement} */ (event.target).closest(".cell[data-id]")
    );
    if (cell?.dataset.id && idOf(cell.dataset.id).method) openCell(cell.dataset.id);
  });
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("view").focus();
  });
  document.addEventListener("keydown", onKey);
  document.addEventListener("missing", showMissing);
  document.addEventListener("rebuild", showView);
  window.addEventListener("beforeprint", () => {
    layOut();
    drawAll(byId("view"));
    if (state.view === "tables") flatten(byId("view"));
  });
  window.addEventListener("afterprint", () => {
    byId("paper").replaceChildren();
    unflatten(byId("view"));
  });
}

/** Take a chunk; the report's own starts the page. @param {string} name @param {unknown} content */
function camreport(name, content) {
  if (name !== "report") return receive(name, content);
  setReport(/** @type {Report} */ (content));
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
}

/** Where the report's own data does not arrive, say so above the contact sheet. @param {Event} event */
function sayUnread(event) {
  if (!(event.target instanceof HTMLScriptElement) || report) return;
  document.documentElement.classList.remove("js");
  document.addEventListener("DOMContentLoaded", () => (byId("unread").hidden = false));
}

Object.assign(window, { camreport });
document.documentElement.classList.add("js");
window.addEventListener("error", sayUnread, true);
const own = document.getElementById("report");
if (own) camreport("report", JSON.parse(own.textContent ?? "null"));
