// In place of the feature maps: what to do where a run kept none.
import { report } from "../app";
import { h } from "../parts/dom";
import { t } from "../parts/words";
import { type View, viewRoot } from "./view";

export function noChannelsView(): View {
  const command = h("code", `--channels ${report.layers[report.layers.length - 1].address}`);
  const root = viewRoot(
    "channels",
    h("h2", t("view.channels")),
    h("p", t("channels.none")),
    h("p", command),
  );
  return { root, update: () => true, uses: [] };
}
