// The images of one page, each with one map: in groups, where they are grouped.
import { data, report, state } from "../../app";
import { type CellId, idText } from "../../data/cells";
import { layerFor } from "../../maps/availability";
import { cellButton } from "../../maps/cell";
import { SIDES } from "../../maps/frames";
import { focusOn } from "../../parts/axes";
import { all, bdi, h } from "../../parts/dom";
import { topWords } from "../../parts/image";
import { t } from "../../parts/words";
import { isRight } from "../../query/match";
import { type Group, numberOf } from "../../query/order";
import { linkTo } from "../../state/history";
import { chosenGroups, pageAmong, queryWith } from "../../state/selection";
import { groupTerms, groupWords, numberWords } from "./words";

/** Images on a page. */
export const MAX_TILES = 100;

/** The tiles in view, by their maps: those that stay are not built anew. */
type Tiles = Map<string, HTMLElement>;

/** Fill a list with the present page; returns its tiles. */
export function fillTiles(root: HTMLElement, before: Tiles): Tiles {
  const tiles: Tiles = new Map();
  const parts = pageGroups().map(([group, shown]) => {
    const own = shown.map((place) => {
      const id = mapOf(place);
      const tile = before.get(idText(id)) ?? tileOf(place, id);
      tiles.set(idText(id), tile);
      sayNumber(tile, place);
      return tile;
    });
    const list = h("ul.tiles", ...own);
    return state.group === "none" ? list : h("section", head(group), list);
  });
  root.replaceChildren(...parts);
  return tiles;
}

/** Let a tile say the number that the images are sorted by; the probability stands there already. */
function sayNumber(tile: HTMLElement, place: number) {
  const number = numberOf(state.sort);
  for (const said of all(".sorted", tile))
    said.textContent = number && number.name !== "p" ? numberWords(number.name, place) : "";
}

/** The groups on the present page, each with the places that the page shows of it. */
function pageGroups() {
  const groups = chosenGroups();
  const count = groups.reduce((sum, { places }) => sum + places.length, 0);
  const first = pageAmong(count, MAX_TILES) * MAX_TILES;
  const shown: [Group, number[]][] = [];
  let before = 0;
  for (const group of groups) {
    const [from, to] = [first - before, first + MAX_TILES - before];
    const own = group.places.slice(Math.max(from, 0), Math.max(to, 0));
    if (own.length) shown.push([group, own]);
    before += group.places.length;
  }
  return shown;
}

/** What a group has in common, as a link to it alone. */
function head(group: Group) {
  const query = queryWith(({ kind }) => kind === "class" || kind === "is", ...groupTerms(group));
  const link = linkTo({ query, group: "none", page: 0 });
  const wrong = group.right === false && h("span.sign", { "aria-hidden": "true" }, "✗ ");
  return h(
    "h3.group",
    h("a.head", { ...link }, wrong, bdi(groupWords(group))),
    " ",
    h("span.quantity", group.places.length.toLocaleString("en")),
  );
}

function mapOf(place: number): CellId {
  const image = report.images.index[place];
  const { run, method, rank, layer } = state;
  return { image, run, rank: data.rankIn(image, rank), method, layer: layerFor(method, layer) };
}

function tileOf(place: number, id: CellId) {
  const { classes, images } = report;
  const [width, height] = images.size[place];
  const link = linkTo({ view: "matrix", ...focusOn("image", id.image) });
  const name = { class: "name", dir: "auto", tabindex: "-1", title: images.file[place] };
  const label = images.label[place];
  const wrong = isRight(images, place) === false && label !== null;
  const tile = h(
    "li.tile",
    cellButton(id, { side: SIDES.tile, tile: report.folder, caption: false }),
    h("a", { ...name, ...link }, images.file[place]),
    h("span.hint", { dir: "auto" }, topWords(id.image)),
    h("span.hint.sorted"),
    data.runs.length > 0 &&
      data.flips[place] !== "no" &&
      h("span", t(`runs.flip.${data.flips[place]}`)),
    wrong && h("span.wrong", { dir: "auto" }, `✗ ${t("chip.is", { name: classes[label] })}`),
  );
  tile.style.setProperty("--shape", String(Math.min(Math.max(width / height, 0.5), 2.5)));
  return tile;
}
