// The images of the run in which the picked channels contribute most to the predicted class's score.
import { data, report, state } from "../app";
import { PREDICTED } from "../data/dataset";
import type { LayerChannels, ShippedTops } from "../data/types";
import { layerFor } from "../maps/availability";
import { cellButton } from "../maps/cell";
import { SIDES } from "../maps/frames";
import { bdi, h } from "../parts/dom";
import { topHint } from "../parts/image";
import { enableRoving } from "../parts/roving";
import { percent, t } from "../parts/words";
import { leadToImage } from "./summary/said";
import { pickedIn } from "./features";

/** Most channels whose images are shown at a time. */
const MAX_CHANNELS = 4;

/** A section that follows which channels are picked; null where contributions are not kept. */
export async function topImages(layer: LayerChannels) {
  const tops = report.contributions ? await data.piece<ShippedTops>("tops") : undefined;
  if (!tops) return null;
  const root = h("section.part.tops");
  const refresh = () => root.replaceChildren(h("h3", t("channels.tops")), ...content(tops, layer));
  refresh();
  return { root, refresh };
}

function content(tops: ShippedTops, layer: LayerChannels) {
  if (state.channelLayer !== tops.layer)
    return [h("p.hint", t("channels.tops.elsewhere", { layer: tops.layer }))];
  const picked = [...pickedIn(layer)];
  if (!picked.length) return [h("p.hint", t("channels.tops.pick"))];
  const shown = picked.slice(0, MAX_CHANNELS);
  const rows = shown.map((channel) => row(channel, tops.images[channel], tops.shares[channel]));
  const more = picked.length - shown.length;
  return [
    ...rows,
    h(
      "p.figcaption",
      t("channels.tops.words"),
      more > 0 && ` ${t("channels.tops.more", { more })}`,
    ),
  ];
}

/** The images of one channel, the largest contribution first. */
function row(channel: number, images: number[], shares: number[]) {
  const there = [...images.keys()].filter((i) => data.has(images[i]));
  const list = h(
    "ul.chosen",
    ...there.map((i) => {
      const image = images[i];
      const id = { run: 0, image, rank: data.rankIn(image, PREDICTED), method: state.method };
      const cell = { ...id, layer: layerFor(state.method, state.channelLayer) };
      return h(
        "li",
        cellButton(cell, { side: SIDES.tile, caption: false, place: `top ${channel}` }),
        h("a.name", { ...leadToImage(image) }, bdi(report.images.file[data.placeOf(image)])),
        topHint(image),
        h("span.hint", t("channels.share", { share: percent(shares[i]) })),
      );
    }),
  );
  enableRoving(list);
  return h(
    "div",
    h("h4", t("channels.channel", { channel })),
    there.length ? list : t("channels.tops.none"),
  );
}
