import { describe, expect, test } from 'vitest';

import { rowsOf } from '../../api/rows';
import { parseSqlResult } from '../../api/sql';
import type { TimeWindow } from '../../state/time_range';
import { errorRatio, errorTotalsSql, fillBins, ledgerDifference, ledgerSql, openFrom, rateSql, type Question } from './queries';

const WINDOW: TimeWindow = { fromMs: 60_000, toMs: 240_000, untilMs: 240_000, isBounded: true };
const QUESTION: Question = { window: WINDOW, filters: [], search: '' };
const LEDGER = { received: 10, late: 1, outcomes: { stored: 5, duplicate: 1, filtered: 1, dead_lettered: 1, rejected: 1, in_flight: 1 } };

describe('fillBins', () => {
  const rows = rowsOf(
    parseSqlResult({
      columns: [{ name: 't' }, { name: 'v' }],
      rows: [['1970-01-01T00:01:00Z', 0], ['1970-01-01T00:03:00Z', 7], ['1970-01-01T00:59:00Z', 9]],
    }),
  );
  const values = (missing: 0 | null): unknown => fillBins(WINDOW, 60, ['x'], rows, () => 'x', (row) => row.number('v'), missing).values.get('x');
  test('a bin without a row is a gap where something is measured', () => expect(values(null)).toEqual([0, null, 7]));
  test('and 0 where rows are counted', () => expect(values(0)).toEqual([0, 0, 7]));
});

test('figures are open from the first bin that holds a window which is not complete', () => {
  const rows = (flags: boolean[]) =>
    rowsOf(parseSqlResult({ columns: [{ name: 't' }, { name: 'is_open' }], rows: flags.map((flag, index) => [`1970-01-01T00:0${index}:00Z`, flag]) }));
  expect(openFrom(rows([false, true, true]))).toBe(60);
  expect(openFrom(rows([false, false]))).toBeUndefined();
});

test('a bin without requests has no error ratio', () => {
  expect(errorRatio([0, 1, 0, null], [10, 4, 0, 5])).toEqual([0, 0.25, null, null]);
});

test('the ledger closes only when every record has one outcome', () => {
  expect(ledgerDifference(LEDGER)).toBe(0);
  expect(ledgerDifference({ ...LEDGER, received: 12 })).toBe(2);
});

describe('queries', () => {
  test('the rate counts activity only when every filter applies to it', () => {
    expect(rateSql(QUESTION, 10)).toContain('FROM activity');
    expect(rateSql({ ...QUESTION, search: 'x' }, 10)).not.toContain('FROM activity');
    expect(rateSql({ ...QUESTION, filters: [{ field: 'severity_class', value: 'error', isExcluded: false }] }, 10)).not.toContain('FROM activity');
  });
  test('a severity filter does not turn every error ratio into 1', () => {
    const filters = [{ field: 'severity_class', value: 'error', isExcluded: false }];
    expect(errorTotalsSql({ ...QUESTION, filters })).toBe(errorTotalsSql(QUESTION));
  });
  test('the ledger goes by receive time', () => expect(ledgerSql(WINDOW)).toContain('receive_minute >= TIMESTAMP'));
});
