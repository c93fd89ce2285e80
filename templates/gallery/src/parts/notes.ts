// Remarks on the run and on the maps.
import { bdi, h } from "./dom";
import { prose, t } from "./words";

/** Sentences as notes. */
export const notes = (sentences: string[]) => sentences.map((sentence) => h("p.note", sentence));

/** Inputs that could not be read, each with its reason. */
export const failedList = () =>
  h("ul", ...prose().failed.map(([file, reason]) => h("li", bdi(file), t("colon"), reason)));

/** How many inputs could not be read. */
export function failedTitle() {
  const { failed, inputs } = prose();
  return t("failed.title", { failed: failed.length, all: inputs });
}
