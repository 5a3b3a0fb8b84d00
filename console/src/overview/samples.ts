/** What the server does, second by second: rates and percentiles from counts that only grow. */
import type { Histogram, NodeMetrics } from '@resonantgenesis/sdk';
import { admin, operator } from '../api.ts';

/** What all nodes said in one second. */
export interface Sample {
  /** Seconds since 1970, by this browser's clock. */
  readonly at: number;
  readonly nodes: readonly NodeMetrics[];
  readonly waiting: number;
}

/** Seconds that are kept and shown. */
const KEPT = 300;
/** Seconds over which percentiles are told. */
const WINDOW = 10;

export type Whose = 'organization' | 'server';

/** The samples so far and a new one. Throws StreamError. */
export async function sampled(
  before: readonly Sample[],
  whose: Whose,
  key?: string,
): Promise<readonly Sample[]> {
  const { metrics } = key === undefined ? admin : operator(key);
  const said = await metrics.read(whose);
  const at = Date.now() / 1000;
  const sample = { at, nodes: said.data, waiting: said.waitingTurns };
  return [...before.filter((one) => at - one.at < KEPT), sample];
}

/** The sum over all nodes of a sample. */
export function total(sample: Sample, of: (node: NodeMetrics) => number): number {
  return sample.nodes.reduce((sum, node) => sum + of(node), 0);
}

/** Counts by word over all nodes, the largest first. */
export function byWord(
  sample: Sample,
  of: (node: NodeMetrics) => Readonly<Record<string, number>>,
): readonly (readonly [string, number])[] {
  const sums = new Map<string, number>();
  for (const node of sample.nodes) {
    for (const [word, count] of Object.entries(of(node))) {
      sums.set(word, (sums.get(word) ?? 0) + count);
    }
  }
  return [...sums].filter(([, count]) => count > 0).sort((one, other) => other[1] - one[1]);
}

/** Chunks a second that a node stored between two samples; 0 for a node that is new. */
export function rateOf(node: NodeMetrics, before: Sample | undefined): number {
  const earlier = before?.nodes.find((one) => one.node === node.node);
  const seconds = node.uptimeSeconds - (earlier?.uptimeSeconds ?? node.uptimeSeconds);
  return earlier === undefined || seconds <= 0 ? 0 : (node.chunks - earlier.chunks) / seconds;
}

export interface Curves {
  readonly times: readonly number[];
  readonly rates: readonly (readonly (number | null)[])[];
  readonly streams: readonly (readonly (number | null)[])[];
  readonly firstChunk: readonly (readonly (number | null)[])[];
  readonly appendToSocket: readonly (readonly (number | null)[])[];
}

/** What the charts show: a value of each curve for each sample. */
export function curvesOf(samples: readonly Sample[]): Curves {
  const percentiles = (of: (node: NodeMetrics) => Histogram) =>
    [0.5, 0.99].map((part) =>
      samples.map((sample, index) => percentile(part, sample, windowStart(samples, index), of)),
    );
  return {
    times: samples.map((sample) => sample.at),
    rates: [
      samples.map((sample, index) =>
        index === 0 ? null : total(sample, (node) => rateOf(node, samples[index - 1])),
      ),
    ],
    streams: [
      samples.map((sample) => total(sample, (node) => node.openStreams)),
      samples.map((sample) => total(sample, (node) => node.viewers.behind)),
    ],
    firstChunk: percentiles((node) => node.firstChunk),
    appendToSocket: percentiles((node) => node.appendToSocket),
  };
}

/** The sample from which a percentile of the sample at `index` is told. */
function windowStart(samples: readonly Sample[], index: number): Sample | undefined {
  const end = samples[index]?.at ?? 0;
  let start = index;
  while (start > 0 && end - (samples[start - 1]?.at ?? 0) <= WINDOW) start -= 1;
  return samples[start === index ? index - 1 : start];
}

/** Seconds below which this part of the values since `before` is; null if there are none. */
function percentile(
  part: number,
  sample: Sample,
  before: Sample | undefined,
  of: (node: NodeMetrics) => Histogram,
): number | null {
  const bounds = sample.nodes[0] === undefined ? [] : of(sample.nodes[0]).bounds;
  const counts = new Array<number>(bounds.length + 1).fill(0);
  for (const node of sample.nodes) {
    const earlier = before?.nodes.find((one) => one.node === node.node);
    if (earlier === undefined) continue;
    const then = of(earlier).counts;
    of(node).counts.forEach((count, index) => {
      counts[index] = (counts[index] ?? 0) + count - (then[index] ?? 0);
    });
  }
  const all = counts.at(-1) ?? 0;
  if (all <= 0) return null;
  const rank = part * all;
  const bucket = counts.findIndex((count) => count >= rank);
  const upper = bounds[bucket];
  if (upper === undefined) return bounds.at(-1) ?? null;
  const lower = bucket === 0 ? 0 : (bounds[bucket - 1] ?? 0);
  const below = bucket === 0 ? 0 : (counts[bucket - 1] ?? 0);
  return lower + (upper - lower) * ((rank - below) / ((counts[bucket] ?? 0) - below));
}
