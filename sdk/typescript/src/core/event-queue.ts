/** Events between their arrival and their reader: in order, each once, with the place of both. */

import type { JsonObject, PlatformEvent } from '../types.js';
import { asText, camel } from './messages.js';

export class EventQueue {
  /** Events, and the cursors of heartbeats between them as `{cursor}`. */
  readonly ready: JsonObject[] = [];
  /** Everything up to here has arrived. */
  cursor: string | undefined;
  /** Everything up to here has been taken: a reader who keeps it and comes back misses nothing. */
  handed: string | undefined;
  readonly #recent = new Recent();

  /** Takes in one event; false if it has come before. */
  add(raw: JsonObject, cursor: string): boolean {
    if (!this.#recent.fresh(asText(raw.id) ?? '')) return false;
    this.cursor = cursor;
    this.ready.push(raw);
    return true;
  }

  /** Nothing that is wanted stands before `cursor`. */
  reach(cursor: string): void {
    if (cursor === this.cursor) return;
    this.cursor = cursor;
    const newest = this.ready.at(-1);
    if (!newest) this.handed = cursor;
    else if (isMark(newest)) newest.cursor = cursor;
    else this.ready.push({ cursor });
  }

  /** Events are lost that were asked for; what is left begins behind `earliest`. */
  gap(earliest: unknown): void {
    const cursor = asText(earliest) ?? '';
    this.cursor = cursor || this.cursor;
    this.ready.push({ type: 'gap', cursor });
  }

  /** The oldest event; there must be one. */
  pop(): PlatformEvent {
    const event = camel<PlatformEvent>(this.ready.shift() ?? {});
    this.handed = event.cursor || this.handed;
    while (this.ready[0] && isMark(this.ready[0])) {
      this.handed = this.ready.shift()?.cursor as string;
    }
    return event;
  }
}

/** An event has a type. */
function isMark(raw: JsonObject): boolean {
  return !('type' in raw);
}

/** The newest `limit` ids: tells what has come twice. */
class Recent {
  readonly #ids = new Set<string>();
  readonly #limit: number;

  constructor(limit = 1024) {
    this.#limit = limit;
  }

  /** Whether this id is new; from here on it is not. An empty one always is. */
  fresh(id: string): boolean {
    if (!id) return true;
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > this.#limit) {
      for (const oldest of this.#ids) {
        this.#ids.delete(oldest);
        break;
      }
    }
    return true;
  }
}
