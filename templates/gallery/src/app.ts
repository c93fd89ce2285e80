// The data that the page shows and the state it shows it in: set once, before anything is drawn.
import type { Dataset } from "./data/dataset";
import type { State } from "./state/state";
import type { Store } from "./state/store";

export let data: Dataset;
export let store: Store<State>;

export function setApp(shown: Dataset, following: Store<State>) {
  [data, store] = [shown, following];
}
