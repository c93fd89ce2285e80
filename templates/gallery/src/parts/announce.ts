// Messages in passing.
import { byId, h } from "./dom";

/** How long a message stays, in milliseconds. */
const MESSAGE = 4000;

const announcer = h("p", { id: "announcer", role: "status" });

let hiding: number | undefined;

/** Say what an action did, to those who see it and to those who do not. */
export function announce(text: string) {
  (document.querySelector("dialog[open]") ?? byId("messages")).append(announcer);
  announcer.textContent = text;
  announcer.classList.add("shown");
  window.clearTimeout(hiding);
  hiding = window.setTimeout(() => announcer.classList.remove("shown"), MESSAGE);
}
