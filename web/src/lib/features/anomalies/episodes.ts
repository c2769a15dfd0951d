// Episodes of anomalies: a query, the model made of its rows, and what of them concerns the logs.
//
// For: anomalies of a series with fewer than ten windows between them, as one. Not for: bands of charts (expectations.ts).

import { isJsonObject, textIn } from '../../api/json';
import { rowsOf, type Row } from '../../api/rows';
import { runSql } from '../../api/sql';
import { sqlAll } from '../../api/sql_text';
import type { Filter } from '../../state/location';
import type { TimeWindow } from '../../state/time_range';
import { filterConditions, timeCondition } from '../logs/filters';

const EPISODES_MAX = 30;

/** What names a series, in the order of the table's columns. */
const SERIES = ['signal', 'scope', 'service', 'metric_name', 'host', 'series', 'event_name'] as const;

export interface Episode {
  readonly key: string;
  readonly startMs: number;
  /** End of its last window so far. */
  readonly endMs: number;
  readonly signal: string;
  readonly scope: string;
  readonly service: string | null;
  readonly metricName: string | null;
  readonly host: string | null;
  readonly eventName: string | null;
  readonly windowCount: number;
  /** The highest of its windows, 0 to 1; kind, reason and contributors are those of that window. */
  readonly score: number;
  readonly kind: string | null;
  readonly reason: string;
  readonly contributors: readonly string[];
}

export function episodesSql(window: TimeWindow, filters: readonly Filter[]): string {
  const most = (column: string): string => `first_value(${column} ORDER BY score DESC) AS ${column}`;
  return `SELECT episode_start, ${SERIES.join(', ')}, max(window_end) AS last_end, count(*) AS n, max(score) AS highest,
  ${['kind', 'reason', 'contributors'].map(most).join(', ')}
FROM anomalies
WHERE ${sqlAll([timeCondition(window, 'window_start'), ...filterConditions('anomalies', filters)])}
GROUP BY episode_start, ${SERIES.join(', ')} ORDER BY last_end DESC, highest DESC LIMIT ${EPISODES_MAX}`;
}

export async function loadEpisodes(window: TimeWindow, filters: readonly Filter[], signal: AbortSignal): Promise<Episode[]> {
  return rowsOf(await runSql(episodesSql(window, filters), signal)).map(readEpisode);
}

export function readEpisode(row: Row): Episode {
  const startMs = row.timeMs('episode_start') ?? 0;
  return {
    key: JSON.stringify([startMs, ...SERIES.map((name) => row.text(name))]),
    startMs,
    endMs: row.timeMs('last_end') ?? startMs,
    signal: row.textOr('signal', ''),
    scope: row.textOr('scope', ''),
    service: row.text('service'),
    metricName: row.text('metric_name'),
    host: row.text('host'),
    eventName: row.text('event_name'),
    windowCount: row.count('n'),
    score: row.count('highest'),
    kind: row.text('kind'),
    reason: row.textOr('reason', ''),
    contributors: row.list('contributors').flatMap((one) => (isJsonObject(one) ? [textIn(one, 'text')] : [])).filter((text) => text !== null),
  };
}

const SIGNAL_NAMES: Readonly<Record<string, string>> = {
  error_ratio: 'error ratio',
  request_rate: 'requests',
  record_rate: 'records',
  latency_p50: 'median latency',
  latency_p99: 'p99 latency',
  event_rate: 'events',
};
const KIND_NAMES: Readonly<Record<string, string>> = {
  value: 'value',
  level_change: 'level change',
  drift: 'drift',
  season: 'time of day',
  spread: 'spread',
  silence: 'silence',
};

export function kindName(kind: string): string {
  return KIND_NAMES[kind] ?? kind;
}

/** What the series measures and of what: `error ratio of checkout`. */
export function episodeTitle(episode: Episode): string {
  if (episode.metricName !== null) {
    const of = [episode.service, episode.host].filter((part) => part !== null).join(', ');
    return of === '' ? episode.metricName : `${episode.metricName} of ${of}`;
  }
  const whose = episode.scope === 'all' ? 'everything' : (episode.service ?? episode.eventName ?? '(no service)');
  return `${SIGNAL_NAMES[episode.signal] ?? episode.signal} of ${whose}`;
}

/** Filters that leave the logs of the series. Hosts write logs of many services, so that the service counts where both are known. */
export function episodeFilters(episode: Episode): Filter[] {
  const include = (field: string, value: string): Filter[] => [{ field, value, isExcluded: false }];
  if (episode.service !== null) return include('service', episode.service);
  if (episode.host !== null) return include('host', episode.host);
  return episode.eventName === null ? [] : include('event_name', episode.eventName);
}
