// The most frequent routes, users and errors of a span, from the lists that every window keeps.

import { rowsOf } from '../../api/rows';
import { runSql } from '../../api/sql';
import { sqlAll, sqlText, sqlTime } from '../../api/sql_text';
import type { TimeWindow } from '../../state/time_range';

export const DIMENSIONS = ['route', 'user', 'error'] as const;
export type Dimension = (typeof DIMENSIONS)[number];

const VALUES_MAX = 15;
/** Longer spans are read from the lists of hours. */
const MINUTES_SPAN_MAX_MS = 6 * 3_600_000;

export interface TopValue {
  readonly value: string;
  readonly count: number;
  /** By how much the count may be too large. */
  readonly countError: number;
}
export interface Top {
  readonly values: readonly TopValue[];
  /** Sum of all counts in the lists. */
  readonly total: number;
  readonly width: '1m' | '1h';
}

export function topWidth(window: TimeWindow): '1m' | '1h' {
  return window.isBounded && window.toMs - window.fromMs <= MINUTES_SPAN_MAX_MS ? '1m' : '1h';
}

export function topSql(window: TimeWindow, dimension: Dimension): string {
  const width = topWidth(window);
  const widthMs = width === '1m' ? 60_000 : 3_600_000;
  const fromMs = Math.floor(window.fromMs / widthMs) * widthMs;
  const time = window.isBounded ? [`window_start >= ${sqlTime(fromMs)}`, `window_start < ${sqlTime(window.untilMs)}`] : [];
  return `SELECT "value", sum("count") AS n, sum(count_error) AS count_error, sum(sum("count")) OVER () AS total FROM rollup_top_${width}
WHERE ${sqlAll([`dimension = ${sqlText(dimension)}`, ...time])} GROUP BY "value" ORDER BY n DESC, "value" LIMIT ${VALUES_MAX}`;
}

export async function loadTop(window: TimeWindow, dimension: Dimension, signal: AbortSignal): Promise<Top> {
  const rows = rowsOf(await runSql(topSql(window, dimension), signal));
  return {
    values: rows.map((row) => ({ value: row.textOr('value', ''), count: row.count('n'), countError: row.count('count_error') })),
    total: rows[0]?.count('total') ?? 0,
    width: topWidth(window),
  };
}
