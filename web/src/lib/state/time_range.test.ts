import { expect, test } from 'vitest';

import { alignWindow, binSeconds, binStarts, boundsOf, inSeconds, resolveRange } from './time_range';

const NOW_MS = Date.UTC(2026, 10, 24, 3, 0, 17);

test('presets end now, "all" spans the data and is unbounded', () => {
  const hour = resolveRange({ kind: 'preset', preset: '1h' }, NOW_MS, undefined);
  expect([NOW_MS - hour.fromMs, hour.toMs, hour.isBounded]).toEqual([3_600_000, NOW_MS, true]);
  const all = resolveRange({ kind: 'preset', preset: 'all' }, NOW_MS, { fromMs: 5, toMs: 10_000_000 });
  expect(all).toEqual({ fromMs: 5, toMs: 10_000_000, isBounded: false, untilMs: 10_000_000 });
});

test('charts have between 20 and 131 bins whatever the range', () => {
  for (const preset of ['15m', '1h', '6h', '24h', '7d'] as const) {
    const window = resolveRange({ kind: 'preset', preset }, NOW_MS, undefined);
    const count = binStarts(window, binSeconds(window)).length;
    expect(count).toBeGreaterThan(20);
    expect(count).toBeLessThanOrEqual(132);
  }
});

test('bins start at multiples of their width and cover the window', () => {
  const window = resolveRange({ kind: 'preset', preset: '15m' }, NOW_MS, undefined);
  const starts = binStarts(window, 10);
  expect(starts.every((start) => start % 10 === 0)).toBe(true);
  expect(alignWindow(window, 10).fromMs).toBe((starts[0] ?? 0) * 1000);
  expect(((starts.at(-1) ?? 0) + 10) * 1000).toBeGreaterThanOrEqual(window.toMs);
});

test('a live window asks for a little more than it shows, "all" asks without bounds', () => {
  const hour = resolveRange({ kind: 'preset', preset: '1h' }, NOW_MS, undefined);
  expect(boundsOf(hour)).toEqual({ fromMs: NOW_MS - 3_600_000, toMs: NOW_MS + 60_000 });
  expect(inSeconds(hour)).toEqual({ fromSeconds: NOW_MS / 1000 - 3_600, toSeconds: NOW_MS / 1000 });
  expect(boundsOf(resolveRange({ kind: 'preset', preset: 'all' }, NOW_MS, { fromMs: 5, toMs: 10_000_000 }))).toEqual({ fromMs: null, toMs: null });
});
