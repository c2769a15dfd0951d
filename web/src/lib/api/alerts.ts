// Client of GET /v1/alerts: the alert rules, and their groups that are pending or firing.

import { getJson, unreadable } from './answer';
import { isJsonList, isJsonObject, textIn, timeIn, type Json } from './json';

export interface Alert {
  readonly rule: string;
  /** Dimensions of the group; empty where the rule has one group. */
  readonly group: readonly (readonly [string, string | null])[];
  readonly state: 'pending' | 'firing';
  /** Null while it is pending. */
  readonly firedAtMs: number | null;
}
export interface Alerts {
  readonly rules: readonly string[];
  readonly alerts: readonly Alert[];
}

export async function loadAlerts(signal: AbortSignal): Promise<Alerts> {
  return parseAlerts(await getJson('/v1/alerts', new URLSearchParams(), signal));
}

export function parseAlerts(body: unknown): Alerts {
  const { rules, alerts } = isJsonObject(body) ? body : {};
  if (!isJsonList(rules) || !isJsonList(alerts)) throw unreadable('the answer of /v1/alerts');
  return { rules: rules.filter((rule) => typeof rule === 'string'), alerts: alerts.map(parseAlert) };
}

function parseAlert(alert: Json): Alert {
  const fields = isJsonObject(alert) ? alert : {};
  const [rule, state, group] = [textIn(fields, 'rule'), fields['state'], fields['group']];
  if (rule === null || (state !== 'pending' && state !== 'firing') || !isJsonObject(group)) throw unreadable('an alert in the answer of /v1/alerts');
  return { rule, state, group: Object.entries(group).map(([name, value]) => [name, typeof value === 'string' ? value : null]), firedAtMs: timeIn(fields, 'fired_at') };
}
