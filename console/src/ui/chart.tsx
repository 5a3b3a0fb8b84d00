/** Charts: thousands of points on a canvas, redrawn in place. */
import { useEffect, useRef, useSyncExternalStore } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { isDark, onTheme } from './theme.ts';
import './chart.css';

export interface Series {
  readonly name: string;
  /** A colour of `theme.css`, without the dashes. */
  readonly colour: 'accent' | 'good' | 'warn' | 'bad' | 'muted';
}

export interface ChartProps {
  readonly label: string;
  readonly series: readonly Series[];
  /** Seconds since 1970. */
  readonly times: readonly number[];
  /** Of each series; null is a gap. */
  readonly values: readonly (readonly (number | null)[])[];
  /** How a value is written at the axis. */
  readonly format: (value: number) => string;
  readonly height?: number;
  /** The top of the axis at least, where whole things are counted. */
  readonly least?: number;
  /** Seconds that one bar stands for; left out: lines. */
  readonly bar?: number;
}

/** Series over time. */
export function Chart(props: ChartProps) {
  const { label, series, times, values, format, height = 180, least = 0, bar } = props;
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot>(null);
  const dark = useSyncExternalStore(onTheme, isDark);
  const isEmpty = values.every((line) => line.every((value) => (bar ? !value : value === null)));
  const names = series.map((one) => `${one.name}=${one.colour}`).join();

  // biome-ignore lint/correctness/useExhaustiveDependencies: `names` stands for `series`; data follow below
  useEffect(() => {
    const target = place.current;
    if (target === null) return;
    const made = new uPlot(
      optionsOf(target.clientWidth, height, least, series, format, bar),
      [[]],
      target,
    );
    made.setData(dataOf(times, values));
    chart.current = made;
    const resize = new ResizeObserver(() => {
      if (target.clientWidth !== made.width) made.setSize({ width: target.clientWidth, height });
    });
    resize.observe(target);
    return () => {
      resize.disconnect();
      made.destroy();
      chart.current = null;
    };
  }, [names, dark, height, least, bar, format]);

  useEffect(() => {
    chart.current?.setData(dataOf(times, values));
  }, [times, values]);

  return (
    <div className="chart">
      <div ref={place} role="img" aria-label={label} />
      {isEmpty && <p className="muted small nothing">Nothing in this time</p>}
    </div>
  );
}

/** Which colour is which series. */
export function Keys(props: { series: readonly Series[] }) {
  return (
    <div className="row small muted keys">
      {props.series.map((one) => (
        <span key={one.name} className={`key ${one.colour}`}>
          {one.name}
        </span>
      ))}
    </div>
  );
}

/** Seconds that lines span at least, so that they grow from the right and not wider. */
const SHORTEST = 60;
const TIME = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const DAY = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' });

function dataOf(
  times: readonly number[],
  values: readonly (readonly (number | null)[])[],
): uPlot.AlignedData {
  return [times, ...values] as uPlot.AlignedData;
}

function optionsOf(
  width: number,
  height: number,
  least: number,
  series: readonly Series[],
  format: (value: number) => string,
  bar: number | undefined,
): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(`--${name}`);
  const axis: uPlot.Axis = {
    stroke: colour('muted'),
    font: `11.5px ${style.getPropertyValue('--sans')}`,
    grid: { stroke: colour('line'), width: 1 },
    ticks: { show: false },
  };
  const words = bar === undefined ? TIME : DAY;
  const bars = bar === undefined ? undefined : uPlot.paths.bars?.({ size: [0.7, 40] });
  return {
    width,
    height,
    // The time at the right end needs half of its width.
    padding: [8, 26, 0, 0],
    cursor: { y: false, drag: { x: false, y: false } },
    legend: { show: false },
    scales: {
      x: {
        range: (_chart, from, to) =>
          bar ? [from - bar / 2, to + bar / 2] : [Math.min(from, to - SHORTEST), to],
      },
      y: { range: (_chart, _from, to) => [0, Math.max(to * 1.1, least) || 1] },
    },
    axes: [
      {
        ...axis,
        space: 90,
        size: 26,
        values: (_chart, marks) => marks.map((at) => words.format(at * 1000)),
      },
      { ...axis, size: 62, values: (_chart, marks) => marks.map(format) },
    ],
    series: [
      {},
      ...series.map((one) => ({
        label: one.name,
        points: { show: false },
        stroke: colour(one.colour),
        width: 1.5,
        ...(series.length === 1 && { fill: `${colour(one.colour)}2a` }),
        ...(bars && { paths: bars, width: 0, fill: `${colour(one.colour)}99` }),
      })),
    ],
  };
}
