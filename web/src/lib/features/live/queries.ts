// Queries of the first page's panels, and the models made of their rows.
//
// Bins without rows are 0 where rows are counted and null where something is measured: no request has no latency.

import { rowsOf, type Row } from '../../api/rows';
import { runSql } from '../../api/sql';
import { sqlAll, sqlInterval, sqlList } from '../../api/sql_text';
import type { Filter } from '../../state/location';
import { alignWindow, binSeconds, binStarts, type TimeWindow } from '../../state/time_range';
import { canApplyAll, filterConditions, logCondition, logSource, minuteCondition, serviceCondition, timeCondition } from '../logs/filters';
import { SEVERITY_CLASSES } from '../logs/severity';

export interface Question {
  readonly window: TimeWindow;
  readonly filters: readonly Filter[];
  readonly search: string;
}

/** Values over the bins of a window, by name. */
export interface TimeSeries {
  readonly window: TimeWindow;
  readonly binSeconds: number;
  readonly times: readonly number[];
  readonly values: ReadonlyMap<string, readonly (number | null)[]>;
}

/** Width of the finest rollup that charts read, seconds. */
export const ROLLUP_SECONDS_MIN = 60;

// -- event rate ---------------------------------------------------------------------------------

export function rateSql(question: Question, bin: number): string {
  const window = alignWindow(question.window, bin);
  const time = `date_bin(${sqlInterval(bin)}, event_time)`;
  const logs = `SELECT ${time} AS t, severity_class AS class, count(*) AS n FROM ${logSource(question.search)}
WHERE ${logCondition(window, question.filters)} GROUP BY 1, 2`;
  // Activity has no severity and no message: with such a filter the chart shows logs only.
  if (!canApplyAll('activity', question.filters, question.search)) return logs;
  return `${logs}
UNION ALL
SELECT ${time} AS t, 'activity' AS class, count(*) AS n FROM activity
WHERE ${sqlAll([timeCondition(window), ...filterConditions('activity', question.filters)])} GROUP BY 1, 2`;
}

export async function loadRate(question: Question, signal: AbortSignal): Promise<TimeSeries> {
  const bin = binSeconds(question.window);
  const rows = rowsOf(await runSql(rateSql(question, bin), signal));
  return fillBins(question.window, bin, [...SEVERITY_CLASSES, 'activity'], rows, (row) => row.textOr('class', ''), (row) => row.number('n'), 0);
}

// -- errors by service --------------------------------------------------------------------------

export interface ServiceErrors {
  readonly service: string | null;
  readonly requests: number;
  readonly errors: number;
}
export interface ErrorsByService {
  readonly services: readonly ServiceErrors[];
  readonly errors: TimeSeries;
  readonly requests: TimeSeries;
  readonly openFromSeconds: number | undefined;
}

const SERVICES_LISTED_MAX = 12;
const SERVICES_DRAWN_MAX = 6;

/** Label of rows whose service is unknown. */
export const NO_SERVICE = '(no service)';

export function errorTotalsSql(question: Question): string {
  return `SELECT service, sum("count") AS requests, sum(error_count) AS errors FROM rollup_requests_1m
WHERE ${errorCondition(question)} GROUP BY service ORDER BY errors DESC, requests DESC LIMIT ${SERVICES_LISTED_MAX}`;
}

export function errorSeriesSql(question: Question, bin: number, services: readonly (string | null)[]): string {
  const aligned = { ...question, window: alignWindow(question.window, bin) };
  return `SELECT date_bin(${sqlInterval(bin)}, window_start) AS t, service, sum("count") AS requests, sum(error_count) AS errors,
  bool_or(pane_timing = 'early') AS is_open FROM rollup_requests_1m
WHERE ${sqlAll([errorCondition(aligned), serviceCondition(services)])} GROUP BY 1, 2`;
}

export async function loadErrors(question: Question, signal: AbortSignal): Promise<ErrorsByService> {
  const bin = binSeconds(question.window, ROLLUP_SECONDS_MIN);
  const services = rowsOf(await runSql(errorTotalsSql(question), signal)).map((row) => ({
    service: row.text('service'),
    requests: row.count('requests'),
    errors: row.count('errors'),
  }));
  const drawn = services.slice(0, SERVICES_DRAWN_MAX).map((one) => one.service);
  const rows = drawn.length === 0 ? [] : rowsOf(await runSql(errorSeriesSql(question, bin, drawn), signal));
  const names = drawn.map((service) => service ?? NO_SERVICE);
  const nameOf = (row: Row): string => row.textOr('service', NO_SERVICE);
  return {
    services,
    errors: fillBins(question.window, bin, names, rows, nameOf, (row) => row.number('errors'), 0),
    requests: fillBins(question.window, bin, names, rows, nameOf, (row) => row.number('requests'), 0),
    openFromSeconds: openFrom(rows),
  };
}

/** A share of errors among errors would always be 1, so the severity does not narrow this panel. */
function errorCondition(question: Question): string {
  return rollupCondition({ ...question, filters: question.filters.filter((filter) => filter.field !== 'severity_class') });
}

/** Share of errors in each bin; a bin without requests has none. */
export function errorRatio(errors: readonly (number | null)[], requests: readonly (number | null)[]): (number | null)[] {
  return errors.map((count, index) => {
    const total = requests[index] ?? 0;
    return count === null || total === 0 ? null : count / total;
  });
}

function rollupCondition(question: Question): string {
  return sqlAll([minuteCondition('window_start', question.window), ...filterConditions('rollup_requests_1m', question.filters)]);
}

// -- hosts --------------------------------------------------------------------------------------

export const HOST_METRICS = [
  { name: 'system.cpu.utilization', title: 'Host CPU' },
  { name: 'system.memory.utilization', title: 'Host memory' },
  { name: 'system.filesystem.utilization', title: 'Host disk' },
] as const;
const HOSTS_DRAWN_MAX = 8;
const HOST_SECONDS_MIN = 10;

export function hostsSql(question: Question, bin: number): string {
  const window = alignWindow(question.window, bin);
  const names = sqlList(HOST_METRICS.map((metric) => metric.name));
  return `SELECT date_bin(${sqlInterval(bin)}, event_time) AS t, metric_name, coalesce(host, '(no host)') AS host, avg("value") AS v FROM metrics
WHERE ${sqlAll([`metric_name IN ${names}`, timeCondition(window), ...filterConditions('metrics', hostFilters(question.filters))])} GROUP BY 1, 2, 3`;
}

/** Host metrics are sent by an agent, not by the service one is looking at. */
function hostFilters(filters: readonly Filter[]): Filter[] {
  return filters.filter((filter) => filter.field === 'host' || filter.field === 'region' || filter.field === 'environment');
}

/** By metric name. Only the busiest hosts are drawn: a line chart of hundreds tells nothing. */
export async function loadHosts(question: Question, signal: AbortSignal): Promise<ReadonlyMap<string, TimeSeries>> {
  const bin = binSeconds(question.window, HOST_SECONDS_MIN);
  const rows = rowsOf(await runSql(hostsSql(question, bin), signal));
  return new Map(
    HOST_METRICS.map(({ name }) => {
      const ofMetric = rows.filter((row) => row.text('metric_name') === name);
      const hosts = busiest(ofMetric);
      return [name, fillBins(question.window, bin, hosts, ofMetric, (row) => row.textOr('host', ''), (row) => row.number('v'), null)];
    }),
  );
}

function busiest(rows: readonly Row[]): string[] {
  const peak = new Map<string, number>();
  for (const row of rows) {
    const host = row.textOr('host', '');
    peak.set(host, Math.max(peak.get(host) ?? 0, row.count('v')));
  }
  const hosts = [...peak].sort((one, other) => other[1] - one[1]).slice(0, HOSTS_DRAWN_MAX);
  return hosts.map(([host]) => host).sort();
}

// -- user activity ------------------------------------------------------------------------------

export interface Activity {
  readonly events: readonly { readonly name: string; readonly count: number; readonly users: number }[];
  readonly eventCount: number;
  readonly userCount: number;
  readonly sessionCount: number;
}

const EVENT_NAMES_MAX = 10;

function activityCondition(question: Question): string {
  return sqlAll([timeCondition(question.window), ...filterConditions('activity', question.filters)]);
}

export function activityTopSql(question: Question): string {
  return `SELECT event_name, count(*) AS n, approx_distinct(user_id) AS users FROM activity
WHERE ${activityCondition(question)} GROUP BY event_name ORDER BY n DESC LIMIT ${EVENT_NAMES_MAX}`;
}

export function activityTotalsSql(question: Question): string {
  return `SELECT count(*) AS n, approx_distinct(user_id) AS users, approx_distinct(session_id) AS sessions FROM activity
WHERE ${activityCondition(question)}`;
}

export async function loadActivity(question: Question, signal: AbortSignal): Promise<Activity> {
  const top = rowsOf(await runSql(activityTopSql(question), signal));
  const totals = rowsOf(await runSql(activityTotalsSql(question), signal))[0];
  return {
    events: top.map((row) => ({ name: row.textOr('event_name', ''), count: row.count('n'), users: row.count('users') })),
    eventCount: totals?.count('n') ?? 0,
    userCount: totals?.count('users') ?? 0,
    sessionCount: totals?.count('sessions') ?? 0,
  };
}

// -- ledger -------------------------------------------------------------------------------------

/** What can become of a received record. */
export const OUTCOMES = ['stored', 'duplicate', 'filtered', 'dead_lettered', 'rejected', 'in_flight'] as const;
export type Outcome = (typeof OUTCOMES)[number];

export interface Ledger {
  readonly received: number;
  readonly late: number;
  readonly outcomes: Readonly<Record<Outcome, number>>;
}

export function ledgerSql(window: TimeWindow): string {
  const sums = ['received', ...OUTCOMES, 'late'].map((name) => `sum(${name}) AS ${name}`);
  return `SELECT ${sums.join(', ')} FROM sawlog_ledger WHERE ${sqlAll([minuteCondition('receive_minute', window)])}`;
}

export async function loadLedger(window: TimeWindow, signal: AbortSignal): Promise<Ledger> {
  const row = rowsOf(await runSql(ledgerSql(window), signal))[0];
  const count = (name: string): number => row?.count(name) ?? 0;
  return {
    received: count('received'),
    late: count('late'),
    outcomes: {
      stored: count('stored'),
      duplicate: count('duplicate'),
      filtered: count('filtered'),
      dead_lettered: count('dead_lettered'),
      rejected: count('rejected'),
      in_flight: count('in_flight'),
    },
  };
}

/** Received minus all outcomes: 0 when the books close. */
export function ledgerDifference(ledger: Ledger): number {
  return ledger.received - OUTCOMES.reduce((sum, outcome) => sum + ledger.outcomes[outcome], 0);
}

// -- shared -------------------------------------------------------------------------------------

/** Start of the first of the rows' bins that holds a window which is not complete yet, seconds. */
export function openFrom(rows: readonly Row[]): number | undefined {
  const open = rows.filter((row) => row.flag('is_open')).map((row) => (row.timeMs('t') ?? 0) / 1000);
  return open.length === 0 ? undefined : Math.min(...open);
}

/** Lays rows with a time column `t` out over the bins of a window; `missing` stands where there is no row. */
export function fillBins(
  window: TimeWindow,
  bin: number,
  names: readonly string[],
  rows: readonly Row[],
  nameOf: (row: Row) => string,
  valueOf: (row: Row) => number | null,
  missing: 0 | null,
): TimeSeries {
  const times = binStarts(window, bin);
  const first = times[0] ?? 0;
  const values = new Map<string, (number | null)[]>(names.map((name) => [name, times.map(() => missing)]));
  for (const row of rows) {
    const index = ((row.timeMs('t') ?? 0) / 1000 - first) / bin;
    const ofName = values.get(nameOf(row));
    if (ofName !== undefined && Number.isInteger(index) && index >= 0 && index < times.length) ofName[index] = valueOf(row);
  }
  return { window, binSeconds: bin, times, values };
}
