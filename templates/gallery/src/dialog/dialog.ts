// One map, large: its values, its high regions, what was found on it, and the maps beside it.
import { data, state } from "../app";
import { type CellId, idOf, idText } from "../data/cells";
import type { ImageRecord } from "../data/dataset";
import { isDrawn, tableName, wholeMap } from "../maps/look";
import { button, refreshControls, toggle } from "../parts/controls";
import { all, bdi, byId, h, keepFocus } from "../parts/dom";
import { badge } from "../parts/image";
import { boxKeys, paintColours } from "../parts/legend";
import { t } from "../parts/words";
import { change, leave } from "../state/history";
import { type State, concerns } from "../state/state";
import type { Changed } from "../state/store";
import { togglePin } from "../views/pins";
import { factList, findings } from "./findings";
import { linkCopier } from "./link";
import { measured } from "./measured";
import { type Open, probe } from "./probe";
import { detailsOf, endsOf, savePng, saveSvg, titleOf } from "./save";
import { neighbours, strips } from "./strips";
import { ways } from "./ways";

/** The map in the dialog, and how the dialog follows it. */
interface Shown extends Open {
  /** Show a map of the image. */
  show: (now: Open) => void;
  /** Follow a change of the look or of the pins. */
  look: (now: Open, changed: Changed<State>) => void;
  key: (event: KeyboardEvent) => void;
}

let shown: Shown | null = null;

/** What had the focus before. */
let returnTo = "";

const dialog = () => byId<HTMLDialogElement>("cell");

/** Open a map. */
export const openCell = (id: string) => change({ open: id }, true);

/** What is known of a map under the present scale. */
function read(id: CellId, image: ImageRecord): Open {
  const cam = data.camOf(image, id);
  return { id, image, cam, map: wholeMap(image, cam) };
}

/** Follow the state: open, change or close the dialog. */
export async function showCell(changed: Changed<State>) {
  const { open } = state;
  if (!open) {
    if (dialog().open) dialog().close();
    return;
  }
  if (shown && dialog().open && !concerns(changed, "open", "language", "network"))
    return shown.look(shown, changed);
  const id = idOf(open);
  const image = data.has(id.image) ? await data.imageOf(id.image, id.run) : null;
  if (!image || open !== idText(id)) return change({ open: "" });
  if (open !== state.open) return; // overtaken by another
  const now = read(id, image);
  const sameImage = dialog().open && shown?.id.image === id.image && !changed.has("language");
  shown = shown && sameImage ? { ...shown, ...now } : build(now);
  shown.show(now);
  if (dialog().open) return;
  const focused = document.activeElement?.closest<HTMLElement>("[data-focus]");
  returnTo = focused?.dataset.focus ?? `cell ${open}`;
  dialog().showModal();
}

/** Fill the dialog for an image; its maps come and go in what is there. */
function build(first: Open): Shown {
  const title = h("h2", { id: "cell-title" });
  const details = h("p.hint");
  const picture = probe(first);
  const beside = strips();
  const judged = h("span");
  const scale = colourScale();
  const facts = factList();
  const numbers = measured();
  const looks = h("div");
  const find = (now: Open) => {
    const { marks, facts: found } = findings(now);
    picture.mark(now, marks);
    facts.show(found);
  };
  const show = (now: Open) => {
    title.replaceChildren(bdi(titleOf(now.id, now.image)));
    details.replaceChildren(bdi(detailsOf(now.id)));
    judged.replaceChildren(badge(data.placeOf(now.id.image), now.id.run) ?? "");
    picture.show(now);
    keepFocus(looks, () => looks.replaceChildren(ways(Boolean(now.cam?.picture))));
    scale.show(now);
    find(now);
    numbers.show(now);
    beside.show(now.id, now.image);
    refreshControls(dialog());
  };
  const look = (now: Open, changed: Changed<State>) => {
    refreshControls(dialog());
    picture.redraw();
    if (concerns(changed, "colormap", "scale")) scale.show(now);
    if (!concerns(changed, "threshold", "scale", "cells")) return;
    now.map = wholeMap(now.image, now.cam);
    find(now);
  };
  const side = h(
    ".beside",
    looks,
    scale.root,
    boxKeys(),
    picture.reading,
    actions(),
    beside.root,
    numbers.root,
    facts.root,
  );
  keepFocus(dialog(), () =>
    dialog().replaceChildren(header(title, details, judged), h(".stage", picture.root, side)),
  );
  dialog().style.setProperty("--aspect", String(first.image.width / first.image.height));
  return { ...first, show, look, key: picture.key };
}

/** What the dialog shows, whether its image is predicted right, and the way out. */
const header = (...said: HTMLElement[]) =>
  h(
    "header",
    h("div", ...said),
    button(t("close"), "close", () => dialog().close()),
  );

/** What can be done with the open map. */
function actions() {
  const pinned = () => state.pins.includes(state.open);
  const toggleOpen = () => togglePin(state.open);
  const save = (as: typeof saveSvg) => () => shown && as(shown.id, shown.image);
  return h(
    ".actions",
    toggle(() => t(pinned() ? "unpin" : "pin"), "pin", pinned, toggleOpen),
    button(t("save"), "save", save(savePng)),
    button(t("save.svg"), "save-svg", save(saveSvg)),
    ...linkCopier(),
  );
}

/** The colours of the scale between its ends. */
function colourScale() {
  const bottom = h("span.bar-bottom");
  const canvas = h("canvas", { role: "img", "aria-label": t("cell.bar") });
  const top = h("span.bar-top");
  const root = h("p.bar-row", bottom, canvas, top);
  const show = ({ image, cam }: Open) => {
    root.hidden = !isDrawn(cam);
    if (!isDrawn(cam)) return;
    [bottom.textContent, top.textContent] = endsOf(image, cam);
    paintColours(canvas, tableName(cam));
  };
  return { root, show };
}

/** The next or previous map in the view. */
export function step(by: number) {
  const ids = all("#view .cell[data-id]")
    .filter((cell) => cell.offsetParent)
    .map((cell) => cell.dataset.id);
  const place = ids.indexOf(state.open);
  const next = place < 0 ? undefined : ids[place + by];
  if (next) change({ open: next });
}

/** The same map of the next or previous class. */
export function stepClass(by: number) {
  if (!shown) return;
  const classes = neighbours("class", shown.id, shown.image);
  const place = classes.findIndex(({ rank }) => rank === shown?.id.rank);
  const next = classes[(place + by + classes.length) % classes.length];
  if (next) change({ open: idText(next) });
}

/** Let the state follow, and give the focus back to the map that was shown last. */
function closed() {
  if (state.open) leave({ open: "" });
  const elements = all("#view [data-focus]");
  const last = shown && `cell ${idText(shown.id)}`;
  const seen = elements.find((element) => element.dataset.focus === last);
  (seen ?? elements.find((element) => element.dataset.focus === returnTo))?.focus();
}

export function startDialog() {
  dialog().addEventListener("click", (event) => {
    if (event.target === dialog()) dialog().close();
  });
  dialog().addEventListener("close", closed);
  dialog().addEventListener("keydown", (event) => shown?.key(event));
}
