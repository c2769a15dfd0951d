import { describe, expect, test } from 'vitest';

import { rowsOf } from '../../api/rows';
import { parseSqlResult } from '../../api/sql';
import type { Filter } from '../../state/location';
import type { TimeWindow } from '../../state/time_range';
import { episodeFilters, episodesSql, episodeTitle, readEpisode, type Episode } from './episodes';
import { bandOf, expectationsSql, readExpectations, scopeOf, spansOf } from './expectations';

const WINDOW: TimeWindow = { fromMs: 90_000, toMs: 240_000, untilMs: 240_000, isBounded: true };
const only = (field: string, value: string | null): Filter => ({ field, value, isExcluded: false });

describe('scope', () => {
  test('without filters on what rollups know it is everything, with one service that service', () => {
    expect(scopeOf([])).toEqual({ service: null });
    expect(scopeOf([only('severity_class', 'error')])).toEqual({ service: null });
    expect(scopeOf([only('service', 'shop'), only('severity_class', 'error')])).toEqual({ service: 'shop' });
  });
  test.each([[[only('service', null)]], [[{ ...only('service', 'a'), isExcluded: true }]], [[only('service', 'a'), only('service', 'b')]], [[only('http_route', '/a')]]])(
    'nothing is expected of %j',
    (filters) => expect(scopeOf(filters)).toBeUndefined(),
  );
});

describe('expectations', () => {
  const found = readExpectations(
    60,
    rowsOf(
      parseSqlResult({
        columns: ['t', 'last_end', 'signal', 'low', 'high', 'reason'].map((name) => ({ name })),
        rows: [
          ['1970-01-01T00:01:00Z', '1970-01-01T00:02:00Z', 'error_ratio', 0, 0.1, null],
          ['1970-01-01T00:02:00Z', '1970-01-01T00:03:00Z', 'error_ratio', 0, 0.2, 'error ratio 40 %, expected 0–20 %'],
          ['1970-01-01T00:03:00Z', '1970-01-01T00:04:00Z', 'error_ratio', null, null, 'no data for 3 min'],
          ['1970-01-01T00:01:00Z', '1970-01-01T00:02:00Z', 'latency_p99', null, null, null],
        ],
      }),
    ),
  );
  test('the band has a gap where nothing is known', () => {
    expect(bandOf(found, 'error_ratio', [60, 120, 180, 240])).toEqual({ low: [0, 0, null, null], high: [0.1, 0.2, null, null] });
  });
  test('without any expectation there is no band', () => {
    expect(bandOf(found, 'latency_p99', [60])).toBeUndefined();
    expect(bandOf(undefined, 'error_ratio', [60])).toBeUndefined();
  });
  test('unusual windows are stretches with their reason, silences too', () => {
    expect(spansOf(found, 'error_ratio')).toEqual([
      { fromSeconds: 120, toSeconds: 180, label: 'error ratio 40 %, expected 0–20 %' },
      { fromSeconds: 180, toSeconds: 240, label: 'no data for 3 min' },
    ]);
  });
  test('a window that is longer than a bin is expected of all its bins', () => {
    const columns = ['t', 'last_end', 'signal', 'low', 'high', 'reason'].map((name) => ({ name }));
    const hour = readExpectations(60, rowsOf(parseSqlResult({ columns, rows: [['1970-01-01T01:00:00Z', '1970-01-01T02:00:00Z', 'error_ratio', 1, 2, 'why']] })));
    expect(bandOf(hour, 'error_ratio', [3540, 3600, 7140, 7200])).toEqual({ low: [null, 1, 1, null], high: [null, 2, 2, null] });
    expect(spansOf(hour, 'error_ratio')).toEqual([{ fromSeconds: 3600, toSeconds: 7200, label: 'why' }]);
  });
  test('the query is bounded by whole bins and days, and a service is a literal', () => {
    const sql = expectationsSql(WINDOW, 60, { service: "o'hara" });
    expect(sql).toContain("event_date >= DATE '1970-01-01'");
    expect(sql).toContain("window_start >= TIMESTAMP '1970-01-01T00:01:00.000Z'");
    expect(sql).toContain("scope = 'service' AND service = 'o''hara'");
    expect(expectationsSql(WINDOW, 60, { service: null })).toContain("scope = 'all'");
  });
});

describe('episodes', () => {
  const columns = ['episode_start', 'signal', 'scope', 'service', 'metric_name', 'host', 'series', 'event_name', 'last_end', 'n', 'highest', 'kind', 'reason', 'contributors'];
  const read = (change: Record<string, unknown>): Episode => {
    const cells: Record<string, unknown> = { episode_start: '1970-01-01T00:01:00Z', signal: 'error_ratio', scope: 'service', service: 'shop', metric_name: null, host: null, series: null, event_name: null, last_end: '1970-01-01T00:05:00Z', n: 3, highest: 0.99, kind: 'value', reason: 'because', contributors: [], ...change };
    const [row] = rowsOf(parseSqlResult({ columns: columns.map((name) => ({ name })), rows: [columns.map((name) => cells[name])] }));
    if (row === undefined) throw new Error('no row');
    return readEpisode(row);
  };
  test('contributors are told in words', () => {
    expect(read({ contributors: [{ text: 'errors +430 %', service: null }, { text: null }] }).contributors).toEqual(['errors +430 %']);
  });
  test.each([
    [{}, 'error ratio of shop', [only('service', 'shop')]],
    [{ scope: 'all', service: null }, 'error ratio of everything', []],
    [{ signal: 'metric_average', scope: 'metric', metric_name: 'cpu', service: 'db', host: 'h1' }, 'cpu of db, h1', [only('service', 'db')]],
    [{ signal: 'metric_average', scope: 'metric', metric_name: 'cpu', service: null, host: 'h1' }, 'cpu of h1', [only('host', 'h1')]],
    [{ signal: 'event_rate', scope: 'event', service: null, event_name: 'buy' }, 'events of buy', [only('event_name', 'buy')]],
    [{ signal: 'event_rate', scope: 'all', service: null }, 'events of everything', []],
    [{ service: null }, 'error ratio of (no service)', []],
  ])('%j is told and leads to its logs', (change, title, filters) => {
    const episode = read(change);
    expect(episodeTitle(episode)).toBe(title);
    expect(episodeFilters(episode)).toEqual(filters);
  });
  test('series with the same start have keys of their own', () => expect(read({}).key).not.toBe(read({ service: 'cart' }).key));
  test('the query is bounded and takes the filters that mean something for it', () => {
    const sql = episodesSql(WINDOW, [only('service', 'shop'), only('user_id', 'u')]);
    expect(sql).toContain("window_start < TIMESTAMP '1970-01-01T00:04:00.000Z'");
    expect(sql).toContain("service = 'shop'");
    expect(sql).not.toContain('user_id');
    expect(sql).toMatch(/LIMIT \d+$/);
  });
});
