// Query results as CSV (RFC 4180).

import type { Json } from '../../api/json';
import type { SqlResult } from '../../api/sql';

export function toCsv(result: SqlResult): string {
  const lines = [result.columns.map((column) => column.name), ...result.rows].map((cells) => cells.map(csvCell).join(','));
  return `${lines.join('\r\n')}\r\n`;
}

function csvCell(cell: Json): string {
  if (cell === null) return '';
  if (typeof cell === 'number' || typeof cell === 'boolean') return String(cell);
  const text = typeof cell === 'string' ? defuse(cell) : JSON.stringify(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Spreadsheets run cells that look like formulas, and log text comes from strangers: an apostrophe makes it text. */
function defuse(text: string): string {
  return /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
}
