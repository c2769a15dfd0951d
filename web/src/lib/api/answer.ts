// Requests that are answered with JSON.
//
// For: one way to ask and to fail, whatever is asked. Not for: what an answer means (the client of each path), or answers
// that are a stream (features/logs/tail.ts).

import { ApiError, toApiError } from './errors';
import { request } from './http';
import { isJsonObject, parseJson, type Json } from './json';

const GET_TIMEOUT_MS = 30_000;

/** The answer to a GET request, still to be looked at; fails like `ask`. */
export async function getJson(path: string, params: URLSearchParams, signal: AbortSignal): Promise<Json | undefined> {
  return ask(params.size === 0 ? path : `${path}?${params.toString()}`, {}, GET_TIMEOUT_MS, signal);
}

/** The answer to a POST request with a JSON body, still to be looked at; fails like `ask`. */
export async function postJson(path: string, body: Json, timeoutMs: number, signal: AbortSignal): Promise<Json | undefined> {
  const headers = { 'content-type': 'application/json', accept: 'application/json' };
  return ask(path, { method: 'POST', headers, body: JSON.stringify(body) }, timeoutMs, signal);
}

/** Undefined where the answer is no JSON. Every failure is an `ApiError`, an abort the reason of `signal`. */
async function ask(path: string, init: RequestInit, timeoutMs: number, signal: AbortSignal): Promise<Json | undefined> {
  try {
    const response = await request(path, { ...init, signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]) });
    const body = parseJson(await response.text());
    if (!response.ok) throw parseErrorBody(body, response.status);
    return body;
  } catch (failure) {
    signal.throwIfAborted();
    throw toApiError(failure);
  }
}

/** Parameters `from` and `to` for a span of time; null is no bound. */
export function spanParams(fromMs: number | null, toMs: number | null): URLSearchParams {
  const params = new URLSearchParams();
  if (fromMs !== null) params.set('from', new Date(fromMs).toISOString());
  if (toMs !== null) params.set('to', new Date(toMs).toISOString());
  return params;
}

/** The error that the server tells of in the body of an answer with an error status. */
export function parseErrorBody(body: unknown, status: number): ApiError {
  const error = isJsonObject(body) ? body['error'] : undefined;
  if (!isJsonObject(error)) return new ApiError(`http_${status}`, `the server answered with status ${status}`, undefined, status);
  const { code, message, hint } = error;
  const place = isJsonObject(error['position']) ? error['position'] : undefined;
  return new ApiError(
    typeof code === 'string' ? code : `http_${status}`,
    typeof message === 'string' ? message : `the server answered with status ${status}`,
    typeof hint === 'string' ? hint : undefined,
    status,
    typeof place?.['start'] === 'number' && typeof place['end'] === 'number' ? { start: place['start'], end: place['end'] } : undefined,
  );
}

/** The error of an answer that is not as it should be; `what` names it: 'a deploy in the answer of /v1/deploys'. */
export function unreadable(what: string, why?: string): ApiError {
  return new ApiError('malformed_response', `${what} cannot be read${why === undefined ? '' : `: ${why}`}`, 'is another program listening on this port?');
}
