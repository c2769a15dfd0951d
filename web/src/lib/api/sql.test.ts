import { describe, expect, test, vi } from 'vitest';

import { ApiError } from './errors';
import { Gate } from './gate';
import { rowsOf } from './rows';
import { parseSqlResult } from './sql';

describe('parseSqlResult', () => {
  test('a good answer', () => {
    const result = parseSqlResult({ columns: [{ name: 'n', type: 'Int64' }], rows: [[1], [null]], row_count: 2, truncated: true, elapsed_ms: 3.1 });
    expect(result).toEqual({ columns: [{ name: 'n', type: 'Int64' }], rows: [[1], [null]], isTruncated: true, elapsedMs: 3.1 });
  });
  test.each([undefined, null, [], 'text', {}, { columns: [], rows: 1 }, { columns: [{}], rows: [] }, { columns: [{ name: 'a' }], rows: [[1, 2]] }, { columns: [{ name: 'a' }], rows: [1] }])(
    '%j is refused with a readable error',
    (body) => {
      expect(() => parseSqlResult(body)).toThrow(ApiError);
    },
  );
});

test('rows read cells by column and keep null apart from 0', () => {
  const [row] = rowsOf(parseSqlResult({ columns: ['a', 'b', 't', 'm'].map((name) => ({ name })), rows: [[null, 0, '2026-11-24T03:00:00.5Z', { k: 'v' }]] }));
  expect(row?.number('a')).toBeNull();
  expect(row?.number('b')).toBe(0);
  expect(row?.count('a')).toBe(0);
  expect(row?.timeMs('t')).toBe(Date.UTC(2026, 10, 24, 3, 0, 0, 500));
  expect(row?.object('m')).toEqual({ k: 'v' });
  expect(() => row?.text('missing')).toThrow('no column missing');
});

describe('Gate', () => {
  test('lets as many in as it has slots, the others in order', async () => {
    const gate = new Gate(1);
    const { signal } = new AbortController();
    const entered = vi.fn();
    const release = await gate.enter(signal);
    const second = gate.enter(signal).then((leave) => (entered('second'), leave));
    const third = gate.enter(signal).then((leave) => (entered('third'), leave));
    await Promise.resolve();
    expect(entered).not.toHaveBeenCalled();
    release();
    (await second)();
    (await third)();
    expect(entered.mock.calls).toEqual([['second'], ['third']]);
  });
  test('one that gives up does not take a slot', async () => {
    const gate = new Gate(1);
    const controller = new AbortController();
    const release = await gate.enter(new AbortController().signal);
    const waiting = gate.enter(controller.signal);
    controller.abort();
    await expect(waiting).rejects.toThrow();
    release();
    release();
    (await gate.enter(new AbortController().signal))();
  });
});
