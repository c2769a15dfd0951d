import { describe, expect, test } from 'vitest';

import type { Filter } from '../../state/location';
import type { TimeWindow } from '../../state/time_range';
import { canApplyAll, filterConditions, isFilterable, logSource, minuteCondition, serviceCondition, timeCondition } from './filters';
import { rowSql, logsSql, readDetail, type LogEntry } from './queries';
import { fieldTerm, filterText, highlightTerms } from './search';
import { parseLines } from './tail';

const is = (field: string, value: string | null): Filter => ({ field, value, isExcluded: false });
const not = (field: string, value: string | null): Filter => ({ field, value, isExcluded: true });
const WINDOW: TimeWindow = { fromMs: Date.UTC(2026, 10, 23, 23, 59, 30), toMs: Date.UTC(2026, 10, 24, 1), untilMs: Date.UTC(2026, 10, 24, 1), isBounded: true };

describe('search', () => {
  test.each([
    ['a b', ['a', 'b']],
    ['"a b" -c', ['a b']],
    ['-"x y" service:web "q r" severity>=warn', ['q r']],
    ['NOT a b OR (c AND d*e)', ['b', 'c', 'd', 'e']],
    ['status:[500 TO 599] x', ['x']],
    ['"open', ['open']],
    ['  ', []],
    ['re-try', ['re-try']],
  ])('%j', (text, terms) => expect(highlightTerms(text)).toEqual(terms));
  test('the text cannot leave its literal', () => {
    expect(logSource("it's")).toBe("search('logs', 'it''s')");
    expect(logSource(' ')).toBe('logs');
  });
  test('search and filters become one filter', () => {
    expect(filterText('a OR b', [is('service', 'x"y'), is('service', null), not('http_path', '/h')])).toBe(
      '(a OR b) ("service":"x\\"y" OR (NOT _exists_:"service")) NOT "http_path":"/h"',
    );
    expect(fieldTerm('user_id', 'x y')).toBe('user_id:"x y"');
    expect(fieldTerm('a b', 'c')).toBe('"a b":c');
  });
  test('lines of the tail are rows and counts', () => {
    expect(parseLines(['', '{"message":"a"}', '{"_skipped":3}', 'nonsense'])).toEqual({ rows: [{ message: 'a' }], skipped: 3 });
  });
});

describe('filters', () => {
  const check = (filters: Filter[], sql: string[]): void => expect(filterConditions('logs', filters)).toEqual(sql);
  test('values of one field are alternatives', () => check([is('service', 'a'), is('service', "b'")], ["(service = 'a' OR service = 'b''')"]));
  test('excluding keeps rows without the field', () => check([not('service', 'a')], ["(service IS DISTINCT FROM 'a')"]));
  test('a missing field', () => check([is('service', null), not('host', null)], ['(service IS NULL)', 'host IS NOT NULL']));
  test('numbers stay numbers, and text is no number', () => check([is('http_status', '500'), not('http_status', '5 OR 1')], ['(http_status = 500)', '(http_status IS DISTINCT FROM -1)']));
  test('attributes', () => check([is("attributes.o'k", 'v')], ["(attributes['o''k'] = 'v')"]));
  test('unknown fields from a crafted URL never reach the query', () => check([is('1=1; --', 'x'), is('attributes.', 'x')], []));
  test('a table without the column ignores the filter', () => {
    expect(filterConditions('rollup_requests_1m', [is('host', 'a')])).toEqual([]);
    expect(isFilterable('attributes.a', 'metrics')).toBe(false);
    expect(canApplyAll('activity', [is('severity_class', 'error')], '')).toBe(false);
    expect(canApplyAll('activity', [is('service', 'a')], '')).toBe(true);
    expect(canApplyAll('activity', [], 'word')).toBe(false);
  });
});

describe('time', () => {
  test('partitions are pruned on both sides of midnight', () => {
    expect(timeCondition(WINDOW)).toBe(
      "event_date >= DATE '2026-11-23' AND event_date <= DATE '2026-11-24' AND event_time >= TIMESTAMP '2026-11-23T23:59:30.000Z' AND event_time < TIMESTAMP '2026-11-24T01:00:00.000Z'",
    );
  });
  test('the first minute of a rollup counts whole', () => expect(minuteCondition('window_start', WINDOW)).toContain("window_start >= TIMESTAMP '2026-11-23T23:59:00.000Z'"));
  test('all time has no bounds', () => expect(timeCondition({ ...WINDOW, isBounded: false })).toBe(''));
});

describe('log list', () => {
  const entry: LogEntry = { table: 'logs', key: 'b/3', batchId: "b'", recordIndex: 3, eventTime: '2026-11-24T00:10:00.123456Z', eventTimeMs: 0, severity: 'info', service: null, host: null, message: '', isCut: false };
  test('older pages go on exactly behind the last row', () => {
    const sql = logsSql({ window: WINDOW, filters: [], search: '' }, entry);
    expect(sql).toContain("(event_time < TIMESTAMP '2026-11-24T00:10:00.123456Z' OR (event_time = TIMESTAMP '2026-11-24T00:10:00.123456Z' AND (batch_id < 'b''' OR (batch_id = 'b''' AND record_index < 3))))");
    expect(sql).toMatch(/LIMIT 200$/);
  });
  test('a row is found by partition, time and identity', () => {
    expect(rowSql(entry)).toContain("event_date = DATE '2026-11-24' AND event_time = TIMESTAMP '2026-11-24T00:10:00.123456Z'");
  });
  test('details leave out what is null', () => {
    expect(readDetail({ columns: [{ name: 'a', type: '' }, { name: 'b', type: '' }], rows: [[null, 0]], isTruncated: false, elapsedMs: 1 })).toEqual([['b', 0]]);
  });
});

test('services to draw, one of them unknown', () => {
  expect(serviceCondition(['a', null])).toBe("(service IN ('a') OR service IS NULL)");
  expect(serviceCondition([])).toBe('FALSE');
});
