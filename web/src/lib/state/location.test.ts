import { expect, test } from 'vitest';

import { formatLocation, parseLocation, toggleFilter, VIEWS, type AppLocation, type Filter } from './location';
import { DEFAULT_RANGE, PRESETS, type TimeRange } from './time_range';

const VALUES = ['checkout', 'a:b', 'a&b=c', '100%', '%3A', '', ' ', 'ü 日本', "it's", '#?/+'];
const RANGES: TimeRange[] = [...PRESETS.map((preset) => ({ kind: 'preset', preset }) as const), { kind: 'between', fromMs: 1_000, toMs: 2_500 }];

/** Small generator with a seed: the same run every time. */
function* numbers(seed: number): Generator<number, never> {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

test('every location survives the trip through the URL', () => {
  const random = numbers(7);
  const pick = <T,>(from: readonly T[]): T => from[Math.floor(random.next().value * from.length)] as T;
  for (let round = 0; round < 500; round += 1) {
    const filters = Array.from({ length: round % 4 }, (): Filter => ({ field: pick(['service', 'attributes.a:b%', 'host']), value: pick([...VALUES, null]), isExcluded: false }));
    const excluded = Array.from({ length: round % 3 }, (): Filter => ({ field: 'region', value: pick(VALUES), isExcluded: true }));
    const location: AppLocation = { view: pick(VIEWS), range: pick(RANGES), search: pick(VALUES), filters: [...filters, ...excluded], user: pick(VALUES), sql: pick(VALUES) };
    expect(parseLocation(formatLocation(location))).toEqual(location);
  }
});

test('an empty or foreign query string gives the defaults', () => {
  for (const search of ['', '?', '?view=x&range=y&from=z&to=w', '?from=2026-11-24T03:00:00Z&to=2026-11-24T02:00:00Z']) {
    expect(parseLocation(search)).toEqual({ view: 'live', range: DEFAULT_RANGE, search: '', filters: [], user: '', sql: '' });
  }
});

test('a filter replaces its opposite and goes when set twice', () => {
  const include: Filter = { field: 'service', value: 'a', isExcluded: false };
  const exclude: Filter = { ...include, isExcluded: true };
  expect(toggleFilter([], include)).toEqual([include]);
  expect(toggleFilter([include], exclude)).toEqual([exclude]);
  expect(toggleFilter([exclude], exclude)).toEqual([]);
});
