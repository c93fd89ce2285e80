// The files of data beside the page: classic scripts that hand their content over, for no other
// way works from file://.

export class Chunks {
  /** Files that could not be read. */
  readonly missing = new Set<string>();
  readonly #arrived = new Map<string, unknown>();
  readonly #loading = new Map<string, Promise<void>>();

  /** Take the content that a file's script hands over. */
  receive(name: string, content: unknown) {
    this.#arrived.set(name, content);
  }

  /** A file's content; undefined where the file is missing. */
  async content<T>(name: string): Promise<T | undefined> {
    if (!this.#arrived.has(name)) {
      const loading = this.#loading.get(name) ?? this.#load(name);
      await loading.catch(() => undefined);
    }
    return this.#arrived.get(name) as T | undefined;
  }

  /** Forget the content that arrived first where there is more than so much. */
  keep(most: number) {
    if (this.#arrived.size > most) this.#arrived.delete([...this.#arrived.keys()][0]);
  }

  #load(name: string) {
    const loading = new Promise<void>((resolve, reject) => {
      const script = document.createElement("script");
      const path = `data/${name}.js`;
      script.src = path;
      script.onload = () => resolve();
      script.onerror = () => {
        this.missing.add(path);
        document.dispatchEvent(new CustomEvent("missing"));
        reject(new Error(name));
      };
      document.head.append(script);
    }).finally(() => this.#loading.delete(name));
    this.#loading.set(name, loading);
    return loading;
  }
}
