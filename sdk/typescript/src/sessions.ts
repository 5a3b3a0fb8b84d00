/** `client.sessions`, and a session as an object. */
import {
  asCount,
  camel,
  cancelRequest,
  createRequest,
  itemRequest,
  listRequest,
  newKey,
  pageOf,
  SESSIONS,
  snake,
} from './core/messages.js';
import { SessionMachine } from './core/session-machine.js';
import type { ResumePoint } from './core/session-request.js';
import { executePath, SessionRequests } from './core/session-request.js';
import { InvalidRequest } from './errors.js';
import { load } from './platform.js';
import { StreamReader } from './stream-reader.js';
import type { Transport } from './transport.js';
import type {
  AgentStream,
  AnswerParams,
  CancelParams,
  Chunk,
  CreateSessionParams,
  ExecuteParams,
  ExecuteStreamParams,
  ForkParams,
  InputResult,
  JoinParams,
  JsonObject,
  ListSessionsParams,
  Message,
  MessagePage,
  MessagesParams,
  Page,
  PostedMessage,
  QueuedChanges,
  QueuedTurn,
  SessionData,
  Step,
  StreamControls,
  TurnResult,
} from './types.js';

/** What an execute may say within a session that is known. */
export type TurnParams<P> = Omit<P, 'agentId' | 'sessionId'>;

export interface ExecuteControls {
  signal?: AbortSignal | undefined;
  /** Whether a turn that failed throws (the default) or is a result like the others. */
  raiseOnError?: boolean | undefined;
}

/** How many of them are kept. */
const REMEMBERED = 256;

/** Sessions: start, watch, cancel, look up. Everything throws StreamError. */
export class Sessions {
  readonly #transport: Transport;
  /** Where the turns are that callers named by keys of their own. */
  readonly #resumePoints = new Map<string, ResumePoint>();

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Starts a turn and streams its chunks. The promise is kept once the server has named session and
   * turn; the stream reconnects and resumes by itself.
   */
  async executeStream(
    params: ExecuteStreamParams,
    controls: StreamControls = {},
  ): Promise<AgentStream> {
    const { resumeFrom, compact, raiseOnError, idempotencyKey, ...fields } = params;
    checkPosition(resumeFrom);
    const body = bodyOf(fields);
    const task = idempotencyKey && `${idempotencyKey} ${JSON.stringify(body)}`;
    const recalled = task && resumeFrom !== undefined ? this.#resumePoints.get(task) : undefined;
    const resumePoint: ResumePoint = {
      idempotencyKey: idempotencyKey ?? newKey(),
      sessionId: fields.sessionId,
      ...recalled,
      position: resumeFrom ?? 0,
    };
    if (task) this.#remember(task, resumePoint);
    const requests = new SessionRequests({
      body,
      resumePoint,
      resumeFrom: resumeFrom || undefined,
      compact,
      raiseOnError,
      recalled: recalled?.sessionId !== undefined,
    });
    return new SessionStream(this.#transport, requests, controls).open();
  }

  /**
   * Runs a turn to its end, however long that takes. A turn that asks is returned with the status
   * `waiting`, and what it asks.
   */
  async execute(params: ExecuteParams, controls: ExecuteControls = {}): Promise<TurnResult> {
    const { idempotencyKey, ...fields } = params;
    const body: JsonObject = { ...bodyOf(fields), stream: false };
    const request = createRequest(executePath(body), body, idempotencyKey);
    const raw = await this.#transport.call(request, controls.signal);
    const result = camel<TurnResult>(raw);
    if (result.status === 'success') return result;
    // Most turns succeed in time: what the others take is loaded when it is needed.
    const { outcomeOf } = await load(() => import('./core/turn-result.js'), true);
    return outcomeOf(result, this, controls);
  }

  /**
   * Watches a session: from behind `resumeFrom`, else from the start of its newest turn. Ends with
   * the last turn that runs or waits; with `turn`, with that one; with `follow`, never.
   */
  async join(sessionId: string, params: JoinParams = {}): Promise<AgentStream> {
    const { resumeFrom, turn } = params;
    checkPosition(resumeFrom);
    const resumePoint: ResumePoint = { sessionId, turn, position: resumeFrom ?? 0 };
    return new SessionStream(
      this.#transport,
      new SessionRequests({ ...params, resumePoint }),
      params,
    ).open();
  }

  /** Makes a session, to run turns in. */
  async create(params: CreateSessionParams): Promise<Session> {
    return this.#session(await this.#transport.call(createRequest(SESSIONS, params)));
  }

  /** A session with `output` of its newest turn so far, and `position`. */
  async get(sessionId: string): Promise<Session> {
    return this.#session(await this.#transport.call(itemRequest('GET', SESSIONS, sessionId)));
  }

  /** One page of sessions. */
  async list(params: ListSessionsParams = {}): Promise<Page<Session>> {
    const raw = await this.#transport.call(listRequest(SESSIONS, params));
    return pageOf(raw, (one) => this.#session(one));
  }

  /** The steps of a session's turns, or of one. */
  async steps(sessionId: string, { turn }: { turn?: number } = {}): Promise<Step[]> {
    const { path } = itemRequest('GET', SESSIONS, sessionId, '/steps');
    const { allPages, listOf } = await load(() => import('./core/all-pages.js'), true);
    // A page holds as many as fit.
    const ask = async (cursor: string | undefined): Promise<Page<Step>> => {
      return pageOf(await this.#transport.call(listRequest(path, { turn, limit: 500, cursor })));
    };
    return listOf(allPages(ask));
  }

  /**
   * The newest messages of a session, or those before a cursor. A join from behind the page's
   * `position` goes on where the first page ends.
   */
  async messages(sessionId: string, params: MessagesParams = {}): Promise<MessagePage> {
    const { path } = itemRequest('GET', SESSIONS, sessionId, '/messages');
    const raw = await this.#transport.call(listRequest(path, params));
    return { ...pageOf<Message>(raw), position: asCount(raw.position) ?? null };
  }

  /**
   * Says something to the turn that runs, waits for an answer, or comes next. The same `messageId`
   * is the same message.
   */
  async send(sessionId: string, content: string, messageId?: string): Promise<PostedMessage> {
    const { path } = itemRequest('POST', SESSIONS, sessionId, '/messages');
    return camel(await this.#transport.call(createRequest(path, { content, messageId })));
  }

  /**
   * Answers what a turn asks. The turn goes on once all that it asks has an answer; a join with
   * `resumeFrom` watches it. The first answer stands: another one is a Conflict. A payload that does
   * not fit the schema is an InvalidRequest.
   */
  async input(sessionId: string, callId: string, answer: AnswerParams): Promise<InputResult> {
    const params = { callId, ...answer };
    const request = itemRequest('POST', SESSIONS, sessionId, '/input', params);
    return camel(await this.#transport.call(request));
  }

  /** Makes a session that begins with the turns of this one. */
  async fork(sessionId: string, params: ForkParams = {}): Promise<Session> {
    const { path } = itemRequest('POST', SESSIONS, sessionId, '/fork');
    return this.#session(await this.#transport.call(createRequest(path, params)));
  }

  /** The turns that wait for others, in their order. */
  async queue(sessionId: string): Promise<QueuedTurn[]> {
    const raw = await this.#transport.call(itemRequest('GET', SESSIONS, sessionId, '/queue'));
    return [...pageOf<QueuedTurn>(raw)];
  }

  /** Changes a turn that waits; a Conflict once it has started. */
  async editQueued(sessionId: string, turn: number, changes: QueuedChanges): Promise<void> {
    const request = itemRequest('PATCH', SESSIONS, sessionId, `/queue/${turn}`, changes);
    await this.#transport.call(request);
  }

  /** Takes a turn that waits out of the queue; a Conflict once it has started. */
  async removeQueued(sessionId: string, turn: number): Promise<void> {
    await this.#transport.call(itemRequest('DELETE', SESSIONS, sessionId, `/queue/${turn}`));
  }

  /** Cancels what runs or waits, or only `turn`; by key where the answer never came. */
  async cancel(
    what: string | { idempotencyKey: string },
    params: CancelParams = {},
  ): Promise<void> {
    const known = typeof what === 'string';
    await this.#transport.call(cancelRequest(known ? what : undefined, known ? params : what));
  }

  /** Deletes a session and its log. */
  async delete(sessionId: string): Promise<void> {
    await this.#transport.call(itemRequest('DELETE', SESSIONS, sessionId));
  }

  #session(raw: JsonObject): Session {
    return new Session(this, camel(raw));
  }

  #remember(task: string, resumePoint: ResumePoint): void {
    this.#resumePoints.delete(task);
    this.#resumePoints.set(task, resumePoint);
    const [oldest = ''] = this.#resumePoints.keys();
    if (this.#resumePoints.size > REMEMBERED) this.#resumePoints.delete(oldest);
  }
}

/** The body of an execute. A regenerated turn has its own goal, unless another one is given. */
function bodyOf(fields: object): JsonObject {
  const body = snake(fields);
  if (!body.goal && body.replace_turn) delete body.goal;
  return body;
}

function checkPosition(position: number | undefined): void {
  if (position !== undefined && asCount(position) === undefined) {
    throw new InvalidRequest('resumeFrom is no position');
  }
}

/** Gives the class its fields, which come with the server's answer. */
const Fields = Object as unknown as new () => SessionData;

/** A session: its fields as the server showed them last, and what can be done with it. */
export class Session extends Fields {
  readonly #sessions: Sessions;

  constructor(sessions: Sessions, data: SessionData) {
    super();
    this.#sessions = sessions;
    Object.assign(this, data);
  }

  /** A further turn, streamed; see `sessions.executeStream`. */
  executeStream(
    params: TurnParams<ExecuteStreamParams>,
    controls?: StreamControls,
  ): Promise<AgentStream> {
    return this.#sessions.executeStream(this.#turn(params), controls);
  }

  /** A further turn, awaited to its end; see `sessions.execute`. */
  execute(params: TurnParams<ExecuteParams>, controls?: ExecuteControls): Promise<TurnResult> {
    return this.#sessions.execute(this.#turn(params), controls);
  }

  /** Watches it; see `sessions.join`. */
  join(params?: JoinParams): Promise<AgentStream> {
    return this.#sessions.join(this.sessionId, params);
  }

  /** Reads it again from the server. */
  async refresh(): Promise<this> {
    return Object.assign(this, await this.#sessions.get(this.sessionId));
  }

  /** Cancels what runs or waits, or only `turn`. */
  cancel(params?: CancelParams): Promise<void> {
    return this.#sessions.cancel(this.sessionId, params);
  }

  /** Answers what its turn asks; see `sessions.input`. */
  input(callId: string, answer: AnswerParams): Promise<InputResult> {
    return this.#sessions.input(this.sessionId, callId, answer);
  }

  /** Its conversation; see `sessions.messages`. */
  messages(params?: MessagesParams): Promise<MessagePage> {
    return this.#sessions.messages(this.sessionId, params);
  }

  /** Says something to its open turn; see `sessions.send`. */
  send(content: string, messageId?: string): Promise<PostedMessage> {
    return this.#sessions.send(this.sessionId, content, messageId);
  }

  /** Makes a session that begins with its turns; see `sessions.fork`. */
  fork(params?: ForkParams): Promise<Session> {
    return this.#sessions.fork(this.sessionId, params);
  }

  /** The steps of its turns. */
  steps(): Promise<Step[]> {
    return this.#sessions.steps(this.sessionId);
  }

  /** Deletes it and its log. */
  delete(): Promise<void> {
    return this.#sessions.delete(this.sessionId);
  }

  #turn<P>(params: TurnParams<P>): P & { sessionId: string; agentId: string } {
    return { ...(params as P), sessionId: this.sessionId, agentId: this.agentId };
  }
}

class SessionStream extends StreamReader<Chunk, SessionMachine> implements AgentStream {
  readonly #resumePoint: ResumePoint;

  constructor(transport: Transport, requests: SessionRequests, controls: StreamControls) {
    super(transport, () => new SessionMachine(requests, transport.settings), controls);
    this.#resumePoint = requests.resumePoint;
  }

  get sessionId(): string | undefined {
    return this.#resumePoint.sessionId;
  }

  get turn(): number | undefined {
    return this.#resumePoint.turn;
  }

  get position(): number {
    return this.#resumePoint.position;
  }

  async cancel(): Promise<void> {
    const { sessionId, turn, idempotencyKey } = this.#resumePoint;
    await this.transport.call(cancelRequest(sessionId, { turn, idempotencyKey }));
  }

  protected where(): string {
    return `session ${this.sessionId ?? '?'}, position ${this.position}`;
  }
}
