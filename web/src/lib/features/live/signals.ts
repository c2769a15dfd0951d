// How much is asked, how much of it fails and how long it takes: the three signals that detectors watch, over time.
//
// For: one query for the three charts, and the model made of its rows. Not for: what was expected (anomalies/expectations.ts).
// A bin without records has no value: a gap, not 0.

import { rowsOf, type Row } from '../../api/rows';
import { runSql } from '../../api/sql';
import { sqlAll, sqlInterval } from '../../api/sql_text';
import { alignWindow, binSeconds, type TimeWindow } from '../../state/time_range';
import { filterConditions, minuteCondition } from '../logs/filters';
import { fillBins, openFrom, ROLLUP_SECONDS_MIN, type Question } from './queries';

export const QUANTILES = ['p50', 'p90', 'p99'] as const;
export type Quantile = (typeof QUANTILES)[number];

export interface Signals {
  readonly window: TimeWindow;
  readonly binSeconds: number;
  readonly times: readonly number[];
  /** Start of the first bin with a window that is not complete yet. */
  readonly openFromSeconds: number | undefined;
  /** Requests per second; of the open bin those so far. */
  readonly requestRate: readonly (number | null)[];
  /** Share of the records that are errors. */
  readonly errorRatio: readonly (number | null)[];
  /** Durations, microseconds. */
  readonly latency: Readonly<Record<Quantile, readonly (number | null)[]>>;
}

export function signalsSql(question: Question, bin: number): string {
  const window = alignWindow(question.window, bin);
  const latency = 'sketch_merge(latency) FILTER (WHERE duration_count > 0)';
  return `SELECT date_bin(${sqlInterval(bin)}, window_start) AS t, bool_or(pane_timing = 'early') AS is_open,
  sum("count") AS records, sum(error_count) AS errors, sum(request_count) AS requests,
  sketch_quantile(${latency}, 0.5) AS p50,
  sketch_quantile(${latency}, 0.9) AS p90,
  sketch_quantile(${latency}, 0.99) AS p99
FROM rollup_requests_1m
WHERE ${sqlAll([minuteCondition('window_start', window), ...filterConditions('rollup_requests_1m', question.filters)])} GROUP BY 1`;
}

export async function loadSignals(question: Question, signal: AbortSignal): Promise<Signals> {
  const bin = binSeconds(question.window, ROLLUP_SECONDS_MIN);
  return readSignals(question.window, bin, rowsOf(await runSql(signalsSql(question, bin), signal)));
}

export function readSignals(window: TimeWindow, bin: number, rows: readonly Row[]): Signals {
  const series = (valueOf: (row: Row) => number | null): readonly (number | null)[] =>
    fillBins(window, bin, ['it'], rows, () => 'it', valueOf, null).values.get('it') ?? [];
  return {
    window,
    binSeconds: bin,
    times: fillBins(window, bin, [], [], () => '', () => null, null).times,
    openFromSeconds: openFrom(rows),
    requestRate: series((row) => (row.count('requests') === 0 ? null : row.count('requests') / bin)),
    errorRatio: series((row) => (row.count('records') === 0 ? null : row.count('errors') / row.count('records'))),
    latency: { p50: series((row) => row.number('p50')), p90: series((row) => row.number('p90')), p99: series((row) => row.number('p99')) },
  };
}

/** The newest value of a complete window, or, when there is none, of the open one. */
export function newestComplete(values: readonly (number | null)[], times: readonly number[], openFromSeconds: number | undefined): number | null {
  const isComplete = (index: number): boolean => (times[index] ?? 0) < (openFromSeconds ?? Number.POSITIVE_INFINITY);
  return values.findLast((value, index) => value !== null && isComplete(index)) ?? values.findLast((value) => value !== null) ?? null;
}
