// Safe pieces of SQL text (DataFusion's dialect).
//
// For: putting values that users typed or that logs contain into a query. Not for: whole queries (features/*/queries.ts).
// Invariant: what comes out of a function here is one literal, whatever went in.

/** A string literal. DataFusion knows no backslash escapes, so only the quote is doubled. */
export function sqlText(value: string): string {
  // U+0000 cannot be part of a value we could match.
  return `'${value.replaceAll('\0', '').replaceAll("'", "''")}'`;
}

/** A pattern for LIKE or ILIKE that matches texts which contain `value` literally. */
export function sqlContains(value: string): string {
  return sqlText(`%${value.replace(/[\\%_]/g, (special) => `\\${special}`)}%`);
}

export function sqlTime(timeMs: number): string {
  return `TIMESTAMP ${sqlText(new Date(timeMs).toISOString())}`;
}

/** A time as the server sent it, which may be finer than a millisecond. */
export function sqlTimeText(rfc3339: string): string {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/.test(rfc3339)) throw new RangeError(`not a UTC time: ${rfc3339}`);
  return `TIMESTAMP ${sqlText(rfc3339)}`;
}

export function sqlDate(timeMs: number): string {
  return `DATE ${sqlText(new Date(timeMs).toISOString().slice(0, 10))}`;
}

export function sqlInterval(seconds: number): string {
  return `INTERVAL '${sqlInteger(seconds)} seconds'`;
}

export function sqlInteger(value: number): string {
  if (!Number.isSafeInteger(value)) throw new RangeError(`not an integer: ${value}`);
  return String(value);
}

export function sqlList(values: readonly string[]): string {
  return `(${values.map(sqlText).join(', ')})`;
}

/** Joins conditions with AND; no condition at all is TRUE. */
export function sqlAll(conditions: readonly string[]): string {
  const present = conditions.filter((condition) => condition !== '');
  return present.length === 0 ? 'TRUE' : present.join(' AND ');
}
