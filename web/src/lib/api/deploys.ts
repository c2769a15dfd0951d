// Client of GET /v1/deploys: when services got another version.

import { getJson, spanParams, unreadable } from './answer';
import { isJsonList, isJsonObject, textIn, timeIn, type Json } from './json';

export interface Deploy {
  readonly timeMs: number;
  readonly service: string | null;
  readonly version: string | null;
  readonly description: string | null;
  /** Who says so: an event, the list of deploys, or nobody, and then it is the first record of a version. */
  readonly origin: 'event' | 'file' | 'first_seen';
}

/** The newest deploys of a span of time; the server gives a thousand at most. */
export async function loadDeploys(fromMs: number, toMs: number, signal: AbortSignal): Promise<Deploy[]> {
  return parseDeploys(await getJson('/v1/deploys', spanParams(fromMs, toMs), signal));
}

export function parseDeploys(body: unknown): Deploy[] {
  const deploys = isJsonObject(body) ? body['deploys'] : undefined;
  if (!isJsonList(deploys)) throw unreadable('the answer of /v1/deploys');
  return deploys.map(parseDeploy);
}

function parseDeploy(deploy: Json): Deploy {
  const fields = isJsonObject(deploy) ? deploy : {};
  const timeMs = timeIn(fields, 'time');
  const origin = fields['origin'];
  if (timeMs === null || (origin !== 'event' && origin !== 'file' && origin !== 'first_seen')) {
    throw unreadable('a deploy in the answer of /v1/deploys');
  }
  return { timeMs, service: textIn(fields, 'service'), version: textIn(fields, 'service_version'), description: textIn(fields, 'description'), origin };
}
