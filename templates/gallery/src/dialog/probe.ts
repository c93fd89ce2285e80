// The map in the dialog, whose values can be read off with the pointer or with the keys.
import type { CellId } from "../data/cells";
import type { ImageRecord } from "../data/dataset";
import type { CamCell } from "../data/types";
import { describe } from "../maps/describe";
import { draw, frameOf, retarget } from "../maps/frames";
import { type Shaded, longSide } from "../maps/look";
import { sizeOf, valueAt } from "../maps/measure";
import { all, h } from "../parts/dom";
import { t } from "../parts/words";

/** What is open: a map with all that is known of it; `map` is null where nothing can be read off. */
export interface Open {
  id: CellId;
  image: ImageRecord;
  cam: CamCell | undefined;
  map: Shaded | null;
}

/** Shares of the photograph's sides that an arrow key moves the cross-hair by; with Shift. */
const STEP = { short: 0.01, long: 0.1 };

const ARROWS: Record<string, [x: number, y: number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

const within = (share: number) => Math.min(Math.max(share, 0), 1 - 1e-9);

/** The picture with its cross-hair, and where its value stands in words. */
export function probe(first: Open) {
  let open = first;
  let [x, y] = [0.5, 0.5];
  const root = frameOf(first.id, longSide(first.image));
  Object.assign(root, { id: "probe", tabIndex: 0, role: "application" });
  root.dataset.focus = "probe";
  root.setAttribute("aria-describedby", "reading");
  const cross = h("span.cross", { "aria-hidden": "true" });
  const reading = h("output", { id: "reading" });
  const read = () => {
    const { image, cam, map } = open;
    const [width, height] = sizeOf(image);
    Object.assign(cross.style, { left: `${x * 100}%`, top: `${y * 100}%` });
    const place = `x ${Math.floor(x * width)}, y ${Math.floor(y * height)}`;
    const said = [place, ...valueAt(image, cam, map, x, y).split("\n")];
    reading.replaceChildren(...said.map((part) => h("span", part)));
  };
  const moveTo = (across: number, down: number) => {
    [x, y] = [within(across), within(down)];
    read();
  };
  const follow = (event: MouseEvent) => {
    const box = root.getBoundingClientRect();
    moveTo((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };
  root.addEventListener("pointermove", follow);
  root.addEventListener("pointerdown", follow);
  return {
    root,
    reading,
    redraw: () => draw(root),
    /** Show a map of the image. */
    show: (next: Open) => {
      retarget(root, next.id);
      root.setAttribute("aria-label", t("cell.probe", { what: describe(next.id, next.image) }));
    },
    /** Put marks on the map, and read its values. */
    mark: (now: Open, marks: HTMLElement[]) => {
      open = now;
      for (const mark of all(".mark", root)) mark.remove();
      root.append(...marks, cross);
      read();
    },
    /** Let an arrow key move the cross-hair. */
    key: (event: KeyboardEvent) => {
      const arrow = ARROWS[event.key];
      if (!arrow || event.defaultPrevented) return;
      event.preventDefault();
      const by = event.shiftKey ? STEP.long : STEP.short;
      moveTo(x + arrow[0] * by, y + arrow[1] * by);
    },
  };
}
