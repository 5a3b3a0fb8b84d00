/** Events between arrival and reader: in order, each once, with the cursors of both. */

import type { JsonObject, PlatformEvent } from '../types.js';
import { asText, camel } from './messages.js';

export class EventQueue {
  /** Events, and between them the cursors of heartbeats as `{cursor}`. */
  readonly ready: JsonObject[] = [];
  /** The cursor of the last arrival. */
  cursor: string | undefined;
  /** The cursor of the last event handed out. A reader that resumes from it misses nothing. */
  handed: string | undefined;
  readonly #recent = new Recent();

  /** Add one event. Returns false if it came before. */
  add(raw: JsonObject, cursor: string): boolean {
    if (!this.#recent.fresh(asText(raw.id) ?? '')) return false;
    this.cursor = cursor;
    this.ready.push(raw);
    return true;
  }

  /** Note that no selected event stands between the last one and `cursor`. */
  reach(cursor: string): void {
    if (cursor === this.cursor) return;
    this.cursor = cursor;
    const newest = this.ready.at(-1);
    if (!newest) this.handed = cursor;
    else if (isMark(newest)) newest.cursor = cursor;
    else this.ready.push({ cursor });
  }

  /** Note that requested events were trimmed; the log now begins behind `earliest`. */
  gap(earliest: unknown): void {
    const cursor = asText(earliest) ?? '';
    this.cursor = cursor || this.cursor;
    this.ready.push({ type: 'gap', cursor });
  }

  /** Remove and return the oldest event; there must be one. */
  pop(): PlatformEvent {
    const event = camel<PlatformEvent>(this.ready.shift() ?? {});
    this.handed = event.cursor || this.handed;
    while (this.ready[0] && isMark(this.ready[0])) {
      this.handed = this.ready.shift()?.cursor as string;
    }
    return event;
  }
}

/** Whether this is a heartbeat's cursor: only events have a type. */
function isMark(raw: JsonObject): boolean {
  return !('type' in raw);
}

/** The newest `limit` ids, to detect duplicates. */
class Recent {
  readonly #ids = new Set<string>();
  readonly #limit: number;

  constructor(limit = 1024) {
    this.#limit = limit;
  }

  /** Add an id. Returns whether it is new; an empty id always is. */
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
