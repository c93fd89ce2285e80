// Where the numbers come from.
import { report } from "../app";
import { button } from "../parts/controls";
import { bdi, definitions, h } from "../parts/dom";
import { failedList, failedTitle } from "../parts/notes";
import { prose, t } from "../parts/words";
import { structureSection } from "./structure";
import { type View, viewRoot } from "./view";

export function provenanceView(): View {
  const { lede, facts, provenance } = prose();
  const [[, command], ...others] = provenance;
  const detailed = new Set(others.map(([name]) => name));
  const short = facts.filter(([name]) => !detailed.has(name));
  const said = h("span", { role: "status" });
  const copy = () =>
    navigator.clipboard.writeText(command).then(
      () => (said.textContent = t("copied")),
      () => (said.textContent = t("notCopied")),
    );
  const root = viewRoot(
    "provenance",
    h("h2", t("view.provenance")),
    h("p.lede", lede),
    h("p", t("provenance.again")),
    h("p.command", h("code", command), button(t("copy"), "copy", copy), said),
    definitions("rows", [...short, ...others]),
    leftOut(),
    structureSection(),
    failures(),
    hashes(),
  );
  return { root, update: () => true, uses: [] };
}

/** Methods without any map, each with its reason. */
function leftOut() {
  const reasons = prose().leftOut.map((reason) => h("li", reason));
  if (!reasons.length) return "";
  return h("section.notice", h("h3", t("leftOut")), h("ul", ...reasons));
}

/** Inputs that could not be read. */
function failures() {
  if (!prose().failed.length) return h("p.hint", t("failed.none"));
  return h(".notice", h("h3", failedTitle()), failedList());
}

/** What each image's file held. */
function hashes() {
  const { file, size, sha256 } = report.images;
  const heads = ["file", "pixels", "sha256"].map((key) =>
    h("th", { scope: "col" }, t(`hashes.${key}`)),
  );
  const lines = sha256.map((hash, i) =>
    h("tr", h("td", bdi(file[i])), h("td", size[i].join(" × ")), h("td", h("code", hash))),
  );
  const table = h("table.numbers", h("thead", h("tr", ...heads)), h("tbody", ...lines));
  const more = file.length - sha256.length;
  return h(
    "details",
    h("summary", t("hashes")),
    h(".scroller", table),
    more > 0 && h("p.hint", t("hashes.more", { count: more })),
  );
}
