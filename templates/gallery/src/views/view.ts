// What every view offers.
import { h } from "../parts/dom";
import type { State } from "../state/state";
import { concerns } from "../state/state";
import type { Changed } from "../state/store";

/** A view as it is shown. */
export interface View {
  root: HTMLElement;
  /** Follow a change; false where the view has to be built anew. */
  update: (changed: Changed<State>) => boolean;
  /** Fields whose controls in the bar act on what is shown; where it says nothing, all. */
  uses?: readonly (keyof State)[];
}

/** An empty element for the present view. */
export const viewRoot = (name: State["view"], ...children: (Node | string)[]) =>
  h("div", { class: `view view-${name}` }, ...children);

/** How a view follows that is built anew where any of some fields changes, and never else. */
export const rebuiltBy =
  (...fields: (keyof State)[]) =>
  (changed: Changed<State>) =>
    !concerns(changed, ...fields);
