import { Lifetime } from './lifetime.js';
import { Observable } from './observable.js';
import type { AgentStreamState } from './snapshots.js';
import { NO_CONTENT } from './snapshots.js';
import type { AgentTask } from './turn-run.js';
import { TurnRun } from './turn-run.js';

/** The state before anything was asked, and what servers render. */
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

/** One turn at a time: a new one takes the place of the last, which goes on unseen on the server. */
export class AgentStreamStore extends Observable<AgentStreamState> {
  /** Keeps the connection until the function it returns is called; `show` opens it again. */
  readonly hold: () => () => void;
  #run: TurnRun | null = null;

  constructor() {
    super(IDLE);
    const lifetime = new Lifetime(
      () => undefined,
      () => this.close(),
    );
    this.hold = lifetime.hold;
  }

  /**
   * Starts a turn and shows it.
   *
   * Resolves when it is over or shown no longer, and never rejects: `error` says why it failed.
   */
  async execute(task: AgentTask): Promise<void> {
    this.#run?.close();
    const run = new TurnRun(task, () => {
      if (this.#run === run) {
        this.touch();
      }
    });
    this.#run = run;
    await this.#read(run);
  }

  /** Shows this turn: starts it, unless it is the one shown already, which is read on. */
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

  /** Cancels the turn. Rejects with a StreamError where the server could not be told. */
  readonly cancel = async (): Promise<void> => {
    await this.#run?.cancel();
  };

  /**
   * Goes on with a turn that broke off, or starts one like it if that has ended. Nothing happens
   * while it streams. Resolves like `execute`.
   */
  readonly retry = async (): Promise<void> => {
    const run = this.#run;
    if (run === null) {
      return;
    }
    if (run.isOver) {
      // Its key names the ended turn for good.
      await this.execute({ ...run.task, idempotencyKey: undefined });
    } else {
      await this.#read(run);
    }
  };

  protected override view(): AgentStreamState {
    return this.#run?.view() ?? IDLE;
  }

  async #read(run: TurnRun): Promise<void> {
    const reading = run.read();
    this.publish();
    await reading;
    // At once, so that whoever awaited the end reads all of it.
    if (this.#run === run) {
      this.publish();
    }
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
