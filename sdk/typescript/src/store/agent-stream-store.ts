import { newKey } from '../core/messages.js';
import type {
  AgentStream,
  AnswerParams,
  Chunk,
  ExecuteStreamParams,
  StreamControls,
} from '../types.js';
import { ChunkObservable } from './chunk-observable.js';
import { cancelByKey } from './outbox.js';
import { ResumableReader } from './resumable-reader.js';
import type { AgentStreamState, StreamStatus } from './snapshots.js';
import { NO_CONTENT } from './snapshots.js';
import type { StreamClient } from './stream-client.js';
import { TurnFold } from './turn-fold.js';

/** A turn to ask for: the client, the agent, and the parameters of `executeStream`. */
export interface AgentTask extends AgentTaskParams {
  readonly client: StreamClient;
  readonly agentId: string;
  readonly goal: string;
}

/** The parameters of an execute besides its agent and goal. */
export type AgentTaskParams = Omit<
  ExecuteStreamParams,
  'agentId' | 'goal' | 'resumeFrom' | 'raiseOnError'
>;

/**
 * One turn. It is asked for with one Idempotency-Key, so that it runs once, however often the
 * connection breaks.
 */
class TurnRun {
  readonly task: AgentTask;
  readonly #key: string;
  readonly #fold = new TurnFold();
  readonly #reader: ResumableReader<Chunk>;
  readonly #heard: (chunk: Chunk) => void;
  readonly #changed: () => void;
  #stream: AgentStream | null = null;
  #sessionId: string | null = null;
  #turn: number | null = null;
  #position = 0;
  #withdrawn = false;
  #isClosed = false;

  constructor(task: AgentTask, heard: (chunk: Chunk) => void, changed: () => void) {
    this.task = task;
    this.#key = task.idempotencyKey ?? newKey();
    this.#heard = heard;
    this.#changed = changed;
    this.#reader = new ResumableReader({
      open: (controls) => this.#open(controls),
      take: (chunk) => this.#take(chunk),
      changed: () => this.#look(),
    });
  }

  get status(): StreamStatus {
    if (this.#fold.status !== null) return this.#fold.status;
    if (this.#withdrawn) return 'cancelled';
    if (this.#reader.error !== null) return 'failed';
    if (this.#fold.isWaiting) return 'waiting';
    if (this.#reader.isReading) return this.#turn === null ? 'connecting' : 'streaming';
    return 'idle';
  }

  /** Whether nothing more will come, even if it is read again. */
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
      isStreaming: status === 'connecting' || status === 'streaming' || status === 'waiting',
      sessionId: this.#sessionId,
      turn: this.#turn,
      position: this.#position,
      connection: this.#reader.connection,
    };
  }

  /** Reads on to the turn's end, a failure or `close`. Never rejects: the state has the error. */
  async read(): Promise<void> {
    if (this.isOver) return;
    this.#isClosed = false;
    if (!this.#reader.isReading) this.#fold.fail(null);
    await this.#reader.read();
    // The stream has ended where the turn asks. The next one stays, whoever answers.
    const isOpen = !this.#isClosed && this.#reader.error === null;
    if (isOpen && this.#fold.isWaiting) await this.#reader.read();
  }

  /** Ends the connection; the turn goes on at the server. */
  close(): void {
    this.#isClosed = true;
    this.#reader.close();
  }

  /** Says something to the turn. Rejects with a StreamError. */
  async steer(content: string): Promise<void> {
    await this.task.client.sessions.send(this.#sessionId ?? '', content);
  }

  /** Answers what the turn asks. Rejects with a StreamError. */
  async answer(callId: string, answer: AnswerParams): Promise<void> {
    const turn = this.#turn ?? undefined;
    await this.task.client.sessions.input(this.#sessionId ?? '', callId, { turn, ...answer });
    if (!this.#isClosed) void this.read();
  }

  /** Cancels the turn. Rejects with a StreamError if the server could not be reached. */
  async cancel(): Promise<void> {
    if (this.isOver) return;
    if (this.#sessionId !== null && this.#turn !== null) {
      await this.task.client.sessions.cancel(this.#sessionId, { turn: this.#turn });
      return;
    }
    // Whether or not the server has the turn: it is over for the user.
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
      const follow = this.#fold.isWaiting || undefined;
      const join = { ...form, ...place, ...controls, ...(follow && { follow }) };
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
    this.#heard(chunk);
    this.#look();
  }

  /** Copies the stream's ids and position. */
  #look(): void {
    this.#sessionId = this.#stream?.sessionId ?? this.#sessionId;
    this.#turn = this.#stream?.turn ?? this.#turn;
    if (this.#reader.error !== null && !this.isOver) this.#fold.fail(this.#reader.error);
    this.#changed();
  }
}

/** The state before the first goal, which servers render. */
export const IDLE: AgentStreamState = {
  ...NO_CONTENT,
  agentId: null,
  goal: null,
  status: 'idle',
  isStreaming: false,
  sessionId: null,
  turn: null,
  position: 0,
  connection: 'closed',
};

/** What a page does with a turn that it shows. */
export interface AgentStreamActions {
  /**
   * Says something to the turn; its agent takes it when it likes to, or the next turn of the session has
   * it. Rejects with a StreamError, a Conflict where the turn is over.
   */
  steer(content: string): Promise<void>;
  /**
   * Answers what the turn asks (`waiting`); the turn goes on in its place. Rejects with a StreamError
   * where somebody has answered otherwise, or the answer does not fit.
   */
  answer(callId: string, answer: AnswerParams): Promise<void>;
  /** Cancels the turn. Rejects with a StreamError if the server could not be reached. */
  cancel(): Promise<void>;
  /**
   * Goes on with a turn that broke off, or starts one like it if that has ended. Nothing happens
   * while it streams. Resolves when the turn is over or no longer shown, and never rejects.
   */
  retry(): Promise<void>;
}

/** Shows one turn at a time. A new turn replaces the last one, which goes on at the server. */
export class AgentStreamStore
  extends ChunkObservable<AgentStreamState>
  implements AgentStreamActions
{
  #run: TurnRun | null = null;

  constructor() {
    super(IDLE);
  }

  /**
   * Starts a turn and shows it.
   *
   * Resolves when the turn is over or no longer shown. Never rejects: `error` says why it failed.
   */
  async execute(task: AgentTask): Promise<void> {
    this.#run?.close();
    const run = new TurnRun(
      task,
      (chunk) => {
        if (this.#run === run) this.tell(chunk);
      },
      () => {
        if (this.#run === run) this.touch();
      },
    );
    this.#run = run;
    await this.#read(run);
  }

  /** Shows this turn. Starts it, or reads on if it is shown already. */
  show(task: AgentTask): void {
    const shown = this.#run;
    if (shown !== null && isSame(shown.task, task)) {
      void this.#read(shown);
    } else {
      void this.execute(task);
    }
  }

  /** Shows nothing. */
  clear(): void {
    this.close();
    this.#run = null;
    this.publish();
  }

  /** Ends the connection; `show` with the same task goes on where it was. */
  close(): void {
    this.#run?.close();
  }

  readonly steer = async (content: string): Promise<void> => {
    await this.#run?.steer(content);
  };

  readonly answer = async (callId: string, answer: AnswerParams): Promise<void> => {
    await this.#run?.answer(callId, answer);
  };

  readonly cancel = async (): Promise<void> => {
    await this.#run?.cancel();
  };

  readonly retry = async (): Promise<void> => {
    const run = this.#run;
    if (run === null) return;
    if (run.isOver) {
      // Its key names the ended turn for good.
      await this.execute({ ...run.task, idempotencyKey: undefined });
    } else {
      await this.#read(run);
    }
  };

  protected override end(): void {
    this.close();
  }

  protected override view(): AgentStreamState {
    return this.#run?.view() ?? IDLE;
  }

  async #read(run: TurnRun): Promise<void> {
    const reading = run.read();
    this.publish();
    await reading;
    // Now, so that a caller that awaited the end reads the whole turn.
    if (this.#run === run) this.publish();
  }
}

function isSame(one: AgentTask, other: AgentTask): boolean {
  return (
    one.client === other.client &&
    one.agentId === other.agentId &&
    one.goal === other.goal &&
    one.sessionId === other.sessionId
  );
}
