// The data that the page shows, set once before anything is drawn, and the state it shows it in.
import type { Dataset } from "./data/dataset";
import type { Report } from "./data/types";
import type { State } from "./state/state";
import type { Store } from "./state/store";

export let data: Dataset;
/** What is known of the run. */
export let report: Report;
export let store: Store<State>;
/** The present state: this object changes with it. */
export const state: Readonly<State> = Object.create(null);

export function setApp(shown: Dataset, following: Store<State>) {
  [data, report, store] = [shown, shown.report, following];
  const keep = () => Object.assign(state, following.state);
  keep();
  following.subscribe((now) => now, keep);
}
