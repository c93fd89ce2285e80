// Which maps to trust: what is measured of each method's maps at the last layer, and what to doubt.
import { data, report } from "../../app";
import type { Trust } from "../../data/types";
import { bdi, h } from "../../parts/dom";
import { areaPercent, listed, prose, t } from "../../parts/words";
import { leadTo, part, said } from "./said";

export function trust() {
  const { trust } = report.summary;
  if (!trust.length) return null;
  const layers = [...new Set(trust.map((one) => one.layer))];
  const doubts = trust.some((one) => one.verdict);
  const keys = ["method", "area", "empty", "correlation", ...(doubts ? ["verdict"] : [])];
  const heads = keys.map((key) =>
    h(
      "th",
      { scope: "col", title: key === "correlation" ? t("summary.trust.correlation.hint") : "" },
      t(`summary.trust.${key}`),
    ),
  );
  const table = h(
    "table.numbers",
    h("caption", t("summary.trust.caption", { layer: layers.join(t("comma")) })),
    h("thead", h("tr", ...heads)),
    h("tbody", ...trust.map((one) => line(one, doubts))),
  );
  return part("trust", h(".scroller", table), measured());
}

/** Which questions were asked of the maps, and where the answers are; null where none was. */
export function measured() {
  const { evidence } = report;
  if (!evidence) return null;
  const names = evidence.questions.map(({ key }) => prose().evidence.questions[key].name);
  const link = h("a", leadTo({ view: "evidence" }), t("summary.see.evidence"));
  return h("p.hint", t("summary.evidence", { names: listed(names) }), " ", link);
}

/** A method's numbers, and what to doubt where any method is doubted. */
function line({ method, layer, area, empty, correlation, verdict }: Trust, doubts: boolean) {
  const link = leadTo({ view: "overview", method, layer });
  const { name, like } = data.methodOf(method);
  const share = (value: number | null) => (value === null ? "–" : areaPercent(value));
  return h(
    "tr",
    { class: verdict ? "doubted" : "" },
    h("th", { scope: "row" }, like ? name : h("a", link, name)),
    h("td", share(area)),
    h("td", share(empty)),
    h("td", correlation === null ? "–" : correlation.toFixed(2).replace("-", "−")),
    doubts && h("td", verdict ? bdi(said(verdict)) : ""),
  );
}
