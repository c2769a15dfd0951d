// Client of GET /v1/users/{id}/timeline: who a user is and what they did, newest first, page by page.

import { getJson, spanParams, unreadable } from './answer';
import { isJsonList, isJsonObject, numberIn, textIn, timeIn, type Json, type JsonObject } from './json';

export interface LatestValue {
  readonly name: string;
  readonly value: string;
  readonly timeMs: number;
}
export interface Profile {
  readonly firstSeenMs: number;
  readonly lastSeenMs: number;
  readonly eventCount: number;
  readonly errorCount: number;
  /** Last values that are known, in the server's order. */
  readonly latest: readonly LatestValue[];
}
export interface TimelineEntry {
  readonly table: 'logs' | 'activity';
  readonly eventTime: string;
  readonly eventTimeMs: number;
  readonly name: string | null;
  readonly service: string | null;
  readonly route: string | null;
  readonly httpStatus: number | null;
  readonly durationMicros: number | null;
  readonly severity: string | null;
  readonly batchId: string;
  readonly recordIndex: number;
}
export interface TimelinePage {
  /** Null where nobody keeps profiles. */
  readonly profile: Profile | null;
  readonly entries: readonly TimelineEntry[];
  /** Events that were too many to keep here. */
  readonly omittedCount: number;
  /** Cursor of the next older page; null on the last. */
  readonly next: string | null;
}
export interface TimelineRequest {
  readonly user: string;
  /** Null for no bound. */
  readonly fromMs: number | null;
  readonly toMs: number | null;
  readonly limit: number;
  readonly cursor: string | null;
}

export async function loadTimeline(asked: TimelineRequest, signal: AbortSignal): Promise<TimelinePage> {
  const params = spanParams(asked.fromMs, asked.toMs);
  params.set('limit', String(asked.limit));
  if (asked.cursor !== null) params.set('cursor', asked.cursor);
  return parseTimeline(await getJson(`/v1/users/${encodeURIComponent(asked.user)}/timeline`, params, signal));
}

export function parseTimeline(body: unknown): TimelinePage {
  const fields = isJsonObject(body) ? body : {};
  const { profile, entries } = fields;
  if ((profile !== null && !isJsonObject(profile)) || !isJsonList(entries)) throw unreadable('the timeline of a user');
  return { profile: profile === null ? null : parseProfile(profile), entries: entries.map(parseEntry), omittedCount: numberIn(fields, 'omitted_count') ?? 0, next: textIn(fields, 'next') };
}

function parseProfile(profile: JsonObject): Profile {
  const [firstSeenMs, lastSeenMs] = [timeIn(profile, 'first_seen'), timeIn(profile, 'last_seen')];
  if (firstSeenMs === null || lastSeenMs === null) throw unreadable('the profile of a user');
  const latest = isJsonObject(profile['latest']) ? Object.entries(profile['latest']) : [];
  return {
    firstSeenMs,
    lastSeenMs,
    eventCount: numberIn(profile, 'event_count') ?? 0,
    errorCount: numberIn(profile, 'error_count') ?? 0,
    latest: latest.flatMap(([name, known]) => {
      const [value, timeMs] = isJsonObject(known) ? [textIn(known, 'value'), timeIn(known, 'time')] : [null, null];
      return value === null || timeMs === null ? [] : [{ name, value, timeMs }];
    }),
  };
}

function parseEntry(entry: Json): TimelineEntry {
  const fields = isJsonObject(entry) ? entry : {};
  const [table, eventTimeMs, batchId, recordIndex] = [fields['table'], timeIn(fields, 'event_time'), textIn(fields, 'batch_id'), numberIn(fields, 'record_index')];
  if ((table !== 'logs' && table !== 'activity') || eventTimeMs === null || batchId === null || recordIndex === null) throw unreadable('an entry of the timeline');
  return {
    table,
    eventTime: textIn(fields, 'event_time') ?? '',
    eventTimeMs,
    name: textIn(fields, 'name'),
    service: textIn(fields, 'service'),
    route: textIn(fields, 'route'),
    httpStatus: numberIn(fields, 'http_status'),
    durationMicros: numberIn(fields, 'duration_us'),
    severity: textIn(fields, 'severity_class'),
    batchId,
    recordIndex,
  };
}
