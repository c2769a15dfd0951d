// Client of POST /v1/sql.
//
// For: running one query and handing on a validated result. Not for: building SQL text (sql_text.ts) or polling
// (state/live_query.svelte.ts). Invariant: a `SqlResult` has rectangular rows; everything else became an `ApiError`.

import { postJson, unreadable } from './answer';
import type { ApiError } from './errors';
import { Gate } from './gate';
import { isJsonList, isJsonObject, type Json } from './json';

export interface SqlColumn {
  readonly name: string;
  readonly type: string;
}

export interface SqlResult {
  readonly columns: readonly SqlColumn[];
  readonly rows: readonly (readonly Json[])[];
  readonly isTruncated: boolean;
  readonly elapsedMs: number | undefined;
}

/** After this long a panel is better served by an explanation than by waiting on. */
const QUERY_TIMEOUT_MS = 60_000;

/** Browsers allow six connections to a host over HTTP/1.1; two stay free for health checks and typed queries. */
const QUERIES_IN_FLIGHT_MAX = 4;

const gate = new Gate(QUERIES_IN_FLIGHT_MAX);

export async function runSql(query: string, signal: AbortSignal): Promise<SqlResult> {
  const release = await gate.enter(signal);
  try {
    return parseSqlResult(await postJson('/v1/sql', { query }, QUERY_TIMEOUT_MS, signal));
  } finally {
    release();
  }
}

export function parseSqlResult(body: unknown): SqlResult {
  if (!isJsonObject(body)) throw malformed('it is not a JSON object');
  const { columns, rows } = body;
  if (!isJsonList(columns)) throw malformed('"columns" is not a list');
  if (!isJsonList(rows)) throw malformed('"rows" is not a list');
  const parsedColumns = columns.map(parseColumn);
  const parsedRows = rows.map((row, index) => {
    if (!isJsonList(row) || row.length !== parsedColumns.length) {
      throw malformed(`row ${index} does not have ${parsedColumns.length} cells`);
    }
    return row;
  });
  return {
    columns: parsedColumns,
    rows: parsedRows,
    isTruncated: body['truncated'] === true,
    elapsedMs: typeof body['elapsed_ms'] === 'number' ? body['elapsed_ms'] : undefined,
  };
}

function parseColumn(column: Json): SqlColumn {
  if (!isJsonObject(column) || typeof column['name'] !== 'string') throw malformed('a column has no name');
  return { name: column['name'], type: typeof column['type'] === 'string' ? column['type'] : '' };
}

function malformed(what: string): ApiError {
  return unreadable('the answer of /v1/sql', what);
}
