// The state, and who follows its changes.

/** Fields that a change gave another value. */
export type Changed<S> = ReadonlySet<keyof S>;

interface Follower<S> {
  /** What it looks at, as text to compare. */
  look: (state: S) => string;
  seen: string;
  act: (changed: Changed<S>) => void;
}

export class Store<S extends object> {
  #state: S;
  readonly #followers: Follower<S>[] = [];

  constructor(state: S) {
    this.#state = state;
  }

  get state(): Readonly<S> {
    return this.#state;
  }

  /** Call a function after each change of what is selected, those who subscribed first before others. */
  subscribe(select: (state: S) => unknown, act: (changed: Changed<S>) => void) {
    const look = (state: S) => JSON.stringify(select(state));
    this.#followers.push({ look, seen: look(this.#state), act });
  }

  /** Give some fields other values. */
  set(changes: Partial<S>) {
    const next = { ...this.#state, ...changes };
    const fields = Object.keys(next) as (keyof S)[];
    const changed = new Set(
      fields.filter((field) => String(next[field]) !== String(this.#state[field])),
    );
    this.#state = next;
    for (const follower of this.#followers) {
      const looked = follower.look(this.#state);
      if (looked === follower.seen) continue;
      follower.seen = looked;
      follower.act(changed);
    }
  }
}
