// What detectors expected of the signals that charts show, and which windows were unusual.
//
// For: one query for the charts of a page, and bands and stretches made of its rows. Not for: judging anything; scores
// and reasons come from the table `anomaly_scores`.

import { rowsOf, type Row } from '../../api/rows';
import { runSql } from '../../api/sql';
import { sqlAll, sqlInterval, sqlList, sqlText } from '../../api/sql_text';
import type { Filter } from '../../state/location';
import { alignWindow, type TimeWindow } from '../../state/time_range';
import type { ChartSpan } from '../../ui/chart_marks';
import type { ChartBand } from '../../ui/chart_options';
import { isFilterable, timeCondition } from '../logs/filters';

export const SIGNALS = ['request_rate', 'error_ratio', 'latency_p99'] as const;
export type Signal = (typeof SIGNALS)[number];

/** Whose signals: null for those of everything, else a service. */
export interface Scope {
  readonly service: string | null;
}
export interface ExpectedBin {
  readonly seconds: number;
  /** End of the bin, or of its last window where that is longer than a bin. */
  readonly endSeconds: number;
  readonly low: number | null;
  readonly high: number | null;
  /** In words, when a window of the bin was unusual. */
  readonly reason: string | null;
}
export interface Expectations {
  readonly bins: ReadonlyMap<string, readonly ExpectedBin[]>;
}

/** The series that figures under these filters belong to; undefined when none is watched for them. */
export function scopeOf(filters: readonly Filter[]): Scope | undefined {
  const narrowing = filters.filter((filter) => isFilterable(filter.field, 'rollup_requests_1m'));
  const [first, ...others] = narrowing;
  if (first === undefined) return { service: null };
  const isService = first.field === 'service' && !first.isExcluded && first.value !== null;
  return isService && others.length === 0 ? { service: first.value } : undefined;
}

export function expectationsSql(window: TimeWindow, bin: number, scope: Scope): string {
  const whose = scope.service === null ? "scope = 'all'" : `scope = 'service' AND service = ${sqlText(scope.service)}`;
  return `SELECT date_bin(${sqlInterval(bin)}, window_start) AS t, max(window_end) AS last_end, signal, avg(expected_low) AS low, avg(expected_high) AS high,
  first_value(reason ORDER BY is_anomaly DESC, score DESC) AS reason
FROM anomaly_scores
WHERE ${sqlAll([timeCondition(alignWindow(window, bin), 'window_start'), whose, `signal IN ${sqlList(SIGNALS)}`])} GROUP BY 1, signal`;
}

export async function loadExpectations(window: TimeWindow, bin: number, scope: Scope, signal: AbortSignal): Promise<Expectations> {
  return readExpectations(bin, rowsOf(await runSql(expectationsSql(window, bin, scope), signal)));
}

export function readExpectations(bin: number, rows: readonly Row[]): Expectations {
  const bins = new Map(SIGNALS.map((name) => [name, rows.filter((row) => row.text('signal') === name).map((row) => readBin(bin, row))]));
  return { bins };
}

function readBin(bin: number, row: Row): ExpectedBin {
  const seconds = (row.timeMs('t') ?? 0) / 1000;
  return { seconds, endSeconds: Math.max(seconds + bin, (row.timeMs('last_end') ?? 0) / 1000), low: row.number('low'), high: row.number('high'), reason: row.text('reason') };
}

/** The band over a chart's bins; undefined where nothing was expected of any. */
export function bandOf(expectations: Expectations | undefined, signal: Signal, times: readonly number[]): ChartBand | undefined {
  const bins = expectations?.bins.get(signal) ?? [];
  const known = times.map((time) => bins.find((bin) => bin.seconds <= time && bin.endSeconds > time));
  if (!known.some((bin) => bin?.low != null && bin.high !== null)) return undefined;
  return { low: known.map((bin) => bin?.low ?? null), high: known.map((bin) => bin?.high ?? null) };
}

/** The bins in which something was unusual. */
export function spansOf(expectations: Expectations | undefined, signal: Signal): ChartSpan[] {
  return (expectations?.bins.get(signal) ?? []).flatMap(({ seconds, endSeconds, reason }) =>
    reason === null ? [] : [{ fromSeconds: seconds, toSeconds: endSeconds, label: reason }],
  );
}
