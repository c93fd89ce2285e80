// The predicted class, the true one, and the contrast between them; of an image that is right, the
// strongest other class takes the place of the true one.
import { data, report, state } from "../app";
import { CONTRAST, type ImageRecord, type Pair } from "../data/dataset";
import type { MethodFacts } from "../data/types";
import { layerFor, layersOf } from "../maps/availability";
import { cellButton } from "../maps/cell";
import { contrastWords, pairNames } from "../maps/describe";
import { type Option, select } from "../parts/controls";
import { bdi, h } from "../parts/dom";
import { colourBar } from "../parts/legend";
import { enableRoving } from "../parts/roving";
import { className, layerName, t, withChance } from "../parts/words";
import { change } from "../state/history";

/** Which images' panels the reader has opened or closed: wrong ones, right ones. */
const opened = new Map<boolean, boolean>();

/** The panel of an image; null where its classes are not explained, or no method has such maps. */
export function truthPanel(image: ImageRecord) {
  const pair = data.pairOf(image.index);
  const methods = pair ? data.ownMethods(state.apart).filter(comparable(image, pair)) : [];
  if (!pair || !methods.length) return null;
  const method = methods.find(({ key }) => key === state.method) ?? methods[0];
  const title = t(pair.wrong ? "truth.wrong" : "truth.right", pairNames(image, pair));
  const first = layerFor(method.key, report.glance.layer);
  const others = layersOf(method.key).filter((layer) => layer !== first);
  const panel = h(
    "details.truth",
    { open: opened.get(pair.wrong) ?? pair.wrong },
    h("summary", { "data-focus": "truth" }, h("h3", title)),
    h(
      ".truth-first",
      triple(image, pair, method, first, false),
      h(
        "div",
        methods.length > 1 ? choice(methods, method) : null,
        h("p", h("strong", bdi(layerName(first)))),
        ...caption(image, pair, method, first),
      ),
    ),
    others.length ? rest(others.map((layer) => triple(image, pair, method, layer))) : null,
  );
  panel.addEventListener("toggle", () => opened.set(pair.wrong, panel.open));
  enableRoving(panel);
  return panel;
}

/** Whether a method has maps of both classes that can be subtracted. */
const comparable =
  (image: ImageRecord, { predicted }: Pair) =>
  ({ key, classSpecific }: MethodFacts) => {
    const [layer] = classSpecific ? layersOf(key) : [];
    const cam =
      layer &&
      data.camOf(image, {
        image: image.index,
        run: image.run,
        rank: predicted,
        method: key,
        layer,
      });
    return Boolean(cam && !cam.picture && cam.channel === undefined);
  };

const choice = (methods: MethodFacts[], method: MethodFacts) =>
  select(
    t("axis.method"),
    "truth-method",
    methods.map(({ key, name }): Option => [key, name]),
    () => method.key,
    (key) => change({ method: key }),
  );

/** The three maps at one layer, below its name unless that stands elsewhere. */
function triple(image: ImageRecord, pair: Pair, method: MethodFacts, layer: string, headed = true) {
  const map = (rank: number, words: string) =>
    h(
      ".third",
      h("p", bdi(words)),
      cellButton(
        { image: image.index, run: image.run, rank, method: method.key, layer },
        { place: "pair" },
      ),
    );
  const { predicted, other } = pair;
  return h(
    ".triple",
    { role: "group", "aria-label": layerName(layer) },
    headed && h("h4", bdi(layerName(layer))),
    map(predicted, t("truth.predicted", { name: withChance(image, predicted) })),
    map(CONTRAST, className(image, CONTRAST)),
    map(other, withChance(image, other)),
  );
}

/** What the maps in the middle are, and what their colours mean. */
function caption(image: ImageRecord, pair: Pair, { key, linear }: MethodFacts, layer: string) {
  const names = pairNames(image, pair);
  const cam = data.camOf(image, {
    image: image.index,
    run: image.run,
    rank: CONTRAST,
    method: key,
    layer,
  });
  return [
    h("p.hint", contrastWords(image, cam)),
    ...(report.opposite && linear ? [h("p.hint", t("truth.opposite"))] : []),
    h(
      "p.bar-row",
      h("span", t("compare.more", { name: names.second })),
      colourBar("diverging", t("compare.bar")),
      h("span", t("compare.more", { name: names.first })),
    ),
  ];
}

/** The other layers, on demand. */
const rest = (triples: HTMLElement[]) =>
  h(
    "details.other-layers",
    h("summary", { "data-focus": "truth-layers" }, t("truth.layers")),
    h(".triples", ...triples),
  );
