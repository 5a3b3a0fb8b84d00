import { newKey } from '../core/messages.js';
import type { AgentStream, Chunk, ExecuteStreamParams, StreamControls } from '../types.js';
import { cancelByKey } from './begin-turn.js';
import { ResumableReader } from './resumable-reader.js';
import type { AgentStreamState, StreamStatus } from './snapshots.js';
import type { StreamClient } from './stream-client.js';
import { TurnFold } from './turn-fold.js';

/** What a turn is asked for: by whom, of whom, and everything that `executeStream` understands. */
export interface AgentTask extends AgentTaskParams {
  readonly client: StreamClient;
  readonly agentId: string;
  readonly goal: string;
}

/** What an execute can be told besides its agent and goal. */
export type AgentTaskParams = Omit<
  ExecuteStreamParams,
  'agentId' | 'goal' | 'resumeFrom' | 'raiseOnError'
>;

/**
 * One turn, read as often as it takes: its Idempotency-Key stays the same, so that however often it
 * is asked for, it runs once.
 */
export class TurnRun {
  readonly task: AgentTask;
  readonly #key: string;
  readonly #fold = new TurnFold();
  readonly #reader: ResumableReader<Chunk>;
  readonly #changed: () => void;
  #stream: AgentStream | null = null;
  #sessionId: string | null = null;
  #turn: number | null = null;
  #position = 0;
  #withdrawn = false;

  constructor(task: AgentTask, changed: () => void) {
    this.task = task;
    this.#key = task.idempotencyKey ?? newKey();
    this.#changed = changed;
    this.#reader = new ResumableReader({
      open: (controls) => this.#open(controls),
      take: (chunk) => this.#take(chunk),
      changed: () => this.#look(),
    });
  }

  get status(): StreamStatus {
    if (this.#fold.status !== null) {
      return this.#fold.status;
    }
    if (this.#withdrawn) {
      return 'cancelled';
    }
    if (this.#reader.isReading) {
      return this.#turn === null ? 'connecting' : 'streaming';
    }
    return this.#reader.error === null ? 'idle' : 'failed';
  }

  /** Whether nothing more will come, however often it is read. */
  get isOver(): boolean {
    return this.#fold.status !== null || this.#withdrawn;
  }

  view(): AgentStreamState {
    const { status } = this;
    return {
      ...this.#fold.view(),
      agentId: this.task.agentId,
      goal: this.task.goal,
      status,
      isStreaming: status === 'connecting' || status === 'streaming',
      sessionId: this.#sessionId,
      turn: this.#turn,
      position: this.#position,
      connection: this.#reader.connection,
    };
  }

  /** Reads on to the turn's end, a failure or `close`. Never rejects: the state has the error. */
  read(): Promise<void> {
    if (this.isOver) {
      return Promise.resolve();
    }
    if (!this.#reader.isReading) {
      this.#fold.fail(null);
    }
    return this.#reader.read();
  }

  /** Ends the connection; the turn goes on without us. */
  close(): void {
    this.#reader.close();
  }

  /** Cancels the turn. Rejects with a StreamError where the server could not be told. */
  async cancel(): Promise<void> {
    if (this.isOver) {
      return;
    }
    if (this.#sessionId !== null && this.#turn !== null) {
      await this.task.client.sessions.cancel(this.#sessionId, { turn: this.#turn });
      return;
    }
    // The server may have it or not: for the one who looks it is over either way.
    this.#withdrawn = true;
    this.#reader.close();
    this.#changed();
    await cancelByKey(this.task.client, this.#key);
  }

  async #open(controls: StreamControls): Promise<AgentStream> {
    const { client, ...params } = this.task;
    const form = { compact: true, raiseOnError: false };
    if (this.#sessionId !== null && this.#turn !== null && this.#position > 0) {
      const place = { turn: this.#turn, resumeFrom: this.#position };
      const join = { ...form, ...place, ...controls };
      this.#stream = await client.sessions.join(this.#sessionId, join);
    } else {
      const execute = { ...params, ...form, idempotencyKey: this.#key };
      this.#stream = await client.sessions.executeStream(execute, controls);
    }
    this.#look();
    return this.#stream;
  }

  #take(chunk: Chunk): void {
    this.#fold.apply(chunk);
    this.#position = chunk.position;
    this.#look();
  }

  /** Takes over what the stream has learnt meanwhile. */
  #look(): void {
    this.#sessionId = this.#stream?.sessionId ?? this.#sessionId;
    this.#turn = this.#stream?.turn ?? this.#turn;
    if (this.#reader.error !== null && !this.isOver) {
      this.#fold.fail(this.#reader.error);
    }
    this.#changed();
  }
}
