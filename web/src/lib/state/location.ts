// All shareable state, and its form in the URL. Documented parameters:
//
//   view=live|logs|users|dead-letters|sql page (default live)
//   range=15m|1h|6h|24h|7d|all            time range that ends now (default 1h), or
//   from=RFC3339&to=RFC3339               fixed time range
//   q=TEXT                                search text
//   is=FIELD:VALUE, not=FIELD:VALUE       filters, repeatable; without ":VALUE" the field is missing
//   user=ID                               user of the users page
//   sql=QUERY                             query of the SQL page
//
// Invariant: parseLocation(formatLocation(location)) equals location.

import { DEFAULT_RANGE, isPreset, type TimeRange } from './time_range';

export const VIEWS = ['live', 'logs', 'users', 'dead-letters', 'sql'] as const;
export type View = (typeof VIEWS)[number];

export interface Filter {
  readonly field: string;
  /** Null selects rows in which the field is missing. */
  readonly value: string | null;
  readonly isExcluded: boolean;
}

export interface AppLocation {
  readonly view: View;
  readonly range: TimeRange;
  readonly search: string;
  readonly filters: readonly Filter[];
  readonly user: string;
  readonly sql: string;
}

export function parseLocation(search: string): AppLocation {
  const params = new URLSearchParams(search);
  const view = VIEWS.find((name) => name === params.get('view')) ?? 'live';
  return {
    view,
    range: parseRange(params),
    search: params.get('q') ?? '',
    filters: [
      ...params.getAll('is').map((text) => parseFilter(text, false)),
      ...params.getAll('not').map((text) => parseFilter(text, true)),
    ],
    user: params.get('user') ?? '',
    sql: params.get('sql') ?? '',
  };
}

/** Query string with its `?`; defaults are left out. */
export function formatLocation(location: AppLocation): string {
  const params = new URLSearchParams();
  if (location.view !== 'live') params.set('view', location.view);
  if (location.range.kind === 'between') {
    params.set('from', new Date(location.range.fromMs).toISOString());
    params.set('to', new Date(location.range.toMs).toISOString());
  } else if (DEFAULT_RANGE.kind !== 'preset' || location.range.preset !== DEFAULT_RANGE.preset) {
    params.set('range', location.range.preset);
  }
  if (location.search !== '') params.set('q', location.search);
  for (const filter of location.filters) params.append(filter.isExcluded ? 'not' : 'is', formatFilter(filter));
  if (location.user !== '') params.set('user', location.user);
  if (location.sql !== '') params.set('sql', location.sql);
  const text = params.toString();
  return text === '' ? '?' : `?${text}`;
}

export function isSameFilter(one: Filter, other: Filter): boolean {
  return one.field === other.field && one.value === other.value && one.isExcluded === other.isExcluded;
}

/** Adds a filter, or removes it where it is set already; the opposite filter on the same value goes. */
export function toggleFilter(filters: readonly Filter[], filter: Filter): Filter[] {
  const others = filters.filter((other) => other.field !== filter.field || other.value !== filter.value);
  return filters.some((other) => isSameFilter(other, filter)) ? others : [...others, filter];
}

function parseRange(params: URLSearchParams): TimeRange {
  const fromMs = Date.parse(params.get('from') ?? '');
  const toMs = Date.parse(params.get('to') ?? '');
  if (fromMs < toMs) return { kind: 'between', fromMs, toMs };
  const preset = params.get('range') ?? '';
  return isPreset(preset) ? { kind: 'preset', preset } : DEFAULT_RANGE;
}

function parseFilter(text: string, isExcluded: boolean): Filter {
  const colon = text.indexOf(':');
  if (colon < 0) return { field: decodeField(text), value: null, isExcluded };
  return { field: decodeField(text.slice(0, colon)), value: text.slice(colon + 1), isExcluded };
}

function formatFilter(filter: Filter): string {
  const field = encodeField(filter.field);
  return filter.value === null ? field : `${field}:${filter.value}`;
}

// A colon inside a field name (an attribute may be called "a:b") is written %3A.
const encodeField = (field: string): string => field.replaceAll('%', '%25').replaceAll(':', '%3A');
const decodeField = (text: string): string => text.replaceAll('%3A', ':').replaceAll('%25', '%');
