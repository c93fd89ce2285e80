// Views whose scripts only some reports carry; a report in a folder loads them when they are opened.
import { data } from "../app";
import { notes } from "../parts/notes";
import { t } from "../parts/words";
import * as shared from "../shared";
import type { State } from "../state/state";
import { type View, viewRoot } from "./view";

type Show = () => View | Promise<View>;

const made = new Map<string, Show>();

/** A view by the name of its script. */
export async function apart(name: State["view"]): Promise<View> {
  const make = await data.chunks.content<(page: typeof shared) => Show>(`view-${name}`);
  const show = made.get(name) ?? make?.(shared);
  if (!show) return { root: viewRoot(name, ...notes([t("cell.missing")])), update: () => false };
  made.set(name, show);
  return show();
}
