import type {
  ConnectionState,
  EventStream,
  Place,
  PlatformEvent,
  StreamControls,
  SubscribeParams,
} from '../types.js';
import { HeldObservable } from './observable.js';
import { ResumableReader } from './resumable-reader.js';
import type { StreamClient } from './stream-client.js';

/** The number of events that are kept by default. */
const KEPT = 100;

export type EventsSelection = Omit<SubscribeParams, keyof StreamControls>;

export interface EventsStoreOptions {
  /** How many events are kept, the newest; 100 by default. */
  readonly limit?: number | undefined;
  /** Called once with every event as it comes, whatever `limit` keeps. */
  readonly onEvent?: ((event: PlatformEvent) => void) | undefined;
}

export interface EventsState {
  /** The newest events, the newest last. */
  readonly events: readonly PlatformEvent[];
  /** Why no more events come; null while they come. */
  readonly error: Error | null;
  readonly connection: ConnectionState;
}

/** The state before the first event, which servers render. */
export const NO_EVENTS: EventsState = { events: [], error: null, connection: 'closed' };

/** Platform events as they come, while anybody holds the store. Later holders get missed events. */
export class EventsStore extends HeldObservable<EventsState> {
  readonly #client: StreamClient;
  readonly #selection: EventsSelection;
  readonly #options: EventsStoreOptions;
  readonly #reader: ResumableReader<PlatformEvent>;
  #stream: EventStream | null = null;
  #since: Place | undefined;
  #events: readonly PlatformEvent[] = [];
  #fresh: PlatformEvent[] = [];
  #stopListening: () => void = () => undefined;

  constructor(client: StreamClient, selection: EventsSelection, options: EventsStoreOptions = {}) {
    super(NO_EVENTS);
    this.#client = client;
    this.#selection = selection;
    this.#since = selection.since;
    this.#options = options;
    this.#reader = new ResumableReader({
      open: (controls) => this.#open(controls),
      take: (event) => this.#take(event),
      changed: () => this.touch(),
    });
  }

  /** Forgets the events shown so far. */
  readonly clear = (): void => {
    this.#events = [];
    this.#fresh = [];
    this.publish();
  };

  /** Goes on after an error, from the last event. */
  readonly retry = (): void => {
    if (this.isHeld) {
      void this.#reader.read();
      this.publish();
    }
  };

  protected override view(): EventsState {
    if (this.#fresh.length > 0) {
      this.#events = [...this.#events, ...this.#fresh].slice(-this.#limit);
      this.#fresh = [];
    }
    const { error, connection } = this.#reader;
    return { events: this.#events, error, connection };
  }

  get #limit(): number {
    return Math.max(1, this.#options.limit ?? KEPT);
  }

  protected override begin(): void {
    this.#stopListening = this.#reader.whenBack(this.retry);
    this.retry();
  }

  protected override end(): void {
    this.#stopListening();
    this.#reader.close();
  }

  async #open(controls: StreamControls): Promise<EventStream> {
    this.#since = this.#stream?.cursor ?? this.#since;
    const since = this.#since;
    this.#stream = await this.#client.events.subscribe({ ...this.#selection, ...controls, since });
    return this.#stream;
  }

  #take(event: PlatformEvent): void {
    this.#fresh.push(event);
    if (this.#fresh.length > this.#limit) this.#fresh.shift();
    this.touch();
    this.#options.onEvent?.(event);
  }
}
