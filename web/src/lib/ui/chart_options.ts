// From our description of a chart to uPlot's options and data.
//
// For: stacking, colours, axes. Not for: life cycle and events (Chart.svelte). Invariant: null stays null, so that a
// missing value is drawn as a gap; stacking treats it as nothing on top.

import uPlot from 'uplot';

import type { PlotFrame } from './chart_marks';
import { formatSeconds, type TimeZoneName } from './format';

export interface ChartSeries {
  readonly label: string;
  /** Name of a CSS custom property, such as `--sev-error`. */
  readonly color: string;
  readonly values: readonly (number | null)[];
}

export interface ChartShape {
  readonly kind: 'bars' | 'lines' | 'areas';
  readonly isStacked: boolean;
  readonly fromSeconds: number;
  readonly toSeconds: number;
  /** Fixed top of the value axis; without it the data decides. */
  readonly max?: number | undefined;
  /** Values of bins from here on are of windows that are not complete yet. */
  readonly openFromSeconds?: number | undefined;
  readonly format: (value: number | null) => string;
}

/** Where values were expected, for each bin; null where nothing was. */
export interface ChartBand {
  readonly low: readonly (number | null)[];
  readonly high: readonly (number | null)[];
}

/** What was expected of a bin: `2 – 5`, or a dash. */
export function bandText(band: ChartBand, index: number, format: (value: number | null) => string): string {
  const [low, high] = [band.low[index] ?? null, band.high[index] ?? null];
  return low === null || high === null ? format(null) : `${format(low)} – ${format(high)}`;
}

/** Heights at which stacked values are drawn: the first series lies at the bottom. */
export function stack(series: readonly (readonly (number | null)[])[]): (number | null)[][] {
  const below: number[] = [];
  return series.map((values) =>
    values.map((value, index) => {
      const height = (below[index] ?? 0) + (value ?? 0);
      below[index] = height;
      return height;
    }),
  );
}

/** Data in drawing order: a stack is painted from its highest sum down, so each series covers the one above it. */
export function toPlotData(times: readonly number[], series: readonly ChartSeries[], isHidden: (label: string) => boolean, isStacked: boolean): uPlot.AlignedData {
  const values = series.map((one) => (isHidden(one.label) ? one.values.map(() => null) : one.values));
  const drawn = isStacked ? stack(values).reverse() : values.map((one) => [...one]);
  return [[...times], ...drawn];
}

export function resolveColor(element: HTMLElement, property: string): string {
  const probe = document.createElement('span');
  probe.style.color = `var(${property})`;
  element.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

export interface PlotContext {
  readonly host: HTMLElement;
  readonly width: number;
  readonly height: number;
  readonly zone: TimeZoneName;
  readonly syncKey: string;
  readonly shape: () => ChartShape;
  readonly band: () => ChartBand | undefined;
  /** Gets the bin nearest to the cursor, and the time under it, seconds. */
  readonly onCursor: (index: number | null, seconds: number) => void;
  readonly onDraw: (frame: PlotFrame) => void;
  readonly onZoom: ((fromSeconds: number, toSeconds: number) => void) | undefined;
}

const AXIS_FONT = '11px system-ui, sans-serif';
const SELECT_PX_MIN = 5;

export function plotOptions(series: readonly ChartSeries[], context: PlotContext): uPlot.Options {
  const { host, shape } = context;
  const { isStacked, kind } = shape();
  const axis = { stroke: resolveColor(host, '--muted'), font: AXIS_FONT, ticks: { show: false }, border: { show: false } };
  const grid = { stroke: resolveColor(host, '--grid'), width: 1 };
  const drawn = isStacked ? [...series].reverse() : series;
  const bandColor = withAlpha(resolveColor(host, '--expected'), 0.22);
  return {
    width: context.width,
    height: context.height,
    legend: { show: false },
    padding: [8, 8, 0, 0],
    tzDate: (seconds) => (context.zone === 'utc' ? uPlot.tzDate(new Date(seconds * 1000), 'Etc/UTC') : new Date(seconds * 1000)),
    cursor: {
      y: false,
      points: { show: kind !== 'bars', size: 6 },
      drag: { x: context.onZoom !== undefined, y: false, setScale: false },
      sync: { key: context.syncKey, setSeries: false },
    },
    scales: {
      x: { time: true, range: () => [shape().fromSeconds, shape().toSeconds] },
      y: { range: (_plot, _min, max) => [0, shape().max ?? niceMax(max, context.band())] },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 24, gap: 4, space: 70, values: (_plot, splits, _axis, _space, step) => splits.map((split) => timeLabel(split, step, context.zone)) },
      { ...axis, grid, size: 50, gap: 5, space: 30, values: (_plot, splits) => splits.map((split) => shape().format(split)) },
    ],
    series: [{}, ...drawn.map((one) => plotSeries(one, context))],
    hooks: {
      drawClear: [(plot) => drawBand(plot, context.band(), bandColor)],
      draw: [(plot) => context.onDraw(frameOf(plot))],
      setCursor: [(plot) => context.onCursor(plot.cursor.idx ?? null, plot.posToVal(plot.cursor.left ?? 0, 'x'))],
      setSelect: [
        (plot) => {
          const { left, width } = plot.select;
          if (width < SELECT_PX_MIN) return;
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          context.onZoom?.(plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x'));
        },
      ],
    },
  };
}

/** uPlot counts in pixels of the canvas. */
function frameOf(plot: uPlot): PlotFrame {
  const { left, top, width, height } = plot.bbox;
  const ratio = uPlot.pxRatio;
  return { left: left / ratio, top: top / ratio, width: width / ratio, height: height / ratio };
}

function plotSeries(one: ChartSeries, context: PlotContext): uPlot.Series {
  const { kind, isStacked } = context.shape();
  const color = resolveColor(context.host, one.color);
  const common = { label: one.label, spanGaps: false, points: { show: false } };
  if (kind === 'bars') return { ...common, fill: color, width: 0, paths: bars() };
  if (isStacked) return { ...common, fill: color, stroke: resolveColor(context.host, '--surface'), width: 1 };
  // A value between two gaps has no line; it still must be seen.
  const lone = { show: (plot: uPlot, index: number) => hasLonePoint(plot, index), filter: lonePoints, size: 4, fill: color, stroke: color };
  const line = { ...common, stroke: color, width: 1.5, points: lone };
  return kind === 'areas' ? { ...line, fill: withAlpha(color, 0.14) } : line;
}

function bars(): uPlot.Series.PathBuilder {
  const build = uPlot.paths.bars;
  if (build === undefined) throw new Error('this build of uPlot draws no bars');
  return build({ size: [0.86, 40], align: 1 });
}

function hasLonePoint(plot: uPlot, seriesIndex: number): boolean {
  return (lonePoints(plot, seriesIndex) ?? []).length > 0;
}

function lonePoints(plot: uPlot, seriesIndex: number): number[] | null {
  const values = plot.data[seriesIndex];
  if (values === undefined) return null;
  const found: number[] = [];
  for (let index = 0; index < values.length; index += 1) {
    if (values[index] != null && values[index - 1] == null && values[index + 1] == null) found.push(index);
  }
  return found;
}

function withAlpha(color: string, alpha: number): string {
  const parts = /^rgb\((.+)\)$/.exec(color);
  return parts?.[1] === undefined ? color : `rgba(${parts[1]}, ${alpha})`;
}

/** Most that a band may add to the height of a chart: one that is wide for want of knowledge must not flatten the values. */
const BAND_HEIGHT_MAX = 2;

/** A little air above the highest value and the band; an all-zero chart still has a scale. */
export function niceMax(max: number | null, band: ChartBand | undefined): number {
  const highest = Math.max(0, max ?? 0);
  const expected = Math.max(0, ...(band?.high ?? []).map((value) => value ?? 0));
  const top = highest === 0 ? expected : Math.max(highest, Math.min(expected, highest * BAND_HEIGHT_MAX));
  return top === 0 ? 1 : top * 1.08;
}

/** Runs of bins that have a band, as [first, end). */
export function bandRuns(band: ChartBand): (readonly [number, number])[] {
  const runs: (readonly [number, number])[] = [];
  for (let first = 0; first < band.low.length; first += 1) {
    let end = first;
    while (band.low[end] != null && band.high[end] != null) end += 1;
    if (end > first) runs.push([first, end]);
    first = end;
  }
  return runs;
}

/** Paints the band behind the grid, as steps: a bin's expectation holds for the whole bin. */
function drawBand(plot: uPlot, band: ChartBand | undefined, color: string): void {
  if (band === undefined) return;
  const times = plot.data[0];
  const binSeconds = (times[1] ?? 0) - (times[0] ?? 0);
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = color;
  for (const [first, end] of bandRuns(band)) {
    ctx.beginPath();
    const corner = (time: number, value: number | null | undefined): void => ctx.lineTo(plot.valToPos(time, 'x', true), plot.valToPos(value ?? 0, 'y', true));
    for (let index = first; index < end; index += 1) {
      corner(times[index] ?? 0, band.high[index]);
      corner((times[index] ?? 0) + binSeconds, band.high[index]);
    }
    for (let index = end - 1; index >= first; index -= 1) {
      corner((times[index] ?? 0) + binSeconds, band.low[index]);
      corner(times[index] ?? 0, band.low[index]);
    }
    ctx.fill();
  }
  ctx.restore();
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'] as const;
const DAY_SECONDS = 86_400;

/** Clock times, with the date where a day starts; on long axes dates, with the year where one starts. */
export function timeLabel(seconds: number, stepSeconds: number, zone: TimeZoneName): string {
  const text = formatSeconds(seconds * 1000, zone);
  const [date = '', clock = ''] = text.split(' ');
  const day = `${Number(date.slice(8))} ${MONTHS[Number(date.slice(5, 7)) - 1] ?? ''}`;
  if (stepSeconds >= 28 * DAY_SECONDS) return `${MONTHS[Number(date.slice(5, 7)) - 1] ?? ''} ${date.slice(0, 4)}`;
  if (stepSeconds >= DAY_SECONDS || clock === '00:00:00') return day;
  return stepSeconds >= 60 ? clock.slice(0, 5) : clock;
}
