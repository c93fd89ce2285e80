// What lies beside a map: all layers of its method, all methods at its layer, all its classes.
import { data, state } from "../app";
import { type CellId, idOf, idText } from "../data/cells";
import { CONTRAST, type ImageRecord } from "../data/dataset";
import { availability, layersOf, shownControls } from "../maps/availability";
import { frameOf } from "../maps/frames";
import { MIN_EPOCHS, runSlider } from "../parts/chooser";
import { all, bdi, h, keepFocus } from "../parts/dom";
import { enableRoving } from "../parts/roving";
import { className, layerIn, runName, t, withChance } from "../parts/words";
import { change } from "../state/history";

/** Pixels of the longer side of a map in a strip. */
const SIDE = 96;

/** Most maps of a strip that lie in lines; more lie in one that scrolls. */
const MAX_IN_LINES = 10;

const STRIPS = ["run", "layer", "method", "class"] as const;

type Strip = (typeof STRIPS)[number];

/** The maps in a strip, the present one among them. */
export function neighbours(strip: Strip, id: CellId, image: ImageRecord): CellId[] {
  if (strip === "run") return runsAround(id).map((run) => ({ ...id, run }));
  if (strip === "layer") return layersOf(id.method, id.run).map((layer) => ({ ...id, layer }));
  if (strip === "class") {
    if (!data.methodOf(id.method).classSpecific) return [];
    const contrast = data.camOf(image, { ...id, rank: CONTRAST }) ? [CONTRAST] : [];
    return [...image.targets.keys(), ...contrast].map((rank) => ({ ...id, rank }));
  }
  return [...data.ownMethods(state.apart), ...shownControls()]
    .filter(({ key }) => availability(key, id.layer, id.run) === "map")
    .map(({ key }) => ({ ...id, method: key }))
    .filter((one) => id.rank !== CONTRAST || data.camOf(image, one));
}

/** The runs, and what the one at hand, or else the last one, has more than the first. */
function runsAround({ run }: CellId) {
  const { length } = data.runs;
  return length ? [...data.runs.keys(), -(Math.abs(run) || length - 1)] : [];
}

/** What tells a map from the others in its strip. */
function nameIn(strip: Strip, id: CellId, image: ImageRecord) {
  if (strip === "run") return runName(id.run);
  if (strip === "layer") return layerIn(id.layer, id.run);
  if (strip === "method") return data.methodOf(id.method).name;
  if (id.rank === CONTRAST) return className(image, id.rank);
  return withChance(image, id.rank);
}

/** What all maps of a strip have in common. */
function headOf(strip: Strip, id: CellId) {
  if (strip === "layer") return t("strip.layer", { name: data.methodOf(id.method).name });
  if (strip === "method") return t("strip.method", { name: layerIn(id.layer, id.run) });
  return t(`strip.${strip}`);
}

/** The run of the open map; another one's in its place. */
const openRun = () => Math.abs(idOf(state.open).run);
const openIn = (run: number) => change({ open: idText({ ...idOf(state.open), run }) });

/** The strips, and how they follow to another map of the image. */
export function strips() {
  const there = STRIPS.filter((strip) => strip !== "run" || data.runs.length);
  const sections = there.map(section);
  return {
    root: h(".strips", ...sections.map(({ root }) => root)),
    show: (id: CellId, image: ImageRecord) => {
      for (const { show } of sections) show(id, image);
    },
  };
}

function section(strip: Strip) {
  const head = h("h3");
  const list = h(".neighbours", { role: "group" });
  const epochs =
    strip === "run" && data.runs.length >= MIN_EPOCHS ? runSlider(openRun, openIn) : null;
  const root = h("section", head, epochs, list);
  enableRoving(list, ".neighbour");
  let there = "";
  const show = (id: CellId, image: ImageRecord) => {
    const ids = neighbours(strip, id, image);
    root.hidden = ids.length < 2;
    root.style.setProperty("--count", String(ids.length));
    list.classList.toggle("many", ids.length > MAX_IN_LINES);
    head.textContent = headOf(strip, id);
    list.setAttribute("aria-label", head.textContent);
    const key = ids.map(idText).join(" ");
    const build = () => list.replaceChildren(...ids.map((one) => entry(strip, one, image)));
    if (key !== there) keepFocus(list, build);
    there = key;
    mark(list, idText(id));
  };
  return { root, show };
}

function entry(strip: Strip, id: CellId, image: ImageRecord) {
  const name = nameIn(strip, id, image);
  return h(
    "button.neighbour",
    {
      type: "button",
      "data-id": idText(id),
      "data-focus": `${strip} ${id[strip === "class" ? "rank" : strip]}`,
      onclick: () => change({ open: idText(id) }),
    },
    frameOf(id, SIDE),
    h("span.name", ...name.split(" · ").map(bdi)),
  );
}

/** Mark the map that is open; the tab key leads to it, unless another of its strip has the focus. */
function mark(list: HTMLElement, open: string) {
  const entries = all(".neighbour", list);
  const present = entries.find((one) => one.dataset.id === open);
  const stop = entries.find((one) => one === document.activeElement) ?? present ?? entries[0];
  for (const one of entries) {
    one.tabIndex = one === stop ? 0 : -1;
    one.ariaCurrent = one === present ? "true" : null;
  }
  // A dialog that is being opened has no layout yet.
  if (present) requestAnimationFrame(() => centre(list, present));
}

/** Scroll a strip so that one of its maps lies in its middle. */
function centre(list: HTMLElement, entry: HTMLElement) {
  const middle = entry.offsetLeft - list.offsetLeft + entry.offsetWidth / 2;
  list.scrollLeft = middle - list.clientWidth / 2;
}
