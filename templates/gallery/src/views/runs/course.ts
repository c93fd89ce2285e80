// From run to run: how right each is, how far its maps are from the first one's, one image's maps.
import { data, report, state } from "../../app";
import type { Comparison } from "../../data/types";
import { MIN_EPOCHS, imageList } from "../../parts/chooser";
import { bdi, h } from "../../parts/dom";
import { enableRoving } from "../../parts/roving";
import { percent, t } from "../../parts/words";
import { linkTo } from "../../state/history";
import { map, prediction } from "./maps";
import { titled } from "./numbers";

/** The course; nothing between two runs, which all else is about. */
export function course({ runs, agreement }: Comparison) {
  if (runs.length < MIN_EPOCHS) return null;
  const { method, layer } = report.glance;
  const shown = Math.abs(state.run);
  const ofRun = <T>(make: (run: number) => T) => runs.map((_, run) => make(run));
  const row = (name: string, cells: (Node | string)[][]) =>
    h(
      "tr",
      h("th", { scope: "row" }, bdi(name)),
      ...cells.map((cell, run) => h("td", { class: run === shown ? "shown" : null }, ...cell)),
    );
  const moved = (run: number) => {
    const own = agreement.find(
      (one) => one.run === run && one.method === method && one.layer === layer,
    );
    return typeof own?.moved === "number" ? percent(own.moved) : "–";
  };
  const right = ({ accuracy }: Comparison["runs"][number]) =>
    accuracy ? `${((100 * accuracy.right) / accuracy.total).toFixed(1)}%` : "–";
  const place = data.placeOf(state.image);
  const table = h(
    "table.frames.epochs",
    h("caption.visually-hidden", t("runs.course")),
    h("thead", h("tr", h("td"), ...ofRun((run) => head(run)))),
    h(
      "tbody",
      runs.some(({ accuracy }) => accuracy)
        ? row(
            t("runs.right"),
            runs.map((run) => [right(run)]),
          )
        : null,
      row(
        t("runs.median"),
        ofRun((run) => [run ? moved(run) : "–"]),
      ),
      row(
        report.images.file[place],
        ofRun((run) => [...map(state.image, run), prediction(place, run)]),
      ),
    ),
  );
  table.style.setProperty("--maps", String(runs.length));
  enableRoving(table);
  return titled("course", imageList(), h(".scroller", table));
}

/** A run's name, which shows it. */
const head = (run: number) =>
  h(
    "th",
    { scope: "col" },
    h(
      "a",
      {
        ...linkTo({ run }),
        "aria-current": run === state.run && "true",
        "data-focus": `run ${run}`,
      },
      bdi(data.runs[run].name),
    ),
  );
