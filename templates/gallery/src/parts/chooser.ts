// What leads from one part of the data to the next: values of an axis, pages of images.
import { data, report, state } from "../app";
import { CONTRAST, PREDICTED, TRUE } from "../data/dataset";
import { change } from "../state/history";
import { chosenImages, pageAmong } from "../state/selection";
import type { Axis } from "../state/state";
import { FIELD, nameOf, valuesOf } from "./axes";
import { type Option, button, select, slider } from "./controls";
import { h } from "./dom";
import { rankName, runName, t } from "./words";

/** Least number of runs that a slider leads through. */
export const MIN_EPOCHS = 3;

/** Most images in a list to choose from. */
const MAX_LISTED = 500;

/** A switch for the value of one axis. */
export function chooser(axis: Axis) {
  if (axis === "image") return imageChooser();
  if (axis === "run" && data.runs.length >= MIN_EPOCHS)
    return runSlider(
      () => Math.abs(state.run),
      (run) => change({ run }),
    );
  const options = (axis === "class" ? classes() : valuesOf(axis)).map((value): Option => [
    value,
    axis === "class" ? rankName(Number(value)) : nameOf(axis, value, state),
  ]);
  const field = FIELD[axis];
  const shown = () => (state[field] === CONTRAST ? PREDICTED : state[field]);
  return select(t(`axis.${axis}`), `choose-${axis}`, options, shown, (value) =>
    change({ [field]: ["rank", "run"].includes(field) ? Number(value) : value }, true),
  );
}

/** The runs one behind the other, as the epochs of a training. */
export const runSlider = (value: () => number, choose: (run: number) => void) =>
  slider(
    t("axis.run"),
    "choose-run",
    { min: 0, max: data.runs.length - 1, step: 1 },
    value,
    runName,
    choose,
  );

/** Classes that hold for every image: its most probable one, its true one, each place. */
function classes() {
  const { ranks, images } = report;
  const places = Array.from({ length: ranks }, (_, i) => i);
  return [PREDICTED, ...(images.true.length ? [TRUE] : []), ...places];
}

/** A switch for the image, and steps to the one before and the next. */
const imageChooser = () => imageSteps(imageList());

/** The images to choose from, where a list can hold them. */
export function imageList() {
  const images = chosenImages();
  if (images.length > MAX_LISTED) return null;
  return select(
    t("axis.image"),
    "choose-image",
    images.map((index): Option => [index, nameOf("image", index, state)]),
    () => state.image,
    (value) => change({ image: Number(value) }, true),
  );
}

/** Steps to the image before and the next, around something that says which it is. */
export function imageSteps(middle: Node | null) {
  const images = chosenImages();
  const place = images.indexOf(state.image);
  const step = (by: number) => () => {
    const next = images[place + by];
    if (next !== undefined) change({ image: next }, true);
  };
  return h(
    ".with-steps",
    button("‹", "previous-image", step(-1), {
      "aria-label": t("previous.image"),
      disabled: place <= 0,
    }),
    middle,
    button("›", "next-image", step(1), {
      "aria-label": t("next.image"),
      disabled: place >= images.length - 1,
    }),
  );
}

/** Previous and next page of so many images, of those that the query finds unless told. */
export function pager(length: number, count = chosenImages().length) {
  const pages = Math.ceil(count / length);
  const page = pageAmong(count, length);
  const go = (to: number) => () => change({ page: to }, true);
  return h(
    "nav.pager",
    { "aria-label": t("pages") },
    button(t("previous"), "page-previous", go(page - 1), { disabled: page <= 0 }),
    h("span", t("page.of", { page: page + 1, pages })),
    button(t("next"), "page-next", go(page + 1), { disabled: page >= pages - 1 }),
  );
}
