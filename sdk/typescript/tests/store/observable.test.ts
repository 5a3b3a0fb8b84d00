import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Observable } from '../../src/store/observable.js';

class Counter extends Observable<number> {
  count = 0;
  views = 0;

  constructor() {
    super(0);
  }

  add(): void {
    this.count += 1;
    this.touch();
  }

  addNow(): void {
    this.count += 1;
    this.publish();
  }

  protected override view(): number {
    this.views += 1;
    return this.count;
  }
}

function hide(hidden: boolean): void {
  vi.spyOn(document, 'visibilityState', 'get').mockReturnValue(hidden ? 'hidden' : 'visible');
}

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

test('many changes within a frame are told once', () => {
  const counter = new Counter();
  const heard = vi.fn(() => counter.getSnapshot());
  counter.subscribe(heard);
  for (let change = 0; change < 1000; change += 1) {
    counter.add();
  }
  expect(heard).not.toHaveBeenCalled();
  expect(counter.getSnapshot()).toBe(0);
  vi.advanceTimersToNextFrame();
  expect(heard.mock.results).toEqual([{ type: 'return', value: 1000 }]);
  vi.advanceTimersByTime(1000);
  expect(heard).toHaveBeenCalledTimes(1);
});

test('what is published is told at once, and not once more with the frame', () => {
  const counter = new Counter();
  const heard = vi.fn();
  counter.subscribe(heard);
  counter.add();
  counter.addNow();
  expect(heard).toHaveBeenCalledTimes(1);
  vi.advanceTimersByTime(1000);
  expect(heard).toHaveBeenCalledTimes(1);
});

test('a publication that changes nothing is not told', () => {
  const counter = new Counter();
  const heard = vi.fn();
  counter.addNow();
  counter.subscribe(heard);
  counter.count -= 1;
  counter.addNow();
  expect(heard).not.toHaveBeenCalled();
});

test('a hidden tab is told all the same, though it draws no frames', () => {
  vi.stubGlobal('requestAnimationFrame', () => 1);
  vi.stubGlobal('cancelAnimationFrame', () => undefined);
  const counter = new Counter();
  const heard = vi.fn();
  counter.subscribe(heard);
  hide(true);
  counter.add();
  vi.advanceTimersByTime(20);
  expect(heard).toHaveBeenCalledTimes(1);
  // Hidden after the frame was asked for.
  hide(false);
  counter.add();
  hide(true);
  vi.advanceTimersByTime(300);
  expect(heard).toHaveBeenCalledTimes(2);
  vi.unstubAllGlobals();
});

test('where there are no frames a timer tells', () => {
  vi.stubGlobal('requestAnimationFrame', undefined);
  const counter = new Counter();
  const heard = vi.fn();
  counter.subscribe(heard);
  counter.add();
  vi.advanceTimersByTime(20);
  expect(heard).toHaveBeenCalledTimes(1);
  vi.unstubAllGlobals();
});

test('while nobody listens nothing is scheduled, and the snapshot is as it is', () => {
  const counter = new Counter();
  counter.add();
  counter.add();
  expect(vi.getTimerCount()).toBe(0);
  expect(counter.getSnapshot()).toBe(2);
  counter.getSnapshot();
  expect(counter.views).toBe(1);
  const stop = counter.subscribe(() => undefined);
  counter.add();
  stop();
  expect(vi.getTimerCount()).toBe(0);
  expect(counter.getSnapshot()).toBe(3);
});

test('one listener may listen twice, and its fault is not the others’', async () => {
  const counter = new Counter();
  const faulty = vi.fn(() => {
    throw new Error('faulty');
  });
  const heard = vi.fn();
  const seen: unknown[] = [];
  const enqueue = vi.spyOn(globalThis, 'queueMicrotask').mockImplementation((task) => {
    try {
      task();
    } catch (error) {
      seen.push(error);
    }
  });
  counter.subscribe(faulty);
  const stop = counter.subscribe(heard);
  counter.subscribe(heard);
  counter.addNow();
  expect(heard).toHaveBeenCalledTimes(2);
  expect(seen).toEqual([new Error('faulty')]);
  stop();
  counter.addNow();
  expect(heard).toHaveBeenCalledTimes(3);
  enqueue.mockRestore();
});
