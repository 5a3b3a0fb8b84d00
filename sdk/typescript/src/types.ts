/**
 * The shapes that callers see. Names are camelCase here and the wire's inside; what an agent or an
 * event carries as free-form data (`args`, `result`, `data`, `metadata`, `context`) is left as it is.
 */

// -- base -----------------------------------------------------------------------------------------

/** A value, or a promise of it. */
export type MaybePromise<T> = T | Promise<T>;

/** A value that changes and can be watched; what a page binds to. */
export interface Readable<S> {
  /** The newest published state: the same object until the next change, never changed itself. */
  readonly getSnapshot: () => S;
  /** `listener` is called after changes. Returns what stops that. */
  readonly subscribe: (listener: () => void) => () => void;
}

/** A JSON object of somebody else's making. */
export type JsonObject = Record<string, unknown>;

// -- client ---------------------------------------------------------------------------------------

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** Where the SDK's words go; `console` is one. Credentials are never among them. */
export type Logger = Record<Exclude<LogLevel, 'silent'>, (message: string) => void>;

/**
 * Returns a credential, or the answer of a back end that holds one: as its text, or as `token` of its
 * JSON. Asked again when one is refused or about to end. An answer of 401, 403 or another that would
 * not change is thrown as its error; 429, 5xx and whatever the function throws are tried again,
 * unless that is a StreamError which says that it is of no use.
 */
export type GetToken = () => MaybePromise<string | Response>;

/** A WebSocket class; the browser's own is one, and that of `ws`. */
export type WebSocketLike = new (url: string) => { send(data: string): void; close(): void };

export interface ClientOptions {
  /** For servers. In a browser use `token` or `getToken`, which hold no key. */
  apiKey?: string | undefined;
  /** A client token. */
  token?: string | undefined;
  /** Where client tokens come from; wins over the others. */
  getToken?: GetToken | undefined;
  /**
   * With or without `/v1`. Left out: the variable RESONANTGENESIS_BASE_URL, then
   * `globalThis.RESONANTGENESIS_BASE_URL`, then the public service.
   */
  baseUrl?: string | undefined;
  fetch?: typeof fetch | undefined;
  webSocket?: WebSocketLike | undefined;
  /** `warn` by default. */
  logLevel?: LogLevel | undefined;
  logger?: Logger | undefined;
  /** Failures in a row before an error is thrown; 8 by default, 0: none. */
  maxRetries?: number | undefined;
  /** Seconds for an answer that does not stream; 65 by default. */
  timeout?: number | undefined;
}

// -- streams --------------------------------------------------------------------------------------

/** What every chunk has: its place in the session's log, and for merged ones where it begins. */
interface ChunkBase {
  /** 1, 2, 3 … within the session, without gaps. */
  readonly position: number;
  /** The first position that a merged (`compact`) chunk covers. */
  readonly from?: number;
  /** The sub-agent that made the chunk; the first step of a turn names the turn's own agent. */
  readonly agentId?: string;
  /** The `callId` of the tool call that started the sub-agent. */
  readonly parent?: string;
}

/** Text of the answer. */
export interface TextChunk extends ChunkBase {
  readonly type: 'text';
  readonly content: string;
}

/** What the agent thinks before it answers; no part of the answer. */
export interface ReasoningChunk extends ChunkBase {
  readonly type: 'reasoning';
  readonly content: string;
}

/** A page that the answer rests on. */
export interface SourceChunk extends ChunkBase {
  readonly type: 'source';
  readonly url: string;
  readonly title?: string;
}

/** A stored file that belongs to the answer; `files.download(fileId)` gets it. */
export interface FileChunk extends ChunkBase {
  readonly type: 'file';
  readonly fileId: string;
  readonly name: string;
  readonly contentType: string;
  /** In bytes. */
  readonly size: number;
}

/** A value of the application's own. A later one of the same `name` and `id` replaces it. */
export interface DataChunk extends ChunkBase {
  readonly type: 'data';
  readonly name: string;
  readonly id?: string;
  readonly data: unknown;
  /** Not in the log, for live viewers alone: `position` is that of the chunk before it. */
  readonly transient?: true;
  /** Of a transient one. */
  readonly turn?: number;
}

/** The agent calls a tool. */
export interface ToolCallChunk extends ChunkBase {
  readonly type: 'tool_call';
  readonly tool: string;
  readonly args: JsonObject;
  readonly callId: string;
}

/** What the tool answered. */
export interface ToolResultChunk extends ChunkBase {
  readonly type: 'tool_result';
  readonly tool: string;
  readonly result: unknown;
  readonly callId: string;
  readonly isError: boolean;
}

/** A step of the turn begins, gets on or is over. The first of a turn also names session, turn and agent. */
export interface StepChunk extends ChunkBase {
  readonly type: 'step';
  /** 1, 2 … within the turn. */
  readonly step: number;
  readonly name: string;
  readonly status: 'started' | 'progress' | 'completed';
  readonly durationMs?: number;
  /** A word for people; with `progress` the next piece of what it does, such as reasoning. */
  readonly detail?: string;
  /** Why the agent's model stopped. */
  readonly finishReason?: string;
  readonly sessionId?: string;
  readonly turn?: number;
}

/** What went wrong, as data. */
export interface ErrorInfo {
  /** One of PROTOCOL.md's. */
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
  /** Seconds. */
  readonly retryAfter?: number;
}

/** What the user said to the turn while it was open: the agent has taken it, or the next turn has it. */
export interface UserMessageChunk extends ChunkBase {
  readonly type: 'user_message';
  readonly messageId: string;
  readonly content: string;
  readonly taken: boolean;
}

/** What a turn asks; `sessions.input` answers. */
export interface Ask {
  readonly callId: string;
  /**
   * `approval`: whether `tool` may be called with `args`; `input`: a value that fits `schema`;
   * `tool`: the result of a tool that the client runs.
   */
  readonly kind: 'approval' | 'input' | 'tool';
  readonly tool?: string;
  readonly args?: JsonObject;
  /** For the person who answers. */
  readonly message?: string;
  /** JSON Schema of the answer's `payload`. */
  readonly schema?: JsonObject;
  /** An RFC 3339 time; nobody can answer after it, and the agent goes on as if denied. */
  readonly expiresAt: string;
}

/** The turn asks. A `waiting` stands behind the asks of one stop. */
export interface InputRequiredChunk extends ChunkBase, Ask {
  readonly type: 'input_required';
}

/** The turn has stopped until these calls have an answer. */
export interface WaitingChunk extends ChunkBase {
  readonly type: 'waiting';
  readonly sessionId: string;
  readonly turn: number;
  /** The `callId` of each open ask. */
  readonly calls: readonly string[];
}

/** An ask has its answer, or nobody can answer any more. */
export interface InputChunk extends ChunkBase {
  readonly type: 'input';
  readonly callId: string;
  readonly status: 'answered' | 'expired' | 'cancelled';
  readonly approved?: boolean;
  readonly payload?: unknown;
  readonly reason?: string;
}

/** The turn has failed; raised as a StreamError unless `raiseOnError` is false. */
export interface ErrorChunk extends ChunkBase, ErrorInfo {
  readonly type: 'error';
}

/** The turn is over. */
export interface DoneChunk extends ChunkBase {
  readonly type: 'done';
  readonly sessionId: string;
  readonly turn: number;
  readonly status: TurnStatus;
  /** The turn's text, at most 960 KiB of it as JSON; then `outputTruncated` is true. */
  readonly output: string;
  readonly outputTruncated?: boolean;
  readonly usage: Usage;
}

/**
 * One entry of a session's log. A newer server may send types that are not listed here; they keep
 * their place in the order and have `type`, `position` and their own fields.
 */
export type Chunk =
  | TextChunk
  | ReasoningChunk
  | ToolCallChunk
  | ToolResultChunk
  | StepChunk
  | SourceChunk
  | FileChunk
  | DataChunk
  | UserMessageChunk
  | InputRequiredChunk
  | WaitingChunk
  | InputChunk
  | ErrorChunk
  | DoneChunk;

/** How a turn ended. */
export type TurnStatus = 'success' | 'failed' | 'cancelled' | 'timeout';

/** What a turn took. */
export interface Usage {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly steps: number;
  readonly durationMs: number;
}

/**
 * How a stream's connection is: `connecting` for the first time, `open`, `reconnecting` after a cut
 * or a refusal, `polling` where something on the way collects streams, `offline` while the browser
 * says so, `closed` at the end.
 */
export type ConnectionState =
  | 'connecting'
  | 'open'
  | 'reconnecting'
  | 'polling'
  | 'offline'
  | 'closed';

/** What every call that streams can be told besides. */
export interface StreamControls {
  /** Ends the connection when it aborts, with its reason thrown; the turn goes on. */
  signal?: AbortSignal | undefined;
  /** Told of each change of the connection, beginning with `connecting`. */
  onState?: ((state: ConnectionState) => void) | undefined;
}

/**
 * Items in order, each once, over as many connections as it takes. To be iterated once; leaving the
 * loop ends the connection and nothing else.
 */
export interface ResumableStream<T> extends AsyncIterable<T> {
  readonly state: ConnectionState;
  /** Ends the connection. Harmless if repeated. */
  close(): Promise<void>;
  /** The same items as a stream of the platform, with its back-pressure; it takes the iteration. */
  toReadableStream(): ReadableStream<T>;
}

/** The chunks of a session; see `sessions.executeStream` and `sessions.join`. */
export interface AgentStream extends ResumableStream<Chunk> {
  /** The session; undefined until the server has named it. */
  readonly sessionId: string | undefined;
  /** The turn; undefined until the server has named it. */
  readonly turn: number | undefined;
  /** That of the last chunk handed out; before the first, where the stream began. */
  readonly position: number;
  /** Cancels the turn; the stream goes on to its `done`. */
  cancel(): Promise<void>;
}

/** A tool that the client runs: the turn asks for its result. */
export interface ClientTool {
  readonly name: string;
  readonly description?: string | undefined;
  /** JSON Schema of the arguments. */
  readonly schema?: JsonObject | undefined;
}

/** What an execute may say; PROTOCOL.md, section 4. */
export interface ExecuteParams {
  /** Needed unless `sessionId` names a session, which knows its agent. */
  agentId?: string | undefined;
  goal: string;
  /** A further turn of this session. */
  sessionId?: string | undefined;
  context?: string | JsonObject | undefined;
  maxSteps?: number | undefined;
  timeoutSeconds?: number | undefined;
  model?: string | undefined;
  tools?: readonly string[] | undefined;
  /** Tools that the client runs, at most 64. */
  clientTools?: readonly ClientTool[] | undefined;
  metadata?: JsonObject | undefined;
  subject?: string | undefined;
  ifBusy?: 'reject' | 'enqueue' | 'interrupt' | undefined;
  onDisconnect?: 'continue' | 'cancel' | undefined;
  /** Regenerates this turn, the last one of the session; with the goal '', its own goal. */
  replaceTurn?: number | undefined;
  /** The turn's name for 24 h: the same key never starts a second turn. Made up if not given. */
  idempotencyKey?: string | undefined;
}

export interface ExecuteStreamParams extends ExecuteParams {
  /**
   * Everything up to here has been received; 0 starts from the turn's beginning. More than 0 needs
   * `sessionId` or the `idempotencyKey` of the turn: the server never guesses.
   */
  resumeFrom?: number | undefined;
  /** Text that waits in the log comes merged. */
  compact?: boolean | undefined;
  /** Whether an `error` chunk throws (the default) or is a chunk like the others. */
  raiseOnError?: boolean | undefined;
}

export interface JoinParams extends StreamControls {
  /** Start behind this position; left out, at the start of the running, else of the last turn. */
  resumeFrom?: number | undefined;
  /** Only this turn. */
  turn?: number | undefined;
  /** Stay for later turns. */
  follow?: boolean | undefined;
  compact?: boolean | undefined;
  raiseOnError?: boolean | undefined;
}

// -- resources ------------------------------------------------------------------------------------

export type SessionStatus =
  | 'created'
  | 'queued'
  | 'running'
  | 'waiting'
  | 'completed'
  | 'failed'
  | 'cancelled'
  | 'timeout';

/** A session as the server showed it. */
export interface SessionData {
  readonly sessionId: string;
  readonly agentId: string;
  readonly status: SessionStatus;
  readonly subject: string | null;
  readonly turns: number;
  /** What its turn asks, while it waits. A list shows no `args`, `message` and `schema`. */
  readonly waiting?: readonly Ask[] | null;
  readonly metadata: JsonObject;
  readonly createdAt: string;
  readonly updatedAt: string;
  /** These come with a session that is looked up by itself. */
  readonly context?: JsonObject;
  /** The newest turn's number, its text so far, and the position up to which that was read. */
  readonly turn?: number | null;
  readonly output?: string | null;
  readonly outputTruncated?: boolean;
  readonly position?: number;
  /** Where a fork begins. */
  readonly forkedFrom?: { readonly sessionId: string; readonly turn: number } | null;
}

/** How a turn that was executed without a stream ended, or what it waits for. */
export interface TurnResult {
  readonly sessionId: string;
  readonly turn: number;
  /** `waiting`: the turn goes on once all that it asks has an answer. */
  readonly status: TurnStatus | 'waiting';
  /** What the turn asks. */
  readonly waiting?: readonly Ask[];
  readonly output: string;
  readonly outputTruncated?: boolean;
  /** What it took; zeros while it waits. */
  readonly steps: number;
  readonly usage: Usage;
  readonly position: number;
  readonly error?: ErrorInfo;
}

/**
 * A part of a message: `type` is text, reasoning, tool_call, step, source, file, data, user_message,
 * input_required or error. Its other fields are named as on the wire (PROTOCOL.md, section 4).
 */
export interface MessagePart {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** A goal of the user, or the agent's answer to it. */
export interface Message {
  readonly id: string;
  readonly role: 'user' | 'assistant';
  readonly sessionId: string;
  readonly turn: number;
  readonly status: TurnStatus | 'queued' | 'running' | 'waiting';
  readonly parts: readonly MessagePart[];
  readonly metadata?: JsonObject;
  readonly usage?: Usage;
  readonly truncated?: boolean;
  /** The turn that has regenerated it. */
  readonly replacedBy?: number;
  readonly createdAt: string;
  readonly position?: number;
}

/** Messages, the oldest first; `nextCursor` asks for older ones. */
export interface MessagePage extends Page<Message> {
  /** The last chunk that the messages show, to join from; null on older pages. */
  readonly position: number | null;
}

export interface MessagesParams {
  limit?: number | undefined;
  cursor?: string | undefined;
}

/** A message to an open turn: `turn` is the turn that it is for. */
export interface PostedMessage {
  readonly sessionId: string;
  readonly turn: number;
  readonly messageId: string;
}

export interface ForkParams {
  /** The last turn that the fork begins with; else the last that has ended. */
  turn?: number | undefined;
  metadata?: JsonObject | undefined;
}

/** A turn that waits for others. */
export interface QueuedTurn {
  readonly turn: number;
  readonly goal: string;
  readonly model: string | null;
  readonly tools: readonly string[] | null;
  readonly metadata: JsonObject;
  readonly maxSteps: number;
  readonly timeoutSeconds: number;
  readonly queuedAt: string;
}

/** What a turn that waits shall have instead. */
export interface QueuedChanges {
  goal?: string | undefined;
  metadata?: JsonObject | undefined;
  model?: string | null | undefined;
  tools?: readonly string[] | null | undefined;
  maxSteps?: number | undefined;
  timeoutSeconds?: number | undefined;
}

/**
 * An answer: `approved` for an approval, `payload` for a value or the result of a tool, and
 * `approved: false` to decline either.
 */
export type AnswerParams = (
  | { approved: boolean; payload?: undefined }
  | { payload: unknown; approved?: undefined }
) & {
  reason?: string | undefined;
  /** The turn that asks; left out, the one that waits. */
  turn?: number | undefined;
};

/** An answer that stands. */
export interface InputResult {
  readonly sessionId: string;
  readonly turn: number;
  readonly callId: string;
  /** That of the session: `waiting` while other asks are open. */
  readonly status: SessionStatus;
}

/** A step of a turn. */
export interface Step {
  readonly step: number;
  readonly turn: number;
  readonly name: string;
  readonly status: 'started' | 'completed';
  readonly durationMs?: number | null;
  readonly position: number;
}

/** One page of a list; iterable. `nextCursor` asks for the next one. */
export interface Page<T> extends Iterable<T> {
  readonly data: readonly T[];
  readonly nextCursor: string | null;
  readonly hasMore: boolean;
}

export interface PageParams {
  limit?: number | undefined;
  cursor?: string | undefined;
}

export interface CreateSessionParams {
  agentId: string;
  context?: string | JsonObject | undefined;
  subject?: string | undefined;
  metadata?: JsonObject | undefined;
}

export interface ListSessionsParams extends PageParams {
  agentId?: string | undefined;
  status?: SessionStatus | undefined;
}

/** What is cancelled: what runs or waits, only `turn`, or the turn of an execute's key. */
export type CancelParams =
  | { turn?: number | undefined }
  | { idempotencyKey: string; turn?: undefined };

export interface Agent {
  readonly id: string;
  readonly name: string;
  readonly engine: string;
  readonly instructions: string | null;
  readonly model: string | null;
  readonly tools: readonly string[] | null;
  readonly defaults: JsonObject;
  /** What an agent in Python declares of itself. */
  readonly description?: string;
  /** JSON Schema of the `context` that it reads. */
  readonly inputSchema?: JsonObject;
  /** Those of the server's configuration belong to every organization and are read-only. */
  readonly source: 'api' | 'configuration';
  readonly createdAt: string;
  readonly updatedAt: string;
}

export interface AgentParams {
  name?: string | undefined;
  engine?: string | undefined;
  instructions?: string | null | undefined;
  model?: string | null | undefined;
  tools?: readonly string[] | null | undefined;
  /** What a turn gets unless it says otherwise, in the wire's names (`max_steps`). */
  defaults?: JsonObject | undefined;
}

export interface CreateAgentParams extends AgentParams {
  name: string;
  engine: string;
  /** Made up if not given. */
  id?: string | undefined;
}

/** A process that serves the store. What only it knows is null if it did not answer in time. */
export interface ServerNode {
  readonly id: string;
  /** Of its machine. */
  readonly name: string;
  readonly version: string;
  readonly startedAt: string | null;
  /** Seconds since it was last seen alive. */
  readonly lastSeenSeconds: number;
  readonly runningTurns: number | null;
  readonly queuedTurns: number | null;
  /** SSE streams and sockets. */
  readonly openStreams: number | null;
}

export interface TokenParams {
  scopes: readonly string[];
  /** The end user: the token sees only this subject's sessions. */
  subject?: string | undefined;
  sessionId?: string | undefined;
  agentId?: string | undefined;
  ttlSeconds?: number | undefined;
}

/** A client token: short-lived, and fit for a browser, unlike a key. */
export interface Token {
  readonly token: string;
  readonly expiresAt: string;
  readonly scopes: readonly string[];
  readonly subject: string | null;
  readonly sessionId: string | null;
  readonly agentId: string | null;
}

// -- events ---------------------------------------------------------------------------------------

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

// -- files ----------------------------------------------------------------------------------------

/** What the server knows of a file; it never changes. */
export interface StoredFile {
  readonly id: string;
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  /** Of the content, in hexadecimal. */
  readonly sha256: string;
  readonly contentType: string;
  /** The end user it belongs to. */
  readonly subject: string | null;
  /** The session it was made in, and goes with. */
  readonly sessionId: string | null;
  readonly createdAt: string;
}

/** The first two can be read again, and so be sent again after a lost connection. */
export type UploadSource =
  | Blob
  | Uint8Array
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array>;

/** Told how many bytes have gone through, never fewer than before; `size` if it is known. */
export type FileProgress = (done: number, size: number | undefined) => void;

export interface UploadOptions {
  /** A File has one of its own. */
  name?: string | undefined;
  /** A Blob's own by default, else the server goes by the name's ending. */
  contentType?: string | undefined;
  /** The SHA-256 in hexadecimal, for the server to refuse anything else. */
  checksum?: string | undefined;
  /** The end user it belongs to. */
  subject?: string | undefined;
  onProgress?: FileProgress | undefined;
  signal?: AbortSignal | undefined;
  idempotencyKey?: string | undefined;
}

export interface DownloadOptions {
  onProgress?: FileProgress | undefined;
  signal?: AbortSignal | undefined;
}

/** Said so, since types for servers have no name for it. */
export type PipeOptions = Parameters<ReadableStream<Uint8Array>['pipeTo']>[1];

/** A file on its way down, to be read once; nothing is asked for before it is read. */
export interface FileDownload {
  readonly file: StoredFile;
  /** Ends only if everything came and is what the server has; else it throws StreamError. */
  readonly stream: ReadableStream<Uint8Array>;
  /**
   * All of it. Its type is application/octet-stream whatever the file's: an object URL of what a
   * stranger uploaded must not run as a part of your page.
   */
  blob(): Promise<Blob>;
  bytes(): Promise<Uint8Array>;
  pipeTo(target: WritableStream<Uint8Array>, options?: PipeOptions): Promise<void>;
}

export interface ListFilesParams extends PageParams {
  sessionId?: string | undefined;
}

// -- offline --------------------------------------------------------------------------------------

/**
 * `queued`: waits for its turn; `sending`: is on its way; `sent`: the server has it, `sessionId` and
 * `turn` name it; `failed`: the server refused it, `error` says why; `stale`: older than the server's
 * memory of its key, so that sending it might start the turn a second time: `retry` it or `remove` it.
 */
export type QueuedStatus = 'queued' | 'sending' | 'sent' | 'failed' | 'stale';

export interface QueuedExecute {
  /** Its Idempotency-Key. */
  readonly id: string;
  readonly params: ExecuteParams;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
  readonly status: QueuedStatus;
  readonly sessionId?: string;
  readonly turn?: number;
  readonly error?: ErrorInfo;
}

/** Where what was not sent is kept. */
export interface QueueStorage {
  load(): Promise<QueuedExecute[]>;
  put(item: QueuedExecute): Promise<void>;
  delete(id: string): Promise<void>;
}

export interface OfflineQueueOptions {
  /** `indexeddb` where there is one, so that a closed page loses nothing; else `memory`. */
  storage?: 'indexeddb' | 'memory' | QueueStorage | undefined;
  /** Of the database: pages of one origin with the same name share a queue. */
  name?: string | undefined;
  /** How many may wait; 100 by default. */
  maxItems?: number | undefined;
  /** Told of each change. */
  onChange?: ((items: readonly QueuedExecute[]) => void) | undefined;
}
