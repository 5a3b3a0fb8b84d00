/** Pixels from the end within which a reader who scrolls down is taken to be there. */
const NEAR = 80;

/** What a follower has to know of a turn. */
interface Turn {
  readonly key: string;
  readonly status: string;
}

/**
 * Keeps a list at its end while it grows, until its reader scrolls up; then nothing moves it but the
 * reader, and whoever sends something sees it. All that is in the list is in one child of it.
 */
export class Follower {
  readonly #changed: (isAway: boolean) => void;
  #list: HTMLElement | null = null;
  #follows = true;
  #top = 0;
  #sent: string | null = null;

  /** `changed` is told when the reader leaves the end, and when the list is there again. */
  constructor(changed: (isAway: boolean) => void) {
    this.#changed = changed;
  }

  /** Returns what ends it. */
  attach(list: HTMLElement): () => void {
    this.#list = list;
    const moved = () => this.#measure();
    // What is in it grows; a banner, a keyboard or a longer message leaves it less room.
    const resized = new ResizeObserver(() => this.#settle());
    list.addEventListener('scroll', moved, { passive: true });
    for (const element of [list, ...list.children]) {
      resized.observe(element);
    }
    return () => {
      list.removeEventListener('scroll', moved);
      resized.disconnect();
      this.#list = null;
    };
  }

  /** To be called with the turns that the page shows, whenever these are others. */
  shows(turns: readonly Turn[]): void {
    const last = turns.at(-1);
    if (last?.status === 'sending' && last.key !== this.#sent) {
      this.#sent = last.key;
      this.#follow(true);
      this.#settle();
    }
  }

  readonly toNewest = (): void => {
    this.#follow(true);
    this.#settle();
    // The button is gone now: the keyboard goes on in the list.
    this.#list?.focus({ preventScroll: true });
  };

  #settle(): void {
    if (this.#list === null || !this.#follows) {
      this.#measure();
      return;
    }
    this.#list.scrollTo({ top: this.#list.scrollHeight });
    // Whoever scrolls up from here, in the same frame as well, is seen to do so.
    this.#top = this.#list.scrollTop;
  }

  #measure(): void {
    if (this.#list !== null) {
      const { scrollHeight, scrollTop, clientHeight } = this.#list;
      const gap = scrollHeight - scrollTop - clientHeight;
      // However little somebody scrolls up, they mean it. A gap alone means that the list has grown.
      const isUp = scrollTop < this.#top;
      this.#follow(isUp ? gap <= 1 : gap <= NEAR || this.#follows);
      this.#top = scrollTop;
    }
  }

  #follow(follows: boolean): void {
    if (follows !== this.#follows) {
      this.#follows = follows;
      this.#changed(!follows);
    }
  }
}
