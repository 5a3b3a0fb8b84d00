/** The worker: it keeps a socket, takes turns, and gives their chunks to the server. */
import { AGENTS, asObject, errorFromAnswer, newKey, parseJson, segment } from '../core/messages.js';
import { delay, Retries } from '../core/retry.js';
import {
  AuthenticationError,
  Conflict,
  ConnectionLost,
  InvalidRequest,
  makeError,
  NotFound,
  PermissionDenied,
  StreamError,
} from '../errors.js';
import { now, pause } from '../platform.js';
import { closedError, socketClass, socketUrl } from '../realtime/web-socket.js';
import type { Agents } from '../resources.js';
import { CONNECT, type Settings } from '../settings.js';
import type { Transport } from '../transport.js';
import type { JsonObject } from '../types.js';
import { Assignment, type AssignmentPort, breath } from './assignment.js';
import type { Handler, ServeOptions, Worker } from './values.js';

/** Seconds before the attempts after a loss. */
const BACKOFF = { base: 0.25, cap: 5 };
/** Heartbeats that may be missing before the link counts as dead. */
const BEATS = 3;
/** What the server closes a plain GET of the socket's path with, if nothing else is wrong. */
const UPGRADE_REQUIRED = 426;
/** The code that says that the worker leaves for good, and one that does not. */
const LEFT = 1000;
const CUT = 4000;

/** What the server's `welcome` says; these are its defaults. */
interface Terms {
  heartbeat_seconds: number;
  grace_seconds: number;
  window_bytes: number;
  message_bytes: number;
}

/** Starts a worker; see `client.agents.serve`. Throws StreamError. */
export async function serve(
  agents: Agents,
  transport: Transport,
  agentId: string,
  handler: Handler,
  options: ServeOptions = {},
): Promise<Worker> {
  const { capacity = 8 } = options;
  if (!(capacity >= 1)) throw new InvalidRequest('capacity must be 1 or more');
  await makeServed(agents, agentId);
  const worker = new AgentWorker(transport, agentId, handler, { ...options, capacity });
  await worker.welcomed();
  return worker;
}

/** Makes the agent unless it is there; the worker's socket tells what is wrong then. */
async function makeServed(agents: Agents, id: string): Promise<void> {
  try {
    await agents.get(id).catch((error) => {
      if (!(error instanceof NotFound)) throw error;
      return agents.create({ id, name: id, engine: 'worker' });
    });
  } catch (error) {
    if (!(error instanceof PermissionDenied || error instanceof Conflict)) throw error;
  }
}

/** Serves one agent until it is stopped. */
class AgentWorker implements Worker {
  readonly id = `wrk_${newKey()}`;
  readonly agentId: string;
  readonly ended: Promise<void>;
  readonly #transport: Transport;
  readonly #settings: Settings;
  readonly #handler: Handler;
  readonly #options: ServeOptions & { capacity: number };
  readonly #assignments = new Map<string, Assignment>();
  /** Assignments with something to send, in order. */
  readonly #ready = new Set<Assignment>();
  readonly #drained = new AbortController();
  readonly #retries: Retries;
  #terms: Terms = {
    heartbeat_seconds: 5,
    grace_seconds: 10,
    window_bytes: 256 * 1024,
    message_bytes: 256 * 1024,
  };
  #socket: WebSocket | undefined;
  #isWelcome = false;
  #hasServed = false;
  #isDraining = false;
  #heard = 0;
  #beat: ReturnType<typeof setTimeout> | undefined;
  #fence: ReturnType<typeof setTimeout> | undefined;
  #welcomed: () => void = () => undefined;
  /** Ends the present socket; harmless if it is over. */
  #cut: (why: StreamError) => void = () => undefined;

  constructor(
    transport: Transport,
    agentId: string,
    handler: Handler,
    options: ServeOptions & { capacity: number },
  ) {
    this.agentId = agentId;
    this.#transport = transport;
    this.#settings = transport.settings;
    this.#handler = handler;
    this.#options = options;
    this.#retries = new Retries(transport.settings);
    this.ended = this.#run();
  }

  /** Resolves once the server has welcomed it. Rejects with the StreamError of `ended`. */
  async welcomed(): Promise<void> {
    const welcomed = new Promise<void>((resolve) => {
      this.#welcomed = resolve;
    });
    await Promise.race([this.ended, welcomed]);
  }

  stop(): Promise<void> {
    if (!this.#isDraining) {
      this.#isDraining = true;
      if (this.#isWelcome) this.#say({ type: 'drain' });
      const { drainSeconds = 30 } = this.#options;
      const late = setTimeout(() => this.#drained.abort(), drainSeconds * 1000);
      this.#drained.signal.addEventListener('abort', () => clearTimeout(late));
      this.#lookDrained();
    }
    return this.ended;
  }

  async #run(): Promise<void> {
    try {
      await this.#serve();
    } finally {
      clearTimeout(this.#fence);
      const left = [...this.#assignments.values()];
      for (const assignment of left) assignment.cancel();
      await Promise.all(left.map((assignment) => assignment.ended()));
    }
  }

  // -- the connection -------------------------------------------------------------------------

  /** Opens one socket after the other, until drained. */
  async #serve(): Promise<void> {
    const { signal } = this.#drained;
    let failures = 0;
    // Whoever made the worker listens before it begins.
    await breath();
    while (!signal.aborted) {
      const begun = now();
      const error = await this.#oneSocket();
      if (signal.aborted) return;
      this.#fenceSoon();
      failures = now() - begun > BACKOFF.cap ? 1 : failures + 1;
      const wait = this.#hasServed
        ? delay(BACKOFF, failures, error.retryAfter ?? 0, Math.random)
        : this.#retries.after(error);
      if (!error.retryable || wait === undefined) throw error;
      this.#settings.log('warn', `worker of ${this.agentId}: ${error.message}`);
      await pause(wait, signal);
    }
  }

  /** Connects, and serves until the socket is lost or the worker drained; returns the reason. */
  async #oneSocket(): Promise<StreamError> {
    const { options, credential } = this.#settings;
    const path = `${AGENTS}/${segment(this.agentId)}/serve`;
    try {
      const token = await credential.get();
      const headers = { Authorization: `Bearer ${token}` };
      const Socket = (await socketClass(options)) as unknown as SocketWithHeaders;
      const socket = new Socket(socketUrl(options, path), { headers });
      const [error, wasOpen] = await this.#speak(socket);
      if (this.#drained.signal.aborted) return error;
      if (wasOpen) {
        const isRenewed = error instanceof AuthenticationError && (await credential.renew(token));
        return isRenewed ? new ConnectionLost(error.message) : error;
      }
      // Platforms do not say why a socket was refused; a plain request is refused for the same.
      const outcome = await this.#transport.fetch({ method: 'GET', path });
      if (outcome.was !== 'answered' || outcome.answer.status === UPGRADE_REQUIRED) return error;
      return errorFromAnswer(outcome.answer);
    } catch (cause) {
      if (cause instanceof StreamError) return cause;
      return new InvalidRequest(`a worker needs a WebSocket that takes headers: ${cause}`, {
        cause,
      });
    }
  }

  /** Says hello, and serves until the socket is over. Returns the reason, and whether it was open. */
  #speak(socket: WebSocket): Promise<[StreamError, boolean]> {
    return new Promise((resolve) => {
      let isOpen = false;
      const over = (error: StreamError) => {
        clearTimeout(this.#beat);
        this.#drained.signal.removeEventListener('abort', drained);
        socket.onopen = socket.onmessage = socket.onclose = null;
        this.#cut = () => undefined;
        this.#socket = undefined;
        this.#isWelcome = false;
        resolve([error, isOpen]);
      };
      const drained = () => {
        over(new ConnectionLost('the worker has stopped'));
        socket.close(LEFT);
      };
      this.#cut = (why) => {
        over(why);
        socket.close(CUT);
      };
      this.#socket = socket;
      this.#drained.signal.addEventListener('abort', drained);
      this.#beat = setTimeout(
        () => this.#cut(new ConnectionLost('no answer in time')),
        CONNECT * 1000,
      );
      socket.onopen = () => {
        isOpen = true;
        this.#heard = now();
        this.#say(this.#hello());
        this.#beatSoon();
      };
      socket.onmessage = ({ data }) => {
        this.#heard = now();
        this.#understand(asObject(parseJson(String(data))));
      };
      socket.onclose = ({ code, reason }) => over(closedError(code, reason));
      // The close event that follows has the reason. Without a listener an error ends a Node process.
      socket.onerror = () => undefined;
    });
  }

  /** Gives a sign of life after a while, again and again, and ends a socket that gives none. */
  #beatSoon(): void {
    const { heartbeat_seconds } = this.#terms;
    clearTimeout(this.#beat);
    this.#beat = setTimeout(() => {
      if (now() - this.#heard > BEATS * heartbeat_seconds) {
        this.#cut(new ConnectionLost('the link does not answer'));
        return;
      }
      this.#say({ type: 'heartbeat' });
      this.#beatSoon();
    }, heartbeat_seconds * 1000);
  }

  #hello(): JsonObject {
    return {
      type: 'hello',
      worker_id: this.id,
      name: this.#options.name?.slice(0, 200) ?? '',
      capacity: this.#options.capacity,
      assignments: [...this.#assignments.values()].map(({ id, isOver }) => ({
        assignment: id,
        is_over: isOver,
      })),
    };
  }

  #say(message: JsonObject): void {
    this.#socket?.send(JSON.stringify(message));
  }

  // -- what the server says -------------------------------------------------------------------

  #understand(message: JsonObject): void {
    const id = String(message.assignment);
    const assignment = this.#assignments.get(id);
    switch (message.type) {
      case 'welcome':
        this.#welcome(message as unknown as Welcome);
        break;
      case 'assign':
        if (!assignment) this.#assign(id, asObject(message.turn));
        break;
      case 'ack':
        assignment?.acked(Number(message.seq));
        if (assignment) this.#lookDone(assignment);
        break;
      case 'cancel':
        if (assignment) this.#cancel(assignment);
        else this.#say({ type: 'ended', assignment: id });
        break;
      case 'error':
        // Sent again, the message would be refused again.
        this.#cut(makeError(String(message.code), String(message.message), {}));
        break;
    }
  }

  #welcome(terms: Welcome): void {
    this.#terms = terms;
    this.#isWelcome = this.#hasServed = true;
    this.#beatSoon();
    clearTimeout(this.#fence);
    this.#fence = undefined;
    const kept = new Map(terms.assignments.map(({ assignment, seq }) => [assignment, seq]));
    for (const assignment of [...this.#assignments.values()]) {
      const seq = kept.get(assignment.id);
      if (seq === undefined) {
        if (assignment.isWanted) this.#cancel(assignment);
      } else {
        assignment.resumed(seq);
        this.#lookDone(assignment);
      }
    }
    if (this.#isDraining) this.#say({ type: 'drain' });
    this.#settings.log('info', `worker of ${this.agentId}: connected as ${this.id}`);
    this.#welcomed();
  }

  #assign(id: string, turn: JsonObject): void {
    const port: AssignmentPort = {
      handler: this.#handler,
      window: this.#terms.window_bytes,
      largest: this.#terms.message_bytes,
      changed: (assignment) => this.#toSend(assignment),
      over: (assignment) => this.#lookDone(assignment),
      failed: (error) => {
        const text = error instanceof Error ? error.stack : error;
        this.#settings.log('error', `worker of ${this.agentId}: a turn failed: ${text}`);
      },
    };
    this.#assignments.set(id, new Assignment(id, turn, port));
  }

  #cancel(assignment: Assignment): void {
    assignment.cancel();
    this.#lookDone(assignment);
  }

  // -- what assignments have ------------------------------------------------------------------

  #toSend(assignment: Assignment): void {
    if (!this.#isWelcome) return;
    // In a moment, with all that the handler says until then in one message.
    if (!this.#ready.size) void breath().then(() => this.#flush());
    this.#ready.add(assignment);
  }

  #flush(): void {
    const ready = [...this.#ready];
    this.#ready.clear();
    if (!this.#isWelcome) return;
    for (const assignment of ready) {
      for (const text of assignment.messages()) this.#socket?.send(text);
    }
  }

  #lookDone(assignment: Assignment): void {
    if (!assignment.isDone || !this.#assignments.delete(assignment.id)) return;
    this.#ready.delete(assignment);
    if (!assignment.isWanted && this.#isWelcome) {
      this.#say({ type: 'ended', assignment: assignment.id });
    }
    this.#lookDrained();
  }

  #lookDrained(): void {
    if (this.#isDraining && !this.#assignments.size) this.#drained.abort();
  }

  /** Without a socket for the grace, the server has given the turns up: so does the worker. */
  #fenceSoon(): void {
    if (this.#fence !== undefined || !this.#assignments.size) return;
    this.#fence = setTimeout(() => {
      this.#fence = undefined;
      for (const assignment of [...this.#assignments.values()]) this.#cancel(assignment);
    }, this.#terms.grace_seconds * 1000);
  }
}

interface Welcome extends Terms {
  assignments: { assignment: string; seq: number }[];
}

/** Node's own WebSocket, those of Deno and Bun, and that of `ws`; not that of browsers. */
type SocketWithHeaders = new (
  url: string,
  options: { headers: Record<string, string> },
) => WebSocket;
