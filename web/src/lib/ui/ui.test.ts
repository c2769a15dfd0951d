import { describe, expect, test } from 'vitest';

import { groupMarks, groupText, joinSpans, labelsByBin, placeSpan, spansByBin } from './chart_marks';
import { bandRuns, bandText, niceMax, stack, timeLabel, toPlotData } from './chart_options';
import { formatClockSeconds, formatDuration, formatMicros, formatPercent, formatShort, formatSpan, formatTime, fromInputTime, toInputTime } from './format';
import { splitByTerms } from './highlight';

describe('format', () => {
  test.each([[null, '–'], [0, '0'], [0.523, '0.52'], [12.34, '12.3'], [9999, '9,999'], [12_345, '12.3k'], [4_560_000, '4.56M'], [1000.4, '1,000']])('short %s', (value, text) => expect(formatShort(value)).toBe(text));
  test.each([[null, '–'], [0, '0'], [850, '850 µs'], [12_300, '12.3 ms'], [1_500_000, '1.5 s'], [180e6, '3 min']])('micros %s', (value, text) => expect(formatMicros(value)).toBe(text));
  test.each([[null, '–'], [0, '0 %'], [0.00001, '<0.01 %'], [0.0042, '0.42 %'], [0.256, '25.6 %'], [1, '100 %']])('percent %s', (value, text) => expect(formatPercent(value)).toBe(text));
  test.each([[null, '–'], [45e6, '45 s'], [150e6, '2.5 min'], [6_000e6, '100 min'], [9_000e6, '2.5 h'], [250_000e6, '2.9 d']])('duration %s', (value, text) => expect(formatDuration(value)).toBe(text));
  test('spans', () => expect([30, 60, 7200, 86400].map(formatSpan)).toEqual(['30 s', '1 min', '2 h', '1 d']));
  test('times and inputs in UTC', () => {
    const timeMs = Date.UTC(2026, 10, 24, 3, 4, 5, 678);
    expect(formatTime(timeMs, 'utc')).toBe('2026-11-24 03:04:05.678');
    expect(formatClockSeconds(timeMs, 'utc')).toBe('03:04:05');
    expect(fromInputTime(toInputTime(timeMs, 'utc'), 'utc')).toBe(timeMs - 678);
    expect(timeLabel(Date.UTC(2026, 10, 24) / 1000, 3600, 'utc')).toBe('24 Nov');
    expect(timeLabel(timeMs / 1000, 300, 'utc')).toBe('03:04');
  });
});

describe('charts', () => {
  const series = [{ label: 'a', color: '--x', values: [1, null] }, { label: 'b', color: '--y', values: [2, 3] }];
  test('a stack is summed upwards and painted downwards', () => {
    expect(stack(series.map((one) => one.values))).toEqual([[1, 0], [3, 3]]);
    expect(toPlotData([0, 1], series, () => false, true)).toEqual([[0, 1], [3, 3], [1, 0]]);
  });
  test('lines keep their gaps', () => expect(toPlotData([0, 1], series, () => false, false)).toEqual([[0, 1], [1, null], [2, 3]]));
  test('a hidden series takes no place in the stack', () => expect(toPlotData([0, 1], series, (label) => label === 'a', true)).toEqual([[0, 1], [2, 3], [0, 0]]));
});

describe('marks', () => {
  const mark = (seconds: number): { seconds: number; label: string } => ({ seconds, label: `m${seconds}` });
  test('stand where their time is, and together where they are close', () => {
    const frame = { left: 50, top: 8, width: 200, height: 100 };
    const groups = groupMarks([mark(150), mark(100), mark(103), mark(99), mark(201), mark(200)], 100, 200, frame);
    expect(groups).toEqual([{ x: 50, labels: ['m100', 'm103'] }, { x: 150, labels: ['m150'] }, { x: 250, labels: ['m200'] }]);
  });
  test('a crowd is counted', () => expect(groupText(Array.from({ length: 11 }, (_, index) => String(index))).split('\n')).toHaveLength(9));
  test('each is in the row of its bin', () => expect(labelsByBin([mark(60), mark(61), mark(500)], [60, 120, 180])).toEqual(['m60; m61', '', 'm500']));
});

describe('stretches', () => {
  const shape = { fromSeconds: 100, toSeconds: 200 };
  const frame = { left: 50, top: 8, width: 200, height: 100 };
  const span = (fromSeconds: number, toSeconds: number, label: string) => ({ fromSeconds, toSeconds, label });
  test('are cut at the edges of the chart, and left out beyond', () => {
    expect(placeSpan(90, 110, shape, frame)).toEqual({ x: 50, width: 20 });
    expect(placeSpan(150, 999, shape, frame)).toEqual({ x: 150, width: 100 });
    expect(placeSpan(200, 210, shape, frame)).toBeUndefined();
  });
  test('are one where they touch, with each label once', () => {
    expect(joinSpans([span(60, 120, 'b'), span(0, 60, 'a'), span(120, 180, 'a'), span(240, 300, 'c')])).toEqual([
      { fromSeconds: 0, toSeconds: 180, labels: ['a', 'b'] },
      { fromSeconds: 240, toSeconds: 300, labels: ['c'] },
    ]);
  });
  test('are in the rows of all bins that they reach into', () => expect(spansByBin([span(60, 130, 'a')], [0, 60, 120, 180])).toEqual(['', 'a', 'a', '']));
});

describe('band', () => {
  const band = { low: [0, null, 1, 2, null], high: [4, null, 5, 6, null] };
  test('is drawn in runs between its gaps', () => expect(bandRuns(band)).toEqual([[0, 1], [2, 4]]));
  test('is seen whole, unless it is so wide that it would flatten the values', () => {
    expect(niceMax(5, band)).toBeCloseTo(6 * 1.08);
    expect(niceMax(2, band)).toBeCloseTo(4 * 1.08);
    expect(niceMax(null, band)).toBeCloseTo(6 * 1.08);
    expect(niceMax(null, undefined)).toBe(1);
  });
  test('says what was expected of a bin', () => expect([0, 1].map((index) => bandText(band, index, String))).toEqual(['0 – 4', 'null']));
});

describe('highlight', () => {
  const check = (text: string, terms: string[], marked: string): void =>
    expect(splitByTerms(text, terms).map((part) => (part.isHit ? `[${part.text}]` : part.text)).join('')).toBe(marked);
  test('case is ignored', () => check('Timeout and TIMEOUT', ['timeout'], '[Timeout] and [TIMEOUT]'));
  test('special characters are literal', () => check('a.b (c)', ['.', '(c)'], 'a[.]b [(c)]'));
  test('the longest term wins', () => check('timeout', ['time', 'timeout'], '[timeout]'));
  test('markup stays text', () => check('<b>x</b>', ['<b>'], '[<b>]x</b>'));
});
