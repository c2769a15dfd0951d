// Sessions: how many began when, which are open, and those of one user.

import { rowsOf, type Row } from '../../api/rows';
import { runSql } from '../../api/sql';
import { sqlAll, sqlDate, sqlInterval, sqlText } from '../../api/sql_text';
import type { Filter } from '../../state/location';
import { alignWindow, binSeconds, type TimeWindow } from '../../state/time_range';
import { MISSING } from '../../ui/format';
import { filterConditions, timeCondition } from '../logs/filters';
import { fillBins, type TimeSeries } from '../live/queries';

const MINUTE_SECONDS = 60;
const HOUR_SECONDS = 3_600;
const DAY_MS = 86_400_000;
const OPEN_SESSIONS_MAX = 12;
const USER_SESSIONS_MAX = 50;

export interface Session {
  readonly key: string;
  readonly user: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly isOpen: boolean;
  readonly eventCount: number;
  readonly errorCount: number;
  /** First and last step; null without any. */
  readonly entry: string | null;
  readonly exit: string | null;
  readonly topError: string | null;
}
export interface Sessions {
  readonly started: TimeSeries;
  readonly startedCount: number;
  /** Of those that are closed, microseconds; null without any. */
  readonly medianMicros: number | null;
  readonly openCount: number;
  /** Those with the latest events. */
  readonly open: readonly Session[];
}

const COLUMNS = 'session_key, user_id, session_start, session_end, is_open, event_count, error_count, entry, exit, top_error';

/** Sessions are counted by the minute where the range is short, else by at least the hour. */
export function sessionBin(window: TimeWindow): number {
  const bin = binSeconds(window, MINUTE_SECONDS);
  return bin === MINUTE_SECONDS ? bin : binSeconds(window, HOUR_SECONDS);
}

/** A row for each bin, and one for the whole range whose `t` is null. */
export function startedSql(window: TimeWindow, filters: readonly Filter[], bin: number): string {
  const time = `date_bin(${sqlInterval(bin)}, session_start)`;
  const condition = sqlAll([timeCondition(alignWindow(window, bin), 'session_start'), ...filterConditions('sessions', filters)]);
  return `SELECT ${time} AS t, count(*) AS n, approx_median(duration_us) FILTER (WHERE NOT is_open) AS median_us
FROM sessions WHERE ${condition} GROUP BY GROUPING SETS ((${time}), ())`;
}

/** Whatever the range: open is what is open now. A session of more than a day is cut at midnight, so that two days hold all. */
export function openSql(filters: readonly Filter[], nowMs: number): string {
  const condition = sqlAll(['is_open', `event_date >= ${sqlDate(nowMs - DAY_MS)}`, ...filterConditions('sessions', filters)]);
  return `SELECT ${COLUMNS}, count(*) OVER () AS open_count FROM sessions
WHERE ${condition} ORDER BY session_end DESC, session_start DESC LIMIT ${OPEN_SESSIONS_MAX}`;
}

export function userSessionsSql(user: string, window: TimeWindow): string {
  // One that began before the range and reaches into it belongs to it; longer than a day is none.
  const reaching = window.isBounded ? [timeCondition({ ...window, fromMs: window.fromMs - DAY_MS }, 'session_start')] : [];
  return `SELECT ${COLUMNS} FROM sessions
WHERE ${sqlAll([`user_id = ${sqlText(user)}`, ...reaching])} ORDER BY session_start DESC LIMIT ${USER_SESSIONS_MAX}`;
}

export async function loadSessions(window: TimeWindow, filters: readonly Filter[], signal: AbortSignal): Promise<Sessions> {
  const bin = sessionBin(window);
  const [started, open] = await Promise.all([runSql(startedSql(window, filters, bin), signal), runSql(openSql(filters, Date.now()), signal)]);
  return readSessions(window, bin, rowsOf(started), rowsOf(open));
}

export async function loadUserSessions(user: string, window: TimeWindow, signal: AbortSignal): Promise<Session[]> {
  const sessions = rowsOf(await runSql(userSessionsSql(user, window), signal)).map(readSession);
  return window.isBounded ? sessions.filter((session) => session.endMs >= window.fromMs) : sessions;
}

export function readSessions(window: TimeWindow, bin: number, started: readonly Row[], open: readonly Row[]): Sessions {
  const isTotal = (row: Row): boolean => row.text('t') === null;
  const total = started.find(isTotal);
  const bins = started.filter((row) => !isTotal(row));
  return {
    started: fillBins(window, bin, ['started'], bins, () => 'started', (row) => row.number('n'), 0),
    startedCount: total?.count('n') ?? 0,
    medianMicros: total?.number('median_us') ?? null,
    openCount: open[0]?.count('open_count') ?? 0,
    open: open.map(readSession),
  };
}

function readSession(row: Row): Session {
  return {
    key: row.textOr('session_key', ''),
    user: row.textOr('user_id', ''),
    startMs: row.timeMs('session_start') ?? 0,
    endMs: row.timeMs('session_end') ?? 0,
    isOpen: row.flag('is_open'),
    eventCount: row.count('event_count'),
    errorCount: row.count('error_count'),
    entry: row.text('entry'),
    exit: row.text('exit'),
    topError: row.text('top_error'),
  };
}

/** First and last step: `/cart → /pay`, one step alone, or a dash. */
export function stepsText(session: Session): string {
  if (session.entry === null) return MISSING;
  return session.exit === null || session.exit === session.entry ? session.entry : `${session.entry} → ${session.exit}`;
}
