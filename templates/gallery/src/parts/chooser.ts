// What leads from one part of the data to the next: values of an axis, pages of images.
import { data, store } from "../app";
import { PREDICTED, TRUE } from "../data/dataset";
import { change } from "../state/history";
import { chosenImages, pageAmong } from "../state/selection";
import type { Axis } from "../state/state";
import { FIELD, nameOf, valuesOf } from "./axes";
import { type Option, button, select } from "./controls";
import { h } from "./dom";
import { rankName, t } from "./words";

/** Most images in a list to choose from. */
const MAX_LISTED = 500;

/** A switch for the value of one axis. */
export function chooser(axis: Axis) {
  if (axis === "image") return imageChooser();
  const options = (axis === "class" ? classes() : valuesOf(axis)).map((value): Option => [
    value,
    axis === "class" ? rankName(Number(value)) : nameOf(axis, value, store.state),
  ]);
  const field = FIELD[axis];
  return select(
    t(`axis.${axis}`),
    `choose-${axis}`,
    options,
    () => store.state[field],
    (value) => change({ [field]: field === "rank" ? Number(value) : value }, true),
  );
}

/** Classes that hold for every image: its most probable one, its true one, each place. */
function classes() {
  const { ranks, images } = data.report;
  const places = Array.from({ length: ranks }, (_, i) => i);
  return [PREDICTED, ...(images.true.length ? [TRUE] : []), ...places];
}

/** A switch for the image, and steps to the one before and the next. */
function imageChooser() {
  const images = chosenImages();
  const options = images.map((index): Option => [index, nameOf("image", index, store.state)]);
  const place = images.indexOf(store.state.image);
  const step = (by: number) => () => {
    const next = images[place + by];
    if (next !== undefined) change({ image: next }, true);
  };
  const choose = (value: string) => change({ image: Number(value) }, true);
  const list = () =>
    select(t("axis.image"), "choose-image", options, () => store.state.image, choose);
  return h(
    "div",
    { class: "with-steps" },
    options.length <= MAX_LISTED ? list() : null,
    button("‹", "previous-image", step(-1), {
      "aria-label": t("previous.image"),
      disabled: place <= 0,
    }),
    button("›", "next-image", step(1), {
      "aria-label": t("next.image"),
      disabled: place < 0 || place >= images.length - 1,
    }),
  );
}

/** Previous and next page of images. */
export function pager(length: number) {
  const pages = Math.ceil(chosenImages().length / length);
  const page = pageAmong(chosenImages().length, length);
  const go = (to: number) => () => change({ page: to }, true);
  return h(
    "nav",
    { class: "pager", "aria-label": t("pages") },
    button(t("previous"), "page-previous", go(page - 1), { disabled: page <= 0 }),
    h("span", {}, t("page.of", { page: page + 1, pages })),
    button(t("next"), "page-next", go(page + 1), { disabled: page >= pages - 1 }),
  );
}
