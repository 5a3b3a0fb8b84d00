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

/** Series over time. `times` in seconds since 1970; a value of null is a gap. */
export function Chart(props: {
  label: string;
  series: readonly Series[];
  times: readonly number[];
  values: readonly (readonly (number | null)[])[];
  /** How a value is written at the axis. */
  format: (value: number) => string;
  height?: number;
  /** Seconds that one bar stands for; left out: lines. */
  bar?: number;
}) {
  const { label, series, times, values, format, height = 180, bar } = props;
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot>(null);
  const dark = useSyncExternalStore(onTheme, isDark);
  const names = series.map((one) => `${one.name}=${one.colour}`).join();

  // biome-ignore lint/correctness/useExhaustiveDependencies: `names` stands for `series`; data follow below
  useEffect(() => {
    const target = place.current;
    if (target === null) return;
    const made = new uPlot(
      optionsOf(target.clientWidth, height, series, format, bar),
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
  }, [names, dark, height, bar, format]);

  useEffect(() => {
    chart.current?.setData(dataOf(times, values));
  }, [times, values]);

  return (
    <div className="stack">
      {series.length > 1 && (
        <div className="row small muted">
          {series.map((one) => (
            <span key={one.name} className={`key ${one.colour}`}>
              {one.name}
            </span>
          ))}
        </div>
      )}
      <div ref={place} className="chart" role="img" aria-label={label} />
    </div>
  );
}

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
    padding: [8, 8, 0, 0],
    cursor: { y: false, drag: { x: false, y: false } },
    legend: { show: false },
    scales: {
      x: { ...(bar && { range: (_chart, from, to) => [from - bar / 2, to + bar / 2] }) },
      y: { range: (_chart, _from, to) => [0, to > 0 ? to * 1.1 : 1] },
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
