// The newest ten seconds: what is complete, and what there is so far of the window that is still open.

import { rowsOf, type Row } from '../../api/rows';
import { runSql } from '../../api/sql';
import { sqlAll } from '../../api/sql_text';
import type { Filter } from '../../state/location';
import { filterConditions, minuteCondition } from '../logs/filters';

export const NOW_WINDOW_SECONDS = 10;
/** How far back the newest windows are looked for. */
const REACH_MS = 60_000;

export interface NowWindow {
  readonly startMs: number;
  readonly records: number;
  readonly requests: number;
  readonly errors: number;
  /** Microseconds; null without a request that was timed. */
  readonly p99: number | null;
}
export interface Now {
  readonly complete: NowWindow | undefined;
  readonly open: NowWindow | undefined;
}

export function nowSql(filters: readonly Filter[], nowMs: number): string {
  const window = { fromMs: nowMs - REACH_MS, toMs: nowMs, untilMs: nowMs + REACH_MS, isBounded: true };
  return `SELECT window_start AS t, bool_or(pane_timing = 'early') AS is_open, sum("count") AS records, sum(request_count) AS requests,
  sum(error_count) AS errors, sketch_quantile(sketch_merge(latency) FILTER (WHERE duration_count > 0), 0.99) AS p99
FROM rollup_requests_10s
WHERE ${sqlAll([minuteCondition('window_start', window), ...filterConditions('rollup_requests_1m', filters)])} GROUP BY 1 ORDER BY 1 DESC`;
}

export async function loadNow(filters: readonly Filter[], signal: AbortSignal): Promise<Now> {
  return readNow(rowsOf(await runSql(nowSql(filters, Date.now()), signal)));
}

/** Rows come newest first. */
export function readNow(rows: readonly Row[]): Now {
  const newest = (isOpen: boolean): NowWindow | undefined => {
    const row = rows.find((one) => one.flag('is_open') === isOpen);
    return row && { startMs: row.timeMs('t') ?? 0, records: row.count('records'), requests: row.count('requests'), errors: row.count('errors'), p99: row.number('p99') };
  };
  return { complete: newest(false), open: newest(true) };
}
