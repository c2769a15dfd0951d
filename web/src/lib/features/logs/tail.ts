// Client of GET /v1/tail: logs as they arrive.
//
// For: reading the stream line by line until it is aborted. (EventSource cannot send a key.) Not for: what is shown.

import { parseErrorBody } from '../../api/answer';
import { ApiError } from '../../api/errors';
import { request } from '../../api/http';
import { isJsonObject, parseJson, type JsonObject } from '../../api/json';

/** A line longer than this is no row. */
const LINE_CHARS_MAX = 64 << 20;

export interface TailRows {
  readonly rows: readonly JsonObject[];
  readonly skipped: number;
}

/** Hands over what arrived, in the order of arrival, until `signal` aborts or the server ends the stream. */
export async function readTail(filter: string, signal: AbortSignal, onRows: (rows: TailRows) => void): Promise<void> {
  const params = new URLSearchParams({ filter });
  const response = await request(`/v1/tail?${params.toString()}`, { signal, headers: { accept: 'application/x-ndjson' } });
  if (!response.ok || response.body === null) throw parseErrorBody(parseJson(await response.text()), response.status);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (waiting + value).split('\n');
    waiting = lines.pop() ?? '';
    if (waiting.length > LINE_CHARS_MAX) throw new ApiError('malformed_response', 'a row of /v1/tail is too long');
    const arrived = parseLines(lines);
    if (arrived.rows.length > 0 || arrived.skipped > 0) onRows(arrived);
  }
}

export function parseLines(lines: readonly string[]): TailRows {
  const objects = lines.filter((line) => line !== '').map(parseJson).filter(isJsonObject);
  const isRow = (object: JsonObject): boolean => object['_skipped'] === undefined;
  const skipped = objects.reduce((sum, object) => sum + (typeof object['_skipped'] === 'number' ? object['_skipped'] : 0), 0);
  return { rows: objects.filter(isRow), skipped };
}
