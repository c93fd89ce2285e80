// The address of what is shown, to be handed on.
import { announce } from "../parts/announce";
import { button } from "../parts/controls";
import { h } from "../parts/dom";
import { t } from "../parts/words";

/** A button that copies the page's address; where the browser refuses, a field holds it, selected. */
export function linkCopier() {
  const field = h("input", {
    type: "text",
    class: "link-field",
    readOnly: true,
    hidden: true,
    "data-focus": "link",
    "aria-label": t("link.field"),
  });
  const offer = () => {
    field.value = location.href;
    field.hidden = false;
    field.focus();
    field.select();
    announce(t("link.selected"));
  };
  const copy = async () => {
    field.hidden = true;
    try {
      await navigator.clipboard.writeText(location.href);
      announce(t("link.copied"));
    } catch {
      offer(); // no clipboard for local files, or none without the reader's leave
    }
  };
  return [button(t("link.copy"), "copy-link", copy), field];
}
