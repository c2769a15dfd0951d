import { afterEach, describe, expect, test, vi } from 'vitest';

import { getJson, parseErrorBody, postJson, spanParams, unreadable } from './answer';
import { toApiError } from './errors';

test('an error body gives code, message and hint; anything else still gives an error', () => {
  const error = parseErrorBody({ error: { code: 'sql_syntax', message: 'm', hint: 'h' } }, 400);
  expect([error.code, error.message, error.hint, error.status]).toEqual(['sql_syntax', 'm', 'h', 400]);
  expect(parseErrorBody(undefined, 502).code).toBe('http_502');
  expect(toApiError(new TypeError('fetch failed')).code).toBe('unreachable');
});

test('an answer that cannot be read says which, why and what to look at', () => {
  expect(unreadable('the answer of /v1/sql', '"rows" is not a list').message).toBe('the answer of /v1/sql cannot be read: "rows" is not a list');
  expect(unreadable('an alert').message).toBe('an alert cannot be read');
  expect(unreadable('an alert').hint).toContain('port');
});

test('a span of time is told with the bounds that it has', () => {
  expect(spanParams(0, 1_500).toString()).toBe('from=1970-01-01T00%3A00%3A00.000Z&to=1970-01-01T00%3A00%3A01.500Z');
  expect(spanParams(null, 0).toString()).toBe('to=1970-01-01T00%3A00%3A00.000Z');
  expect(spanParams(null, null).size).toBe(0);
});

describe('requests', () => {
  const never = new AbortController().signal;
  /** Answers every request with a body, and keeps what was asked. */
  function serve(body: string, status = 200): { url: string; init: RequestInit }[] {
    const asked: { url: string; init: RequestInit }[] = [];
    vi.stubGlobal('window', { sessionStorage: { getItem: () => null }, dispatchEvent: () => true });
    vi.stubGlobal('fetch', async (url: string, init: RequestInit) => {
      asked.push({ url, init });
      init.signal?.throwIfAborted();
      return new Response(body, { status });
    });
    return asked;
  }
  afterEach(() => vi.unstubAllGlobals());

  test('a GET carries its parameters, and no question mark without any', async () => {
    const asked = serve('{"a":1}');
    expect(await getJson('/v1/x', new URLSearchParams({ q: 'a b' }), never)).toEqual({ a: 1 });
    await getJson('/v1/x', new URLSearchParams(), never);
    expect(asked.map(({ url }) => url)).toEqual(['/v1/x?q=a+b', '/v1/x']);
  });
  test('a POST carries its body as JSON', async () => {
    const asked = serve('[]');
    expect(await postJson('/v1/sql', { query: 'SELECT 1' }, 1_000, never)).toEqual([]);
    expect([asked[0]?.init.method, asked[0]?.init.body, new Headers(asked[0]?.init.headers).get('content-type')]).toEqual(['POST', '{"query":"SELECT 1"}', 'application/json']);
  });
  test('an error status is the error that its body tells of', async () => {
    serve('{"error":{"code":"sql_syntax","message":"m","position":{"start":1,"end":2}}}', 400);
    await expect(postJson('/v1/sql', {}, 1_000, never)).rejects.toMatchObject({ code: 'sql_syntax', status: 400, place: { start: 1, end: 2 } });
    serve('<html>', 502);
    await expect(getJson('/v1/x', new URLSearchParams(), never)).rejects.toMatchObject({ code: 'http_502' });
  });
  test('an abort rejects with its own reason, no error for the screen', async () => {
    serve('{}');
    await expect(getJson('/v1/x', new URLSearchParams(), AbortSignal.abort('gone'))).rejects.toBe('gone');
  });
});
