/** One socket for any number of streams. */
import type { EventStream, SubscribeParams } from './events.js';
import type { ConnectionState, ExecuteStreamParams, JoinParams } from './streams.js';

/** Times in seconds. */
export interface RealtimeOptions {
  /** How often the socket is pinged; 30 by default. */
  pingInterval?: number | undefined;
  /** A socket that says nothing for so long after a ping is dead; 10 by default. */
  pingTimeout?: number | undefined;
  /** Items that each consumer has room for; 1,024 by default. */
  bufferSize?: number | undefined;
  /** Told of each change of the socket. */
  onState?: ((state: ConnectionState) => void) | undefined;
}

export interface RealtimeSubscribeParams extends SubscribeParams {
  /** A channel has one subscription on a socket. */
  channels: string | readonly string[];
}

export type RealtimeSessionParams = Omit<JoinParams, 'turn' | 'follow'>;

export type RealtimeExecuteParams = Omit<ExecuteStreamParams, 'resumeFrom'>;

/** Events of channels, over a socket. */
export interface RealtimeSubscription extends EventStream {
  readonly channels: readonly string[];
}
