// Conditions that the time range, the search box and the filters put on a table.
//
// For: every query of every feature, so that all panels mean the same by a filter. Not for: selecting columns.

import { sqlAll, sqlDate, sqlInteger, sqlList, sqlText, sqlTime } from '../../api/sql_text';
import type { Filter } from '../../state/location';
import type { TimeWindow } from '../../state/time_range';

export type TableName = 'logs' | 'metrics' | 'activity' | 'rollup_requests_1m' | 'anomalies' | 'sessions';

/** Columns of `logs` by which one can filter; attributes are addressed as `attributes.NAME`. */
export const LOG_FIELDS = [
  'severity_class', 'severity_text', 'service', 'service_version', 'environment', 'region', 'host', 'logger', 'message_type', 'event_name',
  'trace_id', 'span_id', 'http_method', 'http_path', 'http_route', 'http_status', 'user_id', 'session_id', 'client_address',
  'client_address_class', 'user_agent_family', 'referrer', 'insert_id', 'source', 'format', 'batch_id',
] as const;

const FIELDS: Readonly<Record<TableName, readonly string[]>> = {
  logs: LOG_FIELDS,
  metrics: ['service', 'service_version', 'environment', 'region', 'host'],
  activity: ['event_name', 'user_id', 'session_id', 'service', 'service_version', 'environment', 'region', 'host', 'device', 'user_agent_family', 'client_address', 'client_address_class', 'referrer', 'trace_id', 'span_id', 'insert_id'],
  rollup_requests_1m: ['service', 'service_version', 'http_route'],
  anomalies: ['service', 'host', 'event_name'],
  sessions: ['user_id', 'device'],
};
const INTEGER_FIELDS: readonly string[] = ['http_status'];
const ATTRIBUTE_PREFIX = 'attributes.';

export function isFilterable(field: string, table: TableName = 'logs'): boolean {
  return FIELDS[table].includes(field) || (table === 'logs' && field.startsWith(ATTRIBUTE_PREFIX) && field.length > ATTRIBUTE_PREFIX.length);
}

/** Whether every filter and the search mean something for a table's rows. */
export function canApplyAll(table: TableName, filters: readonly Filter[], search: string): boolean {
  return (table === 'logs' || search.trim() === '') && filters.every((filter) => isFilterable(filter.field, table));
}

/** Bounds on a row's time, repeated for the partition column so that whole days are skipped. */
export function timeCondition(window: TimeWindow, column: 'event_time' | 'window_start' | 'session_start' | 'at' = 'event_time'): string {
  if (!window.isBounded) return '';
  const { fromMs, untilMs } = window;
  return sqlAll([
    `event_date >= ${sqlDate(fromMs)}`,
    `event_date <= ${sqlDate(untilMs)}`,
    `${column} >= ${sqlTime(fromMs)}`,
    `${column} < ${sqlTime(untilMs)}`,
  ]);
}

/** Bounds on the minute of a rollup or of the ledger. The minute that holds the start belongs to the range. */
export function minuteCondition(column: 'window_start' | 'receive_minute', window: TimeWindow): string {
  if (!window.isBounded) return '';
  const fromMs = Math.floor(window.fromMs / 60_000) * 60_000;
  return `${column} >= ${sqlTime(fromMs)} AND ${column} < ${sqlTime(window.untilMs)}`;
}

/** One condition per field: its included values are alternatives, its excluded values all go. Fields a table lacks are skipped. */
export function filterConditions(table: TableName, filters: readonly Filter[]): string[] {
  const usable = filters.filter((filter) => isFilterable(filter.field, table));
  const fields = [...new Set(usable.map((filter) => filter.field))];
  return fields.flatMap((field) => {
    const ofField = usable.filter((filter) => filter.field === field);
    const included = ofField.filter((filter) => !filter.isExcluded).map((filter) => equals(field, filter.value));
    const excluded = ofField.filter((filter) => filter.isExcluded).map((filter) => differs(field, filter.value));
    return included.length === 0 ? excluded : [`(${included.join(' OR ')})`, ...excluded];
  });
}

/** The logs that pass the search box's filter: a table for FROM. */
export function logSource(search: string): string {
  return search.trim() === '' ? 'logs' : `search('logs', ${sqlText(search)})`;
}

export function logCondition(window: TimeWindow, filters: readonly Filter[]): string {
  return sqlAll([timeCondition(window), ...filterConditions('logs', filters)]);
}

function equals(field: string, value: string | null): string {
  return value === null ? `${operand(field)} IS NULL` : `${operand(field)} = ${literal(field, value)}`;
}

/**
 * Rows that lack the field are kept: they do not have the excluded value. The parentheses are needed, since DataFusion
 * reads `a IS DISTINCT FROM 'x' AND b` as `a IS DISTINCT FROM ('x' AND b)`.
 */
function differs(field: string, value: string | null): string {
  return value === null ? `${operand(field)} IS NOT NULL` : `(${operand(field)} IS DISTINCT FROM ${literal(field, value)})`;
}

function operand(field: string): string {
  return field.startsWith(ATTRIBUTE_PREFIX) ? `attributes[${sqlText(field.slice(ATTRIBUTE_PREFIX.length))}]` : field;
}

function literal(field: string, value: string): string {
  if (!INTEGER_FIELDS.includes(field)) return sqlText(value);
  // Text that is no number is no status: -1 matches nothing.
  return /^\d{1,9}$/.test(value) ? sqlInteger(Number(value)) : '-1';
}

export function serviceCondition(services: readonly (string | null)[]): string {
  const named = services.filter((service) => service !== null);
  const alternatives = [
    ...(named.length > 0 ? [`service IN ${sqlList(named)}`] : []),
    ...(services.includes(null) ? ['service IS NULL'] : []),
  ];
  return alternatives.length === 0 ? 'FALSE' : `(${alternatives.join(' OR ')})`;
}
