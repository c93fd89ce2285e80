// The state, and who follows its changes.

/** Fields that a change gave another value. */
export type Changed<S> = ReadonlySet<keyof S>;

interface Follower<S> {
  select: (state: S) => unknown;
  act: (changed: Changed<S>) => void;
  /** The state when it last looked. */
  seen: S;
}

const alike = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other);

export class Store<S extends object> {
  #state: S;
  readonly #followers: Follower<S>[] = [];

  constructor(state: S) {
    this.#state = state;
  }

  get state(): Readonly<S> {
    return this.#state;
  }

  /** Call a function after each change of what is selected; who subscribed first is called first. */
  subscribe(select: (state: S) => unknown, act: (changed: Changed<S>) => void) {
    this.#followers.push({ select, act, seen: this.#state });
  }

  /** Give some fields other values. */
  set(changes: Partial<S>) {
    this.#state = { ...this.#state, ...changes };
    for (const follower of this.#followers) {
      const [before, now] = [follower.seen, this.#state];
      follower.seen = now;
      if (alike(follower.select(before), follower.select(now))) continue;
      const fields = Object.keys(now) as (keyof S)[];
      follower.act(new Set(fields.filter((field) => !alike(before[field], now[field]))));
    }
  }
}
