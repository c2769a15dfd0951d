// Queries of the log list, and their rows.

import { Row, rowsOf } from '../../api/rows';
import { runSql, type SqlResult } from '../../api/sql';
import { sqlAll, sqlInteger, sqlText, sqlTimeText } from '../../api/sql_text';
import type { Json, JsonObject } from '../../api/json';
import type { Filter } from '../../state/location';
import type { TimeWindow } from '../../state/time_range';
import { logCondition, logSource, timeCondition } from './filters';

export const LOG_PAGE_ROWS = 200;

/** Messages can be megabytes long; the list shows a beginning, the expanded row everything. */
const MESSAGE_CHARS_MAX = 1_000;
const FACET_VALUES_MAX = 12;

export interface LogSelection {
  readonly window: TimeWindow;
  readonly filters: readonly Filter[];
  readonly search: string;
}

/** Where a row is stored. Batch and place in it are the identity of a record; the time leads to its files. */
export interface RowPlace {
  readonly table: 'logs' | 'activity';
  readonly batchId: string;
  readonly recordIndex: number;
  readonly eventTime: string;
}

/** Names a record: its batch and its place in it. */
export function recordKey(record: Pick<RowPlace, 'batchId' | 'recordIndex'>): string {
  return `${record.batchId}/${record.recordIndex}`;
}

export interface LogEntry extends RowPlace {
  /** `recordKey` of it. */
  readonly key: string;
  readonly eventTimeMs: number;
  readonly severity: string;
  readonly service: string | null;
  readonly host: string | null;
  readonly message: string;
  readonly isCut: boolean;
}

export interface Facets {
  readonly severities: readonly FacetValue[];
  readonly services: readonly FacetValue[];
}
export interface FacetValue {
  readonly value: string | null;
  readonly count: number;
}

/** The newest logs, or those before a position in the list. */
export function logsSql(selection: LogSelection, before?: LogEntry): string {
  const condition = logCondition(selection.window, selection.filters);
  return `SELECT event_time, severity_class, service, host, left(message, ${MESSAGE_CHARS_MAX}) AS message,
  character_length(message) AS message_chars, event_name, http_method, http_path, http_status, duration_us, batch_id, record_index
FROM ${logSource(selection.search)}
WHERE ${sqlAll([condition, before === undefined ? '' : beforeCondition(before)])}
ORDER BY event_time DESC, batch_id DESC, record_index DESC
LIMIT ${LOG_PAGE_ROWS}`;
}

/** Several logs may share a time, so the position is the whole sort key. */
function beforeCondition(entry: LogEntry): string {
  const time = sqlTimeText(entry.eventTime);
  const batch = sqlText(entry.batchId);
  return `(event_time < ${time} OR (event_time = ${time} AND (batch_id < ${batch} OR (batch_id = ${batch} AND record_index < ${sqlInteger(entry.recordIndex)}))))`;
}

export function rowSql(place: RowPlace): string {
  return `SELECT * FROM ${place.table}
WHERE event_date = DATE ${sqlText(place.eventTime.slice(0, 10))} AND event_time = ${sqlTimeText(place.eventTime)}
  AND batch_id = ${sqlText(place.batchId)} AND record_index = ${sqlInteger(place.recordIndex)}
LIMIT 1`;
}

/** Counts of the quick filters' values. They ignore the filters, so that what one could add stays visible. */
export function facetsSql(window: TimeWindow, search: string): string {
  return `SELECT severity_class, service, count(*) AS n FROM ${logSource(search)}
WHERE ${sqlAll([timeCondition(window)])}
GROUP BY severity_class, service`;
}

export async function loadLogs(selection: LogSelection, signal: AbortSignal, before?: LogEntry): Promise<LogEntry[]> {
  return rowsOf(await runSql(logsSql(selection, before), signal)).map(readEntry);
}

export async function loadRow(place: RowPlace, signal: AbortSignal): Promise<readonly (readonly [string, Json])[]> {
  return readDetail(await runSql(rowSql(place), signal));
}

export async function loadFacets(window: TimeWindow, search: string, signal: AbortSignal): Promise<Facets> {
  const rows = rowsOf(await runSql(facetsSql(window, search), signal));
  return { severities: sumBy(rows, 'severity_class'), services: sumBy(rows, 'service').slice(0, FACET_VALUES_MAX) };
}

/** A whole row of the live tail as an entry of the list. */
export function entryOfObject(object: JsonObject): LogEntry {
  const message = typeof object['message'] === 'string' ? object['message'] : null;
  const columns = ['event_time', 'severity_class', 'service', 'host', 'event_name', 'http_method', 'http_path', 'http_status', 'duration_us', 'batch_id', 'record_index'];
  const cells = [...columns.map((name) => object[name] ?? null), message === null ? null : message.slice(0, MESSAGE_CHARS_MAX), message?.length ?? 0];
  const names = [...columns, 'message', 'message_chars'];
  return readEntry(new Row(cells, new Map(names.map((name, index) => [name, index]))));
}

function readEntry(row: Row): LogEntry {
  const batchId = row.textOr('batch_id', '');
  const recordIndex = row.count('record_index');
  const message = row.text('message');
  return {
    table: 'logs',
    key: recordKey({ batchId, recordIndex }),
    batchId,
    recordIndex,
    eventTime: row.textOr('event_time', ''),
    eventTimeMs: row.timeMs('event_time') ?? 0,
    severity: row.textOr('severity_class', 'info'),
    service: row.text('service'),
    host: row.text('host'),
    message: message ?? describeRequest(row),
    isCut: row.count('message_chars') > MESSAGE_CHARS_MAX,
  };
}

/** Access logs carry no message; their line is the request. */
function describeRequest(row: Row): string {
  const status = row.text('http_status');
  const parts = [row.text('http_method'), row.text('http_path'), status === null ? null : `→ ${status}`, row.text('event_name')];
  return parts.filter((part) => part !== null).join(' ');
}

/** Fields that have a value, in the table's order. */
export function readDetail(result: SqlResult): (readonly [string, Json])[] {
  const cells = result.rows[0] ?? [];
  return result.columns.map((column, index) => [column.name, cells[index] ?? null] as const).filter(([, value]) => value !== null);
}

function sumBy(rows: readonly Row[], column: string): FacetValue[] {
  const counts = new Map<string | null, number>();
  for (const row of rows) counts.set(row.text(column), (counts.get(row.text(column)) ?? 0) + row.count('n'));
  return [...counts].map(([value, count]) => ({ value, count })).sort((one, other) => other.count - one.count);
}
