/** Platform events, and which of them are asked for. */
import type { JsonObject, PageParams } from './base.js';
import type { ResumableStream, StreamControls } from './streams.js';

/** A platform event; `data` and `metadata` have the wire's names, which `filters` use as well. */
export interface PlatformEvent<D = JsonObject> {
  readonly id: string;
  readonly type: string;
  readonly channel: string;
  /** RFC 3339, UTC. */
  readonly createdAt: string;
  /** Its place in the organization's log. */
  readonly cursor: string;
  readonly data: D;
  readonly metadata: JsonObject;
}

/** A cursor, an RFC 3339 time, or a Date. */
export type Place = string | Date;

/** Which events: those of any pattern (`session.*`) for which all filters hold. */
export interface EventSelection {
  events?: string | readonly string[] | undefined;
  /** `{field: value or [values]}` on `data`, dotted paths, in the wire's names. */
  filters?: JsonObject | undefined;
  /** Only events of these channels. */
  channels?: string | readonly string[] | undefined;
}

export interface SubscribeParams extends EventSelection, StreamControls {
  /** From here on; left out, from now on. */
  since?: Place | undefined;
  /**
   * `earliest`: where `since` is no longer kept, an event of type `gap` comes first, with nothing but
   * `cursor`, then the earliest there is. Otherwise PositionExpired is thrown.
   */
  onExpired?: 'raise' | 'earliest' | undefined;
}

export interface ReplayParams extends EventSelection {
  since: Place;
  until?: Place | undefined;
}

export interface ListEventsParams extends EventSelection, PageParams {
  since?: Place | undefined;
  until?: Place | undefined;
  /** Seconds to wait for the first event, if there is none. */
  wait?: number | undefined;
}

/** A subscription; has no end of its own. */
export interface EventStream extends ResumableStream<PlatformEvent> {
  /** The place of the last event handed out, or of a quiet time behind it. */
  readonly cursor: string | undefined;
}
