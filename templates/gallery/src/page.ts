// The page: started once its data is there, it shows the present view and follows the state.
import { data, report, setApp, state, store } from "./app";
import { idOf } from "./data/cells";
import { Chunks } from "./data/chunks";
import { Dataset } from "./data/dataset";
import type { Report } from "./data/types";
import { openCell, showCell, startDialog } from "./dialog/dialog";
import { drawAhead, drawAll, flatten, redraw, unflatten } from "./maps/frames";
import { layOut } from "./paper/paper";
import { byId, keepFocus } from "./parts/dom";
import { refreshLegends } from "./parts/legend";
import { prose, t } from "./parts/words";
import { onKey } from "./shell/keys";
import { startAppearance } from "./shell/appearance";
import { offerControls, refreshBar, showShell } from "./shell/shell";
import { refreshTabs } from "./shell/tabs";
import { followHistory, refreshLinks } from "./state/history";
import { readLink } from "./state/link";
import { APPEARANCE, LOOKS, type State, concerns, pick } from "./state/state";
import { type Changed, Store } from "./state/store";
import { apart } from "./views/apart";
import { readCaptions } from "./views/captions";
import { compareView } from "./views/compare";
import { evidenceView } from "./views/evidence/evidence";
import { matrixView } from "./views/matrix/matrix";
import { methodsView } from "./views/methods";
import { noChannelsView } from "./views/no_channels";
import { overviewView } from "./views/overview/overview";
import { stopFlicker } from "./views/pair";
import { markPins } from "./views/pins";
import { provenanceView } from "./views/provenance";
import { summaryView } from "./views/summary/summary";
import { layOutTables, tablesView } from "./views/tables";
import type { View } from "./views/view";

const VIEWS: Record<State["view"], () => View | Promise<View>> = {
  summary: () => (data.runs.length ? apart("runs") : summaryView()),
  runs: () => apart("runs"),
  overview: overviewView,
  matrix: matrixView,
  atlas: () => apart("atlas"),
  evidence: evidenceView,
  compare: compareView,
  channels: () => (report.channels.length ? apart("channels") : noChannelsView()),
  tables: tablesView,
  methods: methodsView,
  provenance: provenanceView,
};

/** Terms of a query that ask where images lie among others. */
const LOCATING = /(cluster|lasso)\s*[:：=]/i;

/** The view that is shown; null while another is being built. */
let shown: View | null = null;

/** Counts what was begun, so that what was overtaken is dropped. */
let turn = 0;

/** Build the present view, and give the focus back to what had it. */
async function showView() {
  const mine = ++turn;
  stopFlicker();
  shown = null;
  if (state.view === "atlas" || LOCATING.test(state.query)) await data.loadAtlas();
  const next = await VIEWS[state.view]();
  if (mine !== turn) return;
  shown = next;
  const view = byId("view");
  keepFocus(view, () => view.replaceChildren(next.root));
  document.title = `${t(`view.${state.view}`)} · ${prose().run}`;
  finishView();
}

/** What every view needs once it is in place. */
function finishView() {
  offerControls(shown?.uses ?? [...APPEARANCE, "numbers", "rank"]);
  drawAhead();
  markPins();
}

/** Let the view follow a change, or build it anew. */
function updateView(changed: Changed<State>) {
  if (changed.has("view")) window.scrollTo({ top: 0 });
  const unlocated = !data.atlas && LOCATING.test(state.query);
  const other = changed.has("run") && !shown?.uses?.includes("run");
  if (
    shown &&
    !unlocated &&
    !other &&
    !concerns(changed, "view", "language") &&
    shown.update(changed)
  )
    finishView();
  else showView();
}

/** Colour what is shown anew. */
function recolour() {
  refreshLegends();
  redraw();
}

const showTheme = () => (document.documentElement.dataset.theme = state.theme);

const nameControls = () => data.nameControls(prose().evidence.controls);

/** Only the table of maps is drawn from permuted weights, and what is opened there. */
const showNetwork = () => (data.network = state.view === "matrix" ? state.network : "trained");

/** Where all runs are shown, classes and predictions are those of the first one. */
function showRun() {
  const { view, rows, columns, beside, run } = state;
  const together = view === "matrix" && [rows, columns, beside].includes("run");
  data.showRun(together || view === "summary" ? 0 : run);
}

/** What happens on the page when the state changes, in this order. */
function followState() {
  store.subscribe(({ language }) => language, nameControls);
  store.subscribe((state) => pick(state, ["view", "network"]), showNetwork);
  store.subscribe((state) => pick(state, ["view", "run", "rows", "columns", "beside"]), showRun);
  store.subscribe(({ language }) => language, showShell);
  store.subscribe(({ theme }) => theme, showTheme);
  store.subscribe((state) => pick(state, [...LOOKS, "apart"]), recolour);
  store.subscribe((state) => pick(state, ["view", "pins"]), refreshTabs);
  store.subscribe(
    (state) => pick(state, [...APPEARANCE, "numbers", "rank", "run", "theme"]),
    refreshBar,
  );
  store.subscribe(({ open: _, theme: __, ...others }) => others, updateView);
  store.subscribe(
    (state) => pick(state, ["open", "language", "network", "pins", ...LOOKS]),
    showCell,
  );
  store.subscribe((state) => state, refreshLinks);
}

function showMissing() {
  const { missing } = data.chunks;
  const notice = byId("missing");
  notice.hidden = missing.size === 0;
  notice.textContent = t("missing", { files: [...missing].join(t("comma")) });
}

function openClicked(event: MouseEvent) {
  const cell = (event.target as Element).closest<HTMLElement>(".cell[data-id]");
  if (cell?.dataset.id && idOf(cell.dataset.id).method) openCell(cell.dataset.id);
}

function layOutPaper() {
  const view = byId("view");
  data.network = "trained"; // the sheets are those of the run
  layOut();
  showNetwork();
  if (state.view === "tables") layOutTables(view);
  drawAll(view);
  if (state.view === "tables") flatten(view);
}

function clearPaper() {
  byId("paper").replaceChildren();
  unflatten(byId("view"));
  if (state.view === "tables") showView();
}

function listen() {
  byId("view").addEventListener("click", openClicked);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("view").focus();
  });
  document.addEventListener("keydown", onKey);
  document.addEventListener("missing", showMissing);
  window.addEventListener("beforeprint", layOutPaper);
  window.addEventListener("afterprint", clearPaper);
}

async function start(shipped: Report) {
  const dataset = new Dataset(shipped, chunks);
  setApp(dataset, new Store(readLink(location.hash, dataset)));
  followHistory();
  followState();
  readCaptions();
  startDialog();
  startAppearance();
  if (!shipped.folder) dataset.unpackAll();
  document.getElementById("fallback")?.remove(); // with the data that has been read
  byId("app").hidden = false;
  nameControls();
  showNetwork();
  showRun();
  showShell();
  showTheme();
  recolour();
  listen();
  await showView();
  if (state.open) showCell(new Set(["open"]));
}

const chunks = new Chunks();

/** Take a chunk; the report's own starts the page. */
function camreport(name: string, content: unknown) {
  if (name !== "report") return chunks.receive(name, content);
  const begin = () => start(content as Report);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
}

/** Where the report's own data does not arrive, say so above the contact sheet. */
function sayUnread(event: Event) {
  if (!(event.target instanceof HTMLScriptElement) || data) return;
  document.documentElement.classList.remove("js");
  document.addEventListener("DOMContentLoaded", () => (byId("unread").hidden = false));
}

Object.assign(window, { camreport });
document.documentElement.classList.add("js");
window.addEventListener("error", sayUnread, true);
const own = document.getElementById("report");
if (own) camreport("report", JSON.parse(own.textContent ?? "null"));
