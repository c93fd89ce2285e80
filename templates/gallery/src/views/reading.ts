// How to read the maps, and where the numbers come from.
import { ownMethod, report } from "../data/dataset";
import { bdi, button, h, linked } from "../parts/dom";
import { linkTo, state } from "../state/state";
import { prose, t } from "../parts/words";

/** What to keep in mind, in the order in which readers stumble. */
const CAUTIONS = ["logit", "own", "shared", "small", "dots", "agreement"];

export function methodsView(root: HTMLElement) {
  const methods = Object.entries(prose().methods);
  root.append(
    h("h2", {}, t("view.methods")),
    h("ul", { class: "cautions" }, ...CAUTIONS.map((key) => h("li", {}, t(`caution.${key}`)))),
    h(
      "div",
      { class: "methods" },
      ...methods.map(([key, method]) =>
        h(
          "section",
          { id: `method-${key}` },
          h(
            "h3",
            {},
            h(
              "a",
              {
                class: "head",
                ...linkTo({
                  view: "matrix",
                  method: ownMethod(key, state.apart),
                  rows: "image",
                  columns: "layer",
                  beside: "none",
                }),
              },
              method.name,
            ),
          ),
          h("p", {}, method.meaning),
          h("p", {}, h("strong", {}, t("method.caution")), " ", method.caution),
          h("p", { class: "formula" }, method.formula),
          h("p", { class: "hint" }, method.needs),
          h("p", { class: "hint" }, ...linked(method.source)),
        ),
      ),
    ),
    ...(prose().leftOut.length
      ? [
          h("h3", {}, t("leftOut")),
          h("ul", { class: "cautions" }, ...prose().leftOut.map((reason) => h("li", {}, reason))),
        ]
      : []),
  );
}

export function provenanceView(root: HTMLElement) {
  const { provenance } = prose();
  const [command] = provenance;
  const said = h("span", { role: "status" });
  const copy = () =>
    navigator.clipboard.writeText(command[1]).then(
      () => (said.textContent = t("copied")),
      () => (said.textContent = t("notCopied")),
    );
  root.append(
    h("h2", {}, t("view.provenance")),
    h("p", {}, t("provenance.again")),
    h("p", { class: "command" }, h("code", {}, command[1]), button(t("copy"), "copy", copy), said),
    h(
      "dl",
      { class: "rows" },
      ...provenance
        .slice(1)
        .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, bdi(value)))),
    ),
    failures(),
    hashes(),
  );
}

/** Inputs that could not be read. */
function failures() {
  const { failed, inputs } = prose();
  if (!failed.length) return h("p", { class: "hint" }, t("failed.none"));
  const title = t("failed.title", { failed: failed.length, all: inputs });
  return h("div", { class: "notice" }, h("h3", {}, title), failedList());
}

/** Each of them with its reason. */
export const failedList = () =>
  h(
    "ul",
    {},
    ...prose().failed.map(([file, reason]) => h("li", {}, bdi(file), t("colon"), reason)),
  );

function hashes() {
  const { file, size, sha256 } = report.images;
  const shown = file.slice(0, sha256.length);
  return h(
    "details",
    {},
    h("summary", {}, t("hashes")),
    h(
      "div",
      { class: "scroller" },
      h(
        "table",
        { class: "numbers" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ...["file", "pixels", "sha256"].map((key) =>
              h("th", { scope: "col" }, t(`hashes.${key}`)),
            ),
          ),
        ),
        h(
          "tbody",
          {},
          ...shown.map((name, i) =>
            h(
              "tr",
              {},
              h("td", {}, bdi(name)),
              h("td", {}, size[i].join(" × ")),
              h("td", {}, h("code", {}, sha256[i])),
            ),
          ),
        ),
      ),
    ),
    shown.length < file.length &&
      h("p", { class: "hint" }, t("hashes.more", { count: file.length - shown.length })),
  );
}
