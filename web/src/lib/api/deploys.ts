// Client of GET /v1/deploys: when services got another version.

import { ApiError, toApiError } from './errors';
import { request } from './http';
import { isJsonList, isJsonObject, parseJson, type Json } from './json';
import { parseErrorBody } from './sql';

export interface Deploy {
  readonly timeMs: number;
  readonly service: string | null;
  readonly version: string | null;
  readonly description: string | null;
  /** Who says so: an event, the list of deploys, or nobody, and then it is the first record of a version. */
  readonly origin: 'event' | 'file' | 'first_seen';
}

const TIMEOUT_MS = 30_000;

/** The newest deploys of a span of time; the server gives a thousand at most. */
export async function loadDeploys(fromMs: number, toMs: number, signal: AbortSignal): Promise<Deploy[]> {
  const params = new URLSearchParams({ from: new Date(fromMs).toISOString(), to: new Date(toMs).toISOString() });
  try {
    const response = await request(`/v1/deploys?${params.toString()}`, { signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]) });
    const body = parseJson(await response.text());
    if (!response.ok) throw parseErrorBody(body, response.status);
    return parseDeploys(body);
  } catch (failure) {
    signal.throwIfAborted();
    throw toApiError(failure);
  }
}

export function parseDeploys(body: unknown): Deploy[] {
  const deploys = isJsonObject(body) ? body['deploys'] : undefined;
  if (!isJsonList(deploys)) throw new ApiError('malformed_response', 'the answer of /v1/deploys cannot be read');
  return deploys.map(parseDeploy);
}

function parseDeploy(deploy: Json): Deploy {
  const fields = isJsonObject(deploy) ? deploy : {};
  const time = fields['time'];
  const timeMs = typeof time === 'string' ? Date.parse(time) : Number.NaN;
  const origin = fields['origin'];
  if (Number.isNaN(timeMs) || (origin !== 'event' && origin !== 'file' && origin !== 'first_seen')) {
    throw new ApiError('malformed_response', 'a deploy in the answer of /v1/deploys cannot be read');
  }
  const text = (name: string): string | null => {
    const value = fields[name];
    return typeof value === 'string' ? value : null;
  };
  return { timeMs, service: text('service'), version: text('service_version'), description: text('description'), origin };
}
