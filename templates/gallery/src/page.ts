// The page: its frame, its views, its keys. Started once the data is there.
import { channelsView } from "./views/channels";
import { compareView, moveCompare } from "./views/compare";
import { idOf, missing, receive, report, setReport, unpackAll } from "./data/dataset";
import { openCell, showCell, startDialog } from "./views/dialog";
import { all, byId, h, keepFocus } from "./parts/dom";
import { drawAhead, drawAll, flatten, redraw, unflatten } from "./maps/frames";
import { onKey } from "./shell/keys";
import { matrixView, scaleWords } from "./views/matrix";
import { overviewView } from "./views/overview";
import { LETTERS, stopFlicker } from "./views/pair";
import { layOut } from "./paper/paper";
import { methodsView, provenanceView } from "./views/reading";
import { showControls, showFrame, showLegend, showNav } from "./shell/shell";
import { LOOKS, refreshLinks, startState, state } from "./state/state";
import { layOutTables, readCaptions, tablesView } from "./views/tables";
import { prose, t } from "./parts/words";
import type { Report, State, View } from "./data/types";

const VIEWS: Record<View, (root: HTMLElement) => unknown> = {
  overview: overviewView,
  matrix: matrixView,
  compare: compareView,
  channels: channelsView,
  tables: tablesView,
  methods: methodsView,
  provenance: provenanceView,
};

/** Views with maps of their own making: built anew where their look changes. */
const PAINTED_AT_ONCE = ["compare", "channels"];

/** Fields of the comparison that move pictures and build nothing. */
const MOVES = ["zoom", "atX", "atY", "swipe"];

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
  keepFocus(view, () => view.replaceChildren(root));
  document.title = `${t(`view.${state.view}`)} · ${prose().title} — camreport`;
  drawAhead();
  markPins();
}

/** Show on the maps themselves which are pinned. */
function markPins() {
  for (const cell of all("#view .cell[data-id]")) {
    const place = state.pins.indexOf(cell.dataset.id ?? "");
    if (place < 0) delete cell.dataset.pin;
    else cell.dataset.pin = LETTERS[place];
  }
}

/** Colour what is shown anew. */
function recolour() {
  document.documentElement.style.setProperty("--opacity", String(state.opacity / 100));
  redraw();
  for (const words of all(".scale-words")) words.textContent = scaleWords();
}

/** Fields that change a look of their own: what is drawn by CSS alone, or follows by itself. */
const BY_THEMSELVES = ["opacity", "show", "grey"];

/** Show what has changed, and build no more than that needs. */
function applyChanges(changed: Set<keyof State>) {
  const fields = [...changed];
  const looks = fields.filter((field) => LOOKS.includes(field));
  const moves = fields.filter((field) => MOVES.includes(field));
  const others = fields.filter(
    (field) => ![...looks, ...moves, "open", "theme", "pins"].includes(field),
  );
  if (changed.has("language") || changed.has("theme")) showFrame();
  if (looks.length) {
    if (byId("controls").contains(document.activeElement)) showLegend();
    else showControls();
    recolour();
  }
  if (changed.has("pins")) {
    showNav();
    markPins();
  }
  const retold = looks.length || changed.has("pins") || changed.has("language");
  if (changed.has("open") || (state.open && retold)) showCell();
  const painted = looks.some((field) => !BY_THEMSELVES.includes(field));
  if (others.length || (changed.has("pins") && state.view === "compare")) {
    if (changed.has("view")) window.scrollTo({ top: 0 });
    showNav();
    showControls();
    showView();
  } else if (painted && PAINTED_AT_ONCE.includes(state.view)) showView();
  else if (moves.length) moveCompare(byId("view"));
  refreshLinks();
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
    const cell = (event.target as HTMLElement).closest(".cell[data-id]") as HTMLElement | null;
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
    if (state.view === "tables") layOutTables(byId("view"));
    drawAll(byId("view"));
    if (state.view === "tables") flatten(byId("view"));
  });
  window.addEventListener("afterprint", () => {
    byId("paper").replaceChildren();
    unflatten(byId("view"));
    if (state.view === "tables") showView();
  });
}

/** Take a chunk; the report's own starts the page. */
function camreport(name: string, content: unknown) {
  if (name !== "report") return receive(name, content);
  setReport(content as Report);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
}

/** Where the report's own data does not arrive, say so above the contact sheet. */
function sayUnread(event: Event) {
  if (!(event.target instanceof HTMLScriptElement) || report) return;
  document.documentElement.classList.remove("js");
  document.addEventListener("DOMContentLoaded", () => (byId("unread").hidden = false));
}

Object.assign(window, { camreport });
document.documentElement.classList.add("js");
window.addEventListener("error", sayUnread, true);
const own = document.getElementById("report");
if (own) camreport("report", JSON.parse(own.textContent ?? "null"));
