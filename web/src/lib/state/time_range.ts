// Time ranges: what the user chose, and the interval of event time it means right now.

export const PRESETS = ['15m', '1h', '6h', '24h', '7d', 'all'] as const;
export type Preset = (typeof PRESETS)[number];

export type TimeRange =
  | { readonly kind: 'preset'; readonly preset: Preset }
  | { readonly kind: 'between'; readonly fromMs: number; readonly toMs: number };

/** Interval of event time that a chart shows. */
export interface TimeWindow {
  readonly fromMs: number;
  readonly toMs: number;
  /** False for "all": the interval is what the data spans, and queries need no bounds. */
  readonly isBounded: boolean;
  /** Upper bound for queries: a live window lets events of slightly fast producer clocks in. */
  readonly untilMs: number;
}

/** First and last event time of the stored data. */
export interface Extent {
  readonly fromMs: number;
  readonly toMs: number;
}

export const DEFAULT_RANGE: TimeRange = { kind: 'preset', preset: '1h' };

const MINUTE_MS = 60_000;
const PRESET_MS: Readonly<Record<Exclude<Preset, 'all'>, number>> = {
  '15m': 15 * MINUTE_MS,
  '1h': 60 * MINUTE_MS,
  '6h': 6 * 60 * MINUTE_MS,
  '24h': 24 * 60 * MINUTE_MS,
  '7d': 7 * 24 * 60 * MINUTE_MS,
};
const CLOCK_SKEW_MS = MINUTE_MS;

/** Steps that a reader can name, from one second to a year. */
const BIN_SECONDS = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000, 7776000, 31536000,
] as const;
const BINS_MAX = 130;

export function isPreset(text: string): text is Preset {
  return (PRESETS as readonly string[]).includes(text);
}

export function resolveRange(range: TimeRange, nowMs: number, extent: Extent | undefined): TimeWindow {
  if (range.kind === 'between') return { fromMs: range.fromMs, toMs: range.toMs, isBounded: true, untilMs: range.toMs };
  if (range.preset !== 'all') {
    return { fromMs: nowMs - PRESET_MS[range.preset], toMs: nowMs, isBounded: true, untilMs: nowMs + CLOCK_SKEW_MS };
  }
  const fromMs = extent?.fromMs ?? nowMs - PRESET_MS['1h'];
  const toMs = Math.max(extent?.toMs ?? nowMs, fromMs + MINUTE_MS);
  return { fromMs, toMs, isBounded: false, untilMs: toMs };
}

/** Width of a window's bins: the narrowest nameable step that keeps a chart readable. */
export function binSeconds(window: TimeWindow, secondsMin = 1): number {
  const needed = Math.max(secondsMin, (window.toMs - window.fromMs) / 1000 / BINS_MAX);
  return BIN_SECONDS.find((seconds) => seconds >= needed) ?? 31536000;
}

/** Starts of all bins of a window, in seconds. The first is rounded down, so that no bin is cut at its left. */
export function binStarts(window: TimeWindow, bin: number): number[] {
  const first = Math.floor(window.fromMs / 1000 / bin) * bin;
  const starts: number[] = [];
  for (let start = first; start * 1000 < window.toMs; start += bin) starts.push(start);
  return starts;
}

/** The window with its start moved to the start of its first bin. */
export function alignWindow(window: TimeWindow, bin: number): TimeWindow {
  return { ...window, fromMs: Math.floor(window.fromMs / 1000 / bin) * bin * 1000 };
}

/** The window as bounds of a question to the server: null where there is none. */
export function boundsOf(window: TimeWindow): { readonly fromMs: number | null; readonly toMs: number | null } {
  return window.isBounded ? { fromMs: window.fromMs, toMs: window.untilMs } : { fromMs: null, toMs: null };
}

/** Start and end of the window in seconds, as charts have their axis. */
export function inSeconds(window: TimeWindow): { readonly fromSeconds: number; readonly toSeconds: number } {
  return { fromSeconds: window.fromMs / 1000, toSeconds: window.toMs / 1000 };
}

export function rangeKey(range: TimeRange): string {
  return range.kind === 'preset' ? range.preset : `${range.fromMs}..${range.toMs}`;
}

/** A range that ends in the past does not change any more (late events aside), so it is not polled. */
export function isLive(range: TimeRange): boolean {
  return range.kind === 'preset';
}
