import { describe, expect, test } from 'vitest';

import { rowsOf, type Row } from '../../api/rows';
import { parseSqlResult } from '../../api/sql';
import type { TimeWindow } from '../../state/time_range';
import { nowSql, readNow } from './now';
import { newestComplete, readSignals, signalsSql } from './signals';
import { topSql, topWidth } from './top';

const MINUTE_MS = 60_000;
const WINDOW: TimeWindow = { fromMs: 90_000, toMs: 5 * MINUTE_MS, untilMs: 5 * MINUTE_MS, isBounded: true };

function rows(columns: string[], cells: (string | number | boolean | null)[][]): Row[] {
  return rowsOf(parseSqlResult({ columns: columns.map((name) => ({ name })), rows: cells }));
}

describe('signals', () => {
  const found = readSignals(
    WINDOW,
    60,
    rows(['t', 'is_open', 'records', 'errors', 'requests', 'p50', 'p90', 'p99'], [
      ['1970-01-01T00:01:00Z', false, 120, 6, 60, 1, 2, 3],
      ['1970-01-01T00:03:00Z', false, 10, 0, 0, null, null, null],
      ['1970-01-01T00:04:00Z', true, 3, 3, 3, 7, 8, 9],
    ]),
  );
  test('a minute without records, requests or durations is a gap', () => {
    expect(found.times).toEqual([60, 120, 180, 240]);
    expect(found.requestRate).toEqual([1, null, null, 0.05]);
    expect(found.errorRatio).toEqual([0.05, null, 0, 1]);
    expect(found.latency.p99).toEqual([3, null, null, 9]);
  });
  test('the headline is of the newest complete window, unless only an open one has a value', () => {
    expect(found.openFromSeconds).toBe(240);
    expect(newestComplete(found.errorRatio, found.times, found.openFromSeconds)).toBe(0);
    expect(newestComplete(found.latency.p99, found.times, found.openFromSeconds)).toBe(3);
    expect(newestComplete([null, 4], [180, 240], 240)).toBe(4);
    expect(newestComplete([null], [60], undefined)).toBeNull();
  });
  test('one query, bounded by the window, narrowed by what the rollup knows', () => {
    const filters = [{ field: 'service', value: 'shop', isExcluded: false }, { field: 'http_status', value: '500', isExcluded: false }];
    const sql = signalsSql({ window: WINDOW, filters, search: 'x' }, 60);
    expect(sql).toContain("window_start >= TIMESTAMP '1970-01-01T00:01:00.000Z' AND window_start < TIMESTAMP '1970-01-01T00:05:00.000Z'");
    expect(sql).toContain("service = 'shop'");
    expect(sql).not.toContain('http_status');
  });
});

describe('now', () => {
  const columns = ['t', 'is_open', 'records', 'requests', 'errors', 'p99'];
  test('the newest complete window stands beside the newest open one', () => {
    const now = readNow(rows(columns, [['1970-01-01T00:01:00Z', true, 5, 4, 1, null], ['1970-01-01T00:00:50Z', true, 9, 9, 0, 1], ['1970-01-01T00:00:40Z', false, 50, 40, 2, 700], ['1970-01-01T00:00:30Z', false, 1, 1, 0, 1]]));
    expect(now.open).toEqual({ startMs: MINUTE_MS, records: 5, requests: 4, errors: 1, p99: null });
    expect(now.complete?.records).toBe(50);
    expect(readNow([])).toEqual({ complete: undefined, open: undefined });
  });
  test('it reads two minutes of the finest rollup', () => {
    const sql = nowSql([], Date.UTC(2026, 10, 24, 3, 0, 17));
    expect(sql).toContain('FROM rollup_requests_10s');
    expect(sql).toContain("window_start >= TIMESTAMP '2026-11-24T02:59:00.000Z'");
  });
});

describe('top', () => {
  const hours = (count: number): TimeWindow => ({ fromMs: 90_000, toMs: 90_000 + count * 3_600_000, untilMs: 90_000 + count * 3_600_000, isBounded: true });
  test('short spans are read from minutes, long ones from hours', () => {
    expect([hours(6), hours(7), { ...hours(1), isBounded: false }].map(topWidth)).toEqual(['1m', '1h', '1h']);
    expect(topSql(hours(1), 'route')).toContain("FROM rollup_top_1m\nWHERE dimension = 'route' AND window_start >= TIMESTAMP '1970-01-01T00:01:00.000Z'");
    expect(topSql(hours(7), 'user')).toContain("window_start >= TIMESTAMP '1970-01-01T00:00:00.000Z'");
  });
});
