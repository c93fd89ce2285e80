// The ways to look at a map: overlay, heat, photograph, contours.
import { state } from "../app";
import { toggle } from "../parts/controls";
import { h } from "../parts/dom";
import { t } from "../parts/words";
import { change } from "../state/history";
import type { State } from "../state/state";

/** A way to look at a map: its name, and the state that shows it. */
type Way = [name: string, look: Pick<State, "show" | "contours">];

const WAYS: Way[] = [
  ["overlay", { show: "overlay", contours: false }],
  ["heat", { show: "heat", contours: false }],
  ["photo", { show: "photo", contours: false }],
  ["contours", { show: "photo", contours: true }],
];

const WAYS_IN_COLOURS: Way[] = [
  ["picture", { show: "overlay", contours: false }],
  ["photo", { show: "photo", contours: false }],
];

/** @param inColours whether the map is a picture, which has no heat of its own */
export function ways(inColours: boolean) {
  const isOn = ({ show, contours }: Way[1]) => {
    const now = state;
    if (inColours) return (now.show === "photo") === (show === "photo");
    return now.show === show && (show !== "photo" || now.contours === contours);
  };
  return h(
    ".segments",
    { role: "group", "aria-label": t("show") },
    ...(inColours ? WAYS_IN_COLOURS : WAYS).map(([name, look]) =>
      toggle(
        () => t(`show.${name}`),
        `show-${name}`,
        () => isOn(look),
        () => change(look),
      ),
    ),
  );
}
