// GET requests that are answered with JSON.
//
// For: one way to ask and to fail. Not for: SQL (sql.ts), or what an answer means.

import { ApiError, toApiError } from './errors';
import { request } from './http';
import { parseJson, type Json } from './json';
import { parseErrorBody } from './sql';

const TIMEOUT_MS = 30_000;

/** The answer, still to be looked at; every failure is an `ApiError`, an abort the reason of `signal`. */
export async function getJson(path: string, params: URLSearchParams, signal: AbortSignal): Promise<Json | undefined> {
  const query = params.size === 0 ? '' : `?${params.toString()}`;
  try {
    const response = await request(path + query, { signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]) });
    const body = parseJson(await response.text());
    if (!response.ok) throw parseErrorBody(body, response.status);
    return body;
  } catch (failure) {
    signal.throwIfAborted();
    throw toApiError(failure);
  }
}

/** The error of an answer that is not as it should be; `what` names it: 'a deploy in the answer of /v1/deploys'. */
export function unreadable(what: string): ApiError {
  return new ApiError('malformed_response', `${what} cannot be read`, 'is another program listening on this port?');
}
