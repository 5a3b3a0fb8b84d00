import { ResonantGenesis } from '../index.js';
import type {
  AgentStream,
  ConnectionState,
  EventStream,
  ExecuteStreamParams,
  JoinParams,
  ListEventsParams,
  Page,
  PlatformEvent,
  RealtimeSessionParams,
  SessionData,
  StreamControls,
  SubscribeParams,
} from '../types.js';

/** What the stores use of a client; `ResonantGenesis` is one. */
export interface StreamClient {
  readonly sessions: {
    executeStream(params: ExecuteStreamParams, controls: StreamControls): Promise<AgentStream>;
    join(sessionId: string, params: JoinParams): Promise<AgentStream>;
    cancel(what: string | { idempotencyKey: string }, params?: { turn?: number }): Promise<unknown>;
    get(sessionId: string): Promise<SessionData>;
  };
  readonly events: {
    subscribe(params: SubscribeParams): EventStream | Promise<EventStream>;
    list(params: ListEventsParams): Promise<Page<PlatformEvent>>;
  };
  realtime(): Promise<SocketClient>;
}

/** What the stores use of a socket; `Realtime` is one. */
export interface SocketClient {
  readonly state: ConnectionState;
  session(sessionId: string, params: RealtimeSessionParams): Promise<AgentStream>;
  close(): Promise<void>;
}

let client: ResonantGenesis | undefined;

/** The client of pages that name none: everything about it comes from the environment. */
export function defaultClient(): ResonantGenesis {
  client ??= new ResonantGenesis();
  return client;
}
