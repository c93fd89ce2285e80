// The data that the page shows, set once before anything is drawn, and the state it shows it in.
import type { Dataset } from "./data/dataset";
import type { Report } from "./data/types";
import type { State } from "./state/state";
import type { Store } from "./state/store";

export let data: Dataset;
/** What is known of the run. */
export let report: Report;
export let store: Store<State>;
/** The present state. */
export let state: Readonly<State>;

export function setApp(shown: Dataset, following: Store<State>) {
  [data, report, store, state] = [shown, shown.report, following, following.state];
  following.subscribe(
    (now) => now,
    () => (state = following.state),
  );
}
