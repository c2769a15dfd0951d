import { describe, expect, test } from 'vitest';

import { rowsOf, type Row } from '../../api/rows';
import { parseSqlResult } from '../../api/sql';
import { parseTimeline } from '../../api/timeline';
import type { TimeWindow } from '../../state/time_range';
import { openSql, readSessions, sessionBin, startedSql, stepsText, userSessionsSql } from './sessions';

const WINDOW: TimeWindow = { fromMs: 60_000, toMs: 240_000, untilMs: 300_000, isBounded: true };
const SESSION_COLUMNS = ['session_key', 'user_id', 'session_start', 'session_end', 'is_open', 'event_count', 'error_count', 'entry', 'exit', 'top_error', 'open_count'];

function rows(columns: string[], cells: (string | number | boolean | null)[][]): Row[] {
  return rowsOf(parseSqlResult({ columns: columns.map((name) => ({ name })), rows: cells }));
}

describe('sessions', () => {
  const started = rows(['t', 'n', 'median_us'], [['1970-01-01T00:02:00Z', 3, 5], [null, 3, 60e6]]);
  const open = rows(SESSION_COLUMNS, [['k', 'u', '1970-01-01T00:02:00Z', '1970-01-01T00:03:00Z', true, 4, 1, '/cart', '/pay', null, 27]]);
  test('the row without a time is of the whole range', () => {
    const found = readSessions(WINDOW, 60, started, open);
    expect(found.started.values.get('started')).toEqual([0, 3, 0]);
    expect([found.startedCount, found.medianMicros, found.openCount]).toEqual([3, 60e6, 27]);
    expect(found.open.map(stepsText)).toEqual(['/cart → /pay']);
  });
  test('no session at all has no median', () => expect(readSessions(WINDOW, 60, [], []).medianMicros).toBeNull());
  test('a session of one step, and of none', () => {
    const [session] = readSessions(WINDOW, 60, [], open).open;
    if (session === undefined) throw new Error('no session');
    expect(stepsText({ ...session, exit: '/cart' })).toBe('/cart');
    expect(stepsText({ ...session, entry: null, exit: null })).toBe('–');
  });
  test('they are counted by the minute, over longer ranges by the hour at least', () => {
    const hours = (count: number): TimeWindow => ({ fromMs: 0, toMs: count * 3_600_000, untilMs: count * 3_600_000, isBounded: true });
    expect([1, 6, 24, 24 * 30].map((count) => sessionBin(hours(count)))).toEqual([60, 3600, 3600, 21600]);
  });
  test('queries are bounded, also where the range does not matter', () => {
    expect(startedSql(WINDOW, [], 60)).toContain("session_start < TIMESTAMP '1970-01-01T00:05:00.000Z'");
    expect(openSql([], Date.UTC(2026, 10, 24, 3))).toContain("event_date >= DATE '2026-11-23'");
    expect(openSql([], 0)).toMatch(/LIMIT \d+$/);
    const ofUser = userSessionsSql("o'hara", { ...WINDOW, fromMs: Date.UTC(2026, 10, 24) });
    expect(ofUser).toContain("user_id = 'o''hara' AND event_date >= DATE '2026-11-23'");
    expect(userSessionsSql('u', { ...WINDOW, isBounded: false })).toContain("WHERE user_id = 'u' ORDER");
  });
});

describe('timeline', () => {
  const ENTRY = { event_time: '1970-01-01T00:01:00.000000Z', table: 'logs', name: 'no stock', service: null, route: null, http_status: 500, duration_us: null, severity_class: 'error', batch_id: 'b', record_index: 3 };
  const PROFILE = { first_seen: '1970-01-01T00:00:00Z', last_seen: '1970-01-01T00:01:00Z', event_count: 2, error_count: 1, latest: { device: { value: 'phone', time: '1970-01-01T00:00:30Z' }, country: null } };
  const BODY = { user_id: 'u', profile: PROFILE, sessions: [], entries: [ENTRY], omitted_count: 4, next: '60000000.3.b' };
  test('a page has what is known, and where it goes on', () => {
    const page = parseTimeline(BODY);
    expect(page.profile?.latest).toEqual([{ name: 'device', value: 'phone', timeMs: 30_000 }]);
    expect(page.entries).toEqual([
      { table: 'logs', eventTime: ENTRY.event_time, eventTimeMs: 60_000, name: 'no stock', service: null, route: null, httpStatus: 500, durationMicros: null, severity: 'error', batchId: 'b', recordIndex: 3 },
    ]);
    expect(parseTimeline({ ...BODY, profile: null }).profile).toBeNull();
    expect([page.omittedCount, page.next, parseTimeline({ ...BODY, next: null }).next]).toEqual([4, '60000000.3.b', null]);
  });
  test.each([[{}], [{ ...BODY, profile: 7 }], [{ ...BODY, entries: {} }], [{ ...BODY, entries: [{ ...ENTRY, table: 'secrets' }] }], [{ ...BODY, entries: [{ ...ENTRY, batch_id: 7 }] }]])(
    'what is no answer is an error: %j',
    (body) => expect(() => parseTimeline(body)).toThrow('cannot be read'),
  );
});
