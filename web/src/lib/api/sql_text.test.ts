import { describe, expect, test } from 'vitest';

import { sqlAll, sqlContains, sqlDate, sqlInteger, sqlInterval, sqlList, sqlText, sqlTime, sqlTimeText } from './sql_text';

/** Reads a literal as DataFusion does and returns what follows it. */
function afterLiteral(sql: string): string {
  const match = /^'(?:[^']|'')*'(?!')/.exec(sql);
  if (match === null) throw new Error(`no literal: ${sql}`);
  return sql.slice(match[0].length);
}

describe('sqlText', () => {
  test.each(["it's", "'; DROP TABLE logs; --", "''", "\\'", 'a\nb', '', "'", '日本語', '"', '\0'])('%j stays one literal', (value) => {
    expect(afterLiteral(sqlText(value))).toBe('');
  });
  test('a quote is doubled, a backslash is not', () => {
    expect(sqlText("a'b\\c")).toBe("'a''b\\c'");
  });
});

describe('sqlContains', () => {
  test('wildcards and the escape character are taken literally', () => {
    expect(sqlContains('100%_\\')).toBe("'%100\\%\\_\\\\%'");
  });
  test("a quote cannot end the pattern", () => {
    expect(afterLiteral(sqlContains("%' OR 1=1 --"))).toBe('');
  });
});

test('times and dates are UTC literals', () => {
  const timeMs = Date.UTC(2026, 10, 24, 3, 0, 0, 5);
  expect(sqlTime(timeMs)).toBe("TIMESTAMP '2026-11-24T03:00:00.005Z'");
  expect(sqlDate(timeMs)).toBe("DATE '2026-11-24'");
});

test('a time from the server keeps its microseconds, anything else is refused', () => {
  expect(sqlTimeText('2026-11-24T03:00:00.123456Z')).toBe("TIMESTAMP '2026-11-24T03:00:00.123456Z'");
  expect(() => sqlTimeText("2026-11-24T03:00:00Z' OR TRUE --")).toThrow(RangeError);
});

test('numbers must be integers', () => {
  expect(sqlInterval(10)).toBe("INTERVAL '10 seconds'");
  expect(() => sqlInteger(Number.NaN)).toThrow(RangeError);
  expect(() => sqlInteger(1.5)).toThrow(RangeError);
});

test('lists and conjunctions', () => {
  expect(sqlList(['a', "b'"])).toBe("('a', 'b''')");
  expect(sqlAll(['a = 1', '', 'b = 2'])).toBe('a = 1 AND b = 2');
  expect(sqlAll([])).toBe('TRUE');
});
