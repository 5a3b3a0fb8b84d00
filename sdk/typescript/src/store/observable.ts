import { throwLater } from '../platform.js';
import type { Readable } from '../types.js';
import { nextFrame } from './page-visibility.js';

/**
 * A state that changes often and is published once a frame.
 *
 * `touch` publishes a change with the next frame; `publish` publishes it now. Without
 * listeners nothing is scheduled, and `getSnapshot` reads the current state.
 */
export abstract class Observable<S> implements Readable<S> {
  readonly #listeners = new Set<{ readonly tell: () => void }>();
  #snapshot: S;
  #stale = false;
  #callOff: (() => void) | null = null;

  constructor(first: S) {
    this.#snapshot = first;
  }

  readonly getSnapshot = (): S => {
    if (this.#stale && this.#listeners.size === 0) this.#take();
    return this.#snapshot;
  };

  readonly subscribe = (listener: () => void): (() => void) => {
    if (this.#stale && this.#listeners.size === 0) this.#take();
    // An object of its own, since the same function may subscribe twice.
    const entry = { tell: listener };
    this.#listeners.add(entry);
    return () => {
      this.#listeners.delete(entry);
      if (this.#listeners.size === 0) {
        this.#callOff?.();
        this.#callOff = null;
      }
    };
  };

  /** The current state: the same object as before if nothing changed. */
  protected abstract view(): S;

  protected touch(): void {
    this.#stale = true;
    if (this.#listeners.size > 0 && this.#callOff === null) {
      this.#callOff = nextFrame(() => this.publish());
    }
  }

  protected publish(): void {
    this.#callOff?.();
    this.#callOff = null;
    const before = this.#snapshot;
    this.#take();
    if (before === this.#snapshot) return;
    for (const listener of [...this.#listeners]) {
      try {
        listener.tell();
      } catch (error) {
        // An error of one listener must not stop the others, and must still be reported.
        throwLater(error);
      }
    }
  }

  #take(): void {
    this.#stale = false;
    this.#snapshot = this.view();
  }
}

/** A state with a connection or other work that runs while anybody holds the state. */
export abstract class HeldObservable<S> extends Observable<S> {
  #holders = 0;
  #isHeld = false;

  get isHeld(): boolean {
    return this.#isHeld;
  }

  /** Holds it. Returns a function that lets go, which may be called more than once. */
  readonly hold = (): (() => void) => {
    this.#holders += 1;
    if (!this.#isHeld) {
      this.#isHeld = true;
      this.begin();
    }
    let isHolding = true;
    return () => {
      if (!isHolding) return;
      isHolding = false;
      this.#holders -= 1;
      // Wait a moment for a new holder: React's strict mode runs every effect twice, and a page
      // that changes unmounts its old parts before it mounts the new ones.
      setTimeout(() => this.#endIfFree(), 0);
    };
  };

  /** The first holder has come. */
  protected begin(): void {}

  /** The last holder has gone. */
  protected abstract end(): void;

  #endIfFree(): void {
    if (this.#holders > 0 || !this.#isHeld) return;
    this.#isHeld = false;
    this.end();
  }
}
