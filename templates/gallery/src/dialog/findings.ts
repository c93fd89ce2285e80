// What is found on one map: marks on it, and facts beside it.
import { data, store } from "../app";
import type { CellId } from "../data/cells";
import type { ImageRecord } from "../data/dataset";
import type { CamCell } from "../data/types";
import type { Shaded } from "../maps/look";
import { type Region, highFraction, imagePixel, peakAt, regions } from "../maps/measure";
import { h } from "../parts/dom";
import { areaPercent, number, percent, probability, t } from "../parts/words";

/** Most regions with a box on the map; the facts count them all. */
const MAX_BOXES = 10;

type Fact = [name: string, value: string];

/** Marks for the photograph, and facts. */
export function findings(
  id: CellId,
  image: ImageRecord,
  cam: CamCell | undefined,
  map: Shaded | null,
) {
  const facts = [...classFacts(id, image), ...(cam ? gridFacts(cam) : [])];
  if (!cam || !map) return { marks: [], facts };
  const high = regions(map, cam, highFraction());
  const peak = peakAt(map, cam, store.state.cells);
  const [x, y] = imagePixel(image, map, peak.column, peak.row);
  const own = cam.own || store.state.scale === "map";
  facts.push([t("fact.peak"), t("fact.at", { x, y })], ...regionFacts(image, cam, map, high), [
    t("fact.scale"),
    t(own ? "scale.map" : `scale.${store.state.scale}`),
  ]);
  return { marks: marks(image, map, high, peak), facts };
}

function classFacts({ method, rank }: CellId, image: ImageRecord): Fact[] {
  if (!data.methodOf(method).classSpecific) return [];
  const said = t("fact.probability", { probability: probability(image.probabilities[rank]) });
  return [[t("fact.class"), [data.classOf(image, rank), said].join(t("comma"))]];
}

function gridFacts(cam: CamCell): Fact[] {
  const cells = `${cam.grid[1]} × ${cam.grid[0]}`;
  const drawn = cam.state === "positive";
  return [
    [t("fact.grid"), t("fact.cells", { cells })],
    [t("fact.largest"), drawn ? number(cam.largest) : t(`cell.${cam.state}`)],
  ];
}

/** Where the largest high region lies, and how much of the map is high. */
function regionFacts(image: ImageRecord, cam: CamCell, map: Shaded, high: Region[]): Fact[] {
  const share = percent(highFraction());
  const name = t(cam.signed ? "fact.areaSigned" : "fact.area", { share });
  const pixels = high.reduce((sum, region) => sum + region.pixels, 0);
  const area = areaPercent(pixels / map.index.length);
  if (!high.length) return [[name, area]];
  const [box] = high;
  const [x0, y0] = imagePixel(image, map, box.left, box.top);
  const [x1, y1] = imagePixel(image, map, box.right - 1, box.bottom - 1);
  return [
    [
      t(cam.signed ? "fact.boxSigned" : "fact.box", { share }),
      t("fact.rectangle", { x0, y0, x1, y1 }),
    ],
    [name, high.length > 1 ? t("fact.regions", { area, count: high.length }) : area],
  ];
}

/** The peak, and a box around each high region: the largest in bold. */
function marks(
  image: ImageRecord,
  map: Shaded,
  high: Region[],
  { column, row }: { column: number; row: number },
) {
  const [left, top, right, bottom] = image.seen;
  const x = (at: number) => (left + (at / map.width) * (right - left)) * 100;
  const y = (at: number) => (top + (at / map.height) * (bottom - top)) * 100;
  const peak = h("span", { class: "mark peak-mark", "aria-hidden": "true" }, "+");
  Object.assign(peak.style, { left: `${x(column + 0.5)}%`, top: `${y(row + 0.5)}%` });
  const boxes = high.slice(0, MAX_BOXES).map((box, place) => {
    const kind = place ? "mark box thin" : "mark box";
    const rectangle = h("span", { class: kind, "aria-hidden": "true" });
    Object.assign(rectangle.style, {
      left: `${x(box.left)}%`,
      top: `${y(box.top)}%`,
      width: `${x(box.right) - x(box.left)}%`,
      height: `${y(box.bottom) - y(box.top)}%`,
    });
    return rectangle;
  });
  return [...boxes.reverse(), peak];
}
