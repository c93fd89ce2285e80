// What is found on one map: marks on it, and facts beside it.
import { data, report, state } from "../app";
import type { CellId } from "../data/cells";
import { CONTRAST, type ImageRecord } from "../data/dataset";
import type { CamCell } from "../data/types";
import { contrastWords } from "../maps/describe";
import type { Shaded } from "../maps/look";
import { type Region, highFraction, imagePixel, peakAt, regions } from "../maps/measure";
import { bdi, h } from "../parts/dom";
import { areaPercent, className, number, percent, probability, t } from "../parts/words";
import type { Open } from "./probe";

/** Most regions with a box on the map; the facts count them all. */
const MAX_BOXES = 10;

/** A pixel of the part that the model saw. */
interface Place {
  column: number;
  row: number;
}

interface Fact {
  name: string;
  value: string;
  /** What the name means. */
  meaning: string;
}

/** Marks for the photograph, and facts. */
export function findings({ id, image, cam, map }: Open) {
  const facts = [...classFacts(id, image, cam), ...objectFacts(image)];
  if (!cam) return { marks: [], facts };
  if (!map) return { marks: [], facts: [...facts, ...valueFacts(cam)] };
  const high = regions(map, cam, highFraction());
  const peak = peakAt(map, cam, state.cells);
  facts.push(...regionFacts(image, cam, map, high), peakFact(image, map, peak), ...valueFacts(cam));
  const own = cam.own || state.scale === "map";
  const scale = id.run < 0 ? "runs.scale" : `scale.${own ? "map" : state.scale}`;
  facts.push(fact("scale", t(scale)));
  return { marks: marks(image, map, high, peak), facts };
}

/** Facts as a list; below it, on demand, what their names mean. */
export function factList() {
  const list = h("dl", { id: "facts" });
  const meanings = h("dl");
  const summary = h("summary", { "data-focus": "meanings" }, t("meanings"));
  const root = h("div", list, h("details.meanings", summary, meanings));
  const show = (facts: Fact[]) => {
    list.replaceChildren(
      ...facts.map(({ name, value, meaning }) =>
        h("div", h("dt", { title: meaning }, name), h("dd", bdi(value))),
      ),
    );
    meanings.replaceChildren(
      ...facts.map(({ name, meaning }) => h("div", h("dt", name), h("dd", meaning))),
    );
  };
  return { root, show };
}

/** @param key of the fact's words; `values` fill what they leave open */
const fact = (key: string, value: string, values: Record<string, string | number> = {}): Fact => ({
  name: t(`fact.${key}`, values),
  value,
  meaning: t(`meaning.${key}`, values),
});

function classFacts(
  { method, rank }: CellId,
  image: ImageRecord,
  cam: CamCell | undefined,
): Fact[] {
  if (!data.methodOf(method).classSpecific) return [];
  if (rank === CONTRAST) {
    const meaning = contrastWords(image, cam);
    return [{ name: t("fact.contrast"), value: data.classOf(image, rank), meaning }];
  }
  const said = t("fact.probability", { probability: probability(image.probabilities[rank]) });
  return [fact("class", [className(image, rank), said].join(t("comma")))];
}

/** What lies in the known regions. */
function objectFacts({ regions }: ImageRecord): Fact[] {
  const names = regions.map(
    ([, , , , target]) => report.classes[target ?? -1] ?? t("objects.unnamed"),
  );
  return names.length ? [fact("objects", names.join(t("comma")))] : [];
}

function valueFacts(cam: CamCell): Fact[] {
  const cells = `${cam.grid[1]} × ${cam.grid[0]}`;
  const largest = cam.state === "positive" ? number(cam.largest) : t(`cell.${cam.state}`);
  return [
    fact(cam.layer === "fused" ? "largestFused" : "largest", largest),
    fact("grid", t("fact.cells", { cells })),
  ];
}

/** How much of the map is high, and where the largest high region lies. */
function regionFacts(image: ImageRecord, cam: CamCell, map: Shaded, high: Region[]): Fact[] {
  const share = percent(highFraction());
  const kind = cam.signed ? "Signed" : "";
  const pixels = high.reduce((sum, region) => sum + region.pixels, 0);
  const covered = areaPercent(pixels / map.index.length);
  const several = t("fact.regions", { area: covered, count: high.length });
  const area = fact(`area${kind}`, high.length > 1 ? several : covered, { share });
  if (!high.length) return [area];
  const [box] = high;
  const [x0, y0] = imagePixel(image, map, box.left, box.top);
  const [x1, y1] = imagePixel(image, map, box.right - 1, box.bottom - 1);
  return [area, fact(`box${kind}`, t("fact.rectangle", { x0, y0, x1, y1 }), { share })];
}

function peakFact(image: ImageRecord, map: Shaded, peak: Place) {
  const [x, y] = imagePixel(image, map, peak.column, peak.row);
  return fact("peak", t("fact.at", { x, y }));
}

/** The peak, and a box around each high region: solid around the largest, dashed around others. */
function marks(image: ImageRecord, map: Shaded, high: Region[], { column, row }: Place) {
  const [left, top, right, bottom] = image.seen;
  const x = (at: number) => (left + (at / map.width) * (right - left)) * 100;
  const y = (at: number) => (top + (at / map.height) * (bottom - top)) * 100;
  const peak = h("span.mark.peak-mark", { "aria-hidden": "true" }, "+");
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
