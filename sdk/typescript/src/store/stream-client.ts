import { ResonantGenesis } from '../index.js';
import type {
  AgentStream,
  AnswerParams,
  ConnectionState,
  EventStream,
  ExecuteStreamParams,
  ForkParams,
  JoinParams,
  MessagePage,
  MessagesParams,
  QueuedChanges,
  RealtimeSessionParams,
  SessionData,
  StreamControls,
  SubscribeParams,
} from '../types.js';

/** The client's methods that the stores use; `ResonantGenesis` has them. */
export interface StreamClient {
  readonly sessions: {
    executeStream(params: ExecuteStreamParams, controls: StreamControls): Promise<AgentStream>;
    join(sessionId: string, params: JoinParams): Promise<AgentStream>;
    cancel(what: string | { idempotencyKey: string }, params?: { turn?: number }): Promise<unknown>;
    input(sessionId: string, callId: string, answer: AnswerParams): Promise<unknown>;
    messages(sessionId: string, params: MessagesParams): Promise<MessagePage>;
    send(sessionId: string, content: string): Promise<unknown>;
    fork(sessionId: string, params?: ForkParams): Promise<SessionData>;
    editQueued(sessionId: string, turn: number, changes: QueuedChanges): Promise<void>;
    removeQueued(sessionId: string, turn: number): Promise<void>;
  };
  readonly events: {
    subscribe(params: SubscribeParams): EventStream | Promise<EventStream>;
  };
  realtime(): Promise<SocketClient>;
}

/** The socket's methods that the stores use; `Realtime` has them. */
export interface SocketClient {
  readonly state: ConnectionState;
  session(sessionId: string, params: RealtimeSessionParams): Promise<AgentStream>;
  close(): Promise<void>;
}

let client: ResonantGenesis | undefined;

/** The default client, with all settings from the environment. */
export function defaultClient(): ResonantGenesis {
  client ??= new ResonantGenesis();
  return client;
}
