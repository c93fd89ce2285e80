// A number as a small bar on its scale: its interval, chance and what cannot be exceeded as marks.
import { h } from "../../parts/dom";
import type { Column, Value } from "./read";

type Drawn = Pick<Value, "median" | "low" | "high">;

/** What a scale shows besides a value. */
type Scale = Pick<Column, "scale" | "ceiling"> & Pick<Column["number"], "chance" | "limit">;

/** A bar from zero to the median, a line along the interval, and the marks of the scale. */
export function bar({ median, low, high }: Drawn, { scale, ceiling, chance, limit }: Scale) {
  const [least, most] = scale;
  const at = (value: number) => Math.min(Math.max((value - least) / (most - least), 0), 1) * 100;
  const piece = (kind: string, one: number | null, other: number | null) => {
    if (one === null || other === null) return null;
    const mark = h("span", { class: kind });
    mark.style.left = `${at(Math.min(one, other))}%`;
    mark.style.width = `${Math.abs(at(one) - at(other))}%`;
    return mark;
  };
  return h(
    "span.scale",
    { "aria-hidden": "true" },
    piece("zero", 0, 0),
    piece("median", 0, median),
    piece("interval", low, high),
    piece("chance", chance, chance),
    piece("ceiling", ceiling, ceiling),
    piece("limit", limit, limit),
  );
}
