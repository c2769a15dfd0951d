import { expect, test, vi } from 'vitest';

import { ApiError } from '../api/errors';
import { OlderPages } from './older_pages.svelte';

/** A load that ends when the test says so. */
function held<T>(): { load: (signal: AbortSignal) => Promise<T>; answer: (page: T) => void; signals: AbortSignal[] } {
  let answer: (page: T) => void = () => undefined;
  const promise = new Promise<T>((resolve) => (answer = resolve));
  const signals: AbortSignal[] = [];
  return { load: (signal) => (signals.push(signal), promise), answer, signals };
}

test('a page is handed over, and a second is not asked for meanwhile', async () => {
  const [older, first, take, other] = [new OlderPages(), held<string>(), vi.fn(), vi.fn(async () => 'other')];
  const loading = older.load(first.load, take);
  expect(older.isLoading).toBe(true);
  await older.load(other, take);
  expect(other).not.toHaveBeenCalled();
  first.answer('first');
  await loading;
  expect(take.mock.calls).toEqual([['first']]);
  expect(older.isLoading).toBe(false);
});

test('nothing arrives of what was given up, and the next load does not wait for it', async () => {
  const [older, first, second, take] = [new OlderPages(), held<string>(), held<string>(), vi.fn()];
  const givenUp = older.load(first.load, take);
  older.giveUp();
  expect([older.isLoading, first.signals[0]?.aborted]).toEqual([false, true]);
  const loading = older.load(second.load, take);
  first.answer('first');
  await givenUp;
  expect(older.isLoading).toBe(true);
  second.answer('second');
  await loading;
  expect(take.mock.calls).toEqual([['second']]);
});

test('a failure is kept until a later page arrives or the list begins anew', async () => {
  const older = new OlderPages();
  const fail = (): Promise<string> => Promise.reject(new ApiError('timeout', 'too slow'));
  await older.load(fail, () => undefined);
  expect([older.error?.code, older.isLoading]).toEqual(['timeout', false]);
  await older.load(async () => 'page', () => undefined);
  expect(older.error).toBeUndefined();
  await older.load(fail, () => undefined);
  older.giveUp();
  expect(older.error).toBeUndefined();
});
