// The events of alert rules: what has changed, newest first.

import { rowsOf, type Row } from '../../api/rows';
import { runSql } from '../../api/sql';
import { sqlAll, sqlDate, sqlText } from '../../api/sql_text';
import type { Alert } from '../../api/alerts';

const EVENTS_MAX = 20;
/** How far back events are looked for, so that only few days are read. */
export const EVENT_DAYS = 7;
const DAY_MS = 86_400_000;

export interface AlertEvent {
  readonly key: string;
  readonly atMs: number;
  readonly rule: string;
  readonly group: string;
  readonly severity: string;
  readonly change: string;
  readonly reason: string;
}

/** Events of one group of a rule, or of all rules. */
export function alertEventsSql(alert: Alert | undefined, nowMs: number): string {
  const ofAlert = alert === undefined ? [] : [`rule = ${sqlText(alert.rule)}`, ...alert.group.map(([name, value]) => dimensionCondition(name, value))];
  return `SELECT at, rule, group_key, severity, change, reason, "sequence" FROM alert_events
WHERE ${sqlAll([`event_date >= ${sqlDate(nowMs - EVENT_DAYS * DAY_MS)}`, ...ofAlert])} ORDER BY at DESC, "sequence" DESC LIMIT ${EVENTS_MAX}`;
}

function dimensionCondition(name: string, value: string | null): string {
  return `dimensions[${sqlText(name)}] ${value === null ? 'IS NULL' : `= ${sqlText(value)}`}`;
}

export async function loadAlertEvents(alert: Alert | undefined, signal: AbortSignal): Promise<AlertEvent[]> {
  return rowsOf(await runSql(alertEventsSql(alert, Date.now()), signal)).map(readAlertEvent);
}

export function readAlertEvent(row: Row): AlertEvent {
  const [rule, group] = [row.textOr('rule', ''), row.textOr('group_key', '')];
  return {
    key: JSON.stringify([rule, group, row.textOr('sequence', '')]),
    atMs: row.timeMs('at') ?? 0,
    rule,
    group,
    severity: row.textOr('severity', ''),
    change: row.textOr('change', ''),
    reason: row.textOr('reason', ''),
  };
}

/** A group in words: `service=checkout, host=a`. */
export function groupText(alert: Alert): string {
  return alert.group.flatMap(([name, value]) => (value === null ? [] : [`${name}=${value}`])).join(', ');
}

/** Firing before pending, and by name. */
export function inOrder(alerts: readonly Alert[]): Alert[] {
  const name = (alert: Alert): string => `${alert.state === 'firing' ? 0 : 1} ${alert.rule} ${groupText(alert)}`;
  return alerts.toSorted((one, other) => (name(one) < name(other) ? -1 : 1));
}
