/**
 * Something that runs while anybody holds it.
 *
 * The end waits a moment for holders that come back at once: React's strict mode lets every effect
 * go once, and a page that is changed lets go of the old parts before it takes the new ones.
 */
export class Lifetime {
  readonly #begin: () => void;
  readonly #end: () => void;
  #holders = 0;
  #runs = false;

  constructor(begin: () => void, end: () => void) {
    this.#begin = begin;
    this.#end = end;
  }

  get runs(): boolean {
    return this.#runs;
  }

  /** Returns how to let go, which may be called more than once. */
  readonly hold = (): (() => void) => {
    this.#holders += 1;
    if (!this.#runs) {
      this.#runs = true;
      this.#begin();
    }
    let held = true;
    return () => {
      if (held) {
        held = false;
        this.#holders -= 1;
        setTimeout(() => this.#look(), 0);
      }
    };
  };

  #look(): void {
    if (this.#holders === 0 && this.#runs) {
      this.#runs = false;
      this.#end();
    }
  }
}
