// Typed reading of result rows.
//
// For: turning cells into the types a feature works with, with an error that names the column. Not for: layout.

import { ApiError } from './errors';
import { isJsonList, isJsonObject, type Json, type JsonObject } from './json';
import type { SqlResult } from './sql';

export class Row {
  readonly #cells: readonly Json[];
  readonly #indexOf: ReadonlyMap<string, number>;

  constructor(cells: readonly Json[], indexOf: ReadonlyMap<string, number>) {
    this.#cells = cells;
    this.#indexOf = indexOf;
  }

  json(column: string): Json {
    const index = this.#indexOf.get(column);
    const cell = index === undefined ? undefined : this.#cells[index];
    if (cell === undefined) throw new ApiError('malformed_response', `the result has no column ${column}`);
    return cell;
  }

  text(column: string): string | null {
    const cell = this.json(column);
    if (cell === null || typeof cell === 'string') return cell;
    return typeof cell === 'object' ? JSON.stringify(cell) : String(cell);
  }

  textOr(column: string, fallback: string): string {
    return this.text(column) ?? fallback;
  }

  /** A number, or null where the database says null: a missing value is never 0. */
  number(column: string): number | null {
    const cell = this.json(column);
    if (cell === null) return null;
    const value = typeof cell === 'string' ? Number.parseFloat(cell) : cell;
    if (typeof value !== 'number') throw new ApiError('malformed_response', `column ${column} holds no number`);
    return Number.isFinite(value) ? value : null;
  }

  /** A count or a sum of counts, for which null means that nothing was counted. */
  count(column: string): number {
    return this.number(column) ?? 0;
  }

  /** Milliseconds since the epoch of an RFC 3339 cell. */
  timeMs(column: string): number | null {
    const cell = this.text(column);
    return cell === null ? null : parseTimeMs(cell, column);
  }

  /** Null counts as false. */
  flag(column: string): boolean {
    const cell = this.json(column);
    if (cell !== null && typeof cell !== 'boolean') throw new ApiError('malformed_response', `column ${column} holds neither true nor false`);
    return cell ?? false;
  }

  list(column: string): readonly Json[] {
    const cell = this.json(column);
    return isJsonList(cell) ? cell : [];
  }

  object(column: string): JsonObject {
    const cell = this.json(column);
    return isJsonObject(cell) ? cell : {};
  }
}

export function rowsOf(result: SqlResult): Row[] {
  const indexOf = new Map(result.columns.map((column, index) => [column.name, index]));
  return result.rows.map((cells) => new Row(cells, indexOf));
}

function parseTimeMs(text: string, column: string): number {
  // Times without a zone are UTC: the server keeps no local times.
  const timeMs = Date.parse(/[zZ]|[+-]\d\d:\d\d$/.test(text) ? text : `${text}Z`);
  if (Number.isNaN(timeMs)) throw new ApiError('malformed_response', `column ${column} holds no time`);
  return timeMs;
}
