// Queries of the dead letters page, and their rows.

import { rowsOf, type Row } from '../../api/rows';
import { runSql } from '../../api/sql';
import { sqlAll, sqlDate, sqlTime } from '../../api/sql_text';
import type { TimeWindow } from '../../state/time_range';

const DEAD_LETTERS_MAX = 200;
const REASONS_MAX = 50;

/** Payloads travel as hex, which is safe for any bytes; this many of their bytes are shown. */
const PAYLOAD_BYTES_MAX = 4_096;

export interface DeadLetter {
  readonly key: string;
  readonly receiveTimeMs: number;
  readonly source: string;
  readonly stage: string;
  readonly reason: string;
  readonly field: string | null;
  readonly error: string;
  readonly remedy: string | null;
  readonly payload: string;
  readonly isCut: boolean;
}
export interface ReasonCount {
  readonly reason: string;
  readonly stage: string;
  readonly count: number;
}
export interface DeadLetters {
  readonly reasons: readonly ReasonCount[];
  readonly letters: readonly DeadLetter[];
}

/** Dead letters have no event time; their partition is the date of receipt. */
function receiveCondition(window: TimeWindow): string {
  if (!window.isBounded) return '';
  const { fromMs, untilMs } = window;
  return sqlAll([
    `event_date >= ${sqlDate(fromMs)}`,
    `event_date <= ${sqlDate(untilMs)}`,
    `receive_time >= ${sqlTime(fromMs)}`,
    `receive_time < ${sqlTime(untilMs)}`,
  ]);
}

export function reasonsSql(window: TimeWindow): string {
  return `SELECT reason, stage, count(*) AS n FROM dead_letters WHERE ${sqlAll([receiveCondition(window)])}
GROUP BY reason, stage ORDER BY n DESC LIMIT ${REASONS_MAX}`;
}

export function deadLettersSql(window: TimeWindow): string {
  return `SELECT receive_time, source, stage, reason, field, error, remedy, left(encode(payload, 'hex'), ${PAYLOAD_BYTES_MAX * 2}) AS payload_hex,
  octet_length(encode(payload, 'hex')) / 2 AS payload_bytes, batch_id, record_index
FROM dead_letters WHERE ${sqlAll([receiveCondition(window)])}
ORDER BY receive_time DESC LIMIT ${DEAD_LETTERS_MAX}`;
}

export async function loadDeadLetters(window: TimeWindow, signal: AbortSignal): Promise<DeadLetters> {
  const reasons = rowsOf(await runSql(reasonsSql(window), signal));
  const letters = rowsOf(await runSql(deadLettersSql(window), signal));
  return {
    reasons: reasons.map((row) => ({ reason: row.textOr('reason', ''), stage: row.textOr('stage', ''), count: row.count('n') })),
    letters: letters.map(readLetter),
  };
}

function readLetter(row: Row): DeadLetter {
  return {
    key: `${row.textOr('batch_id', '')}/${row.textOr('record_index', '')}/${row.textOr('reason', '')}/${row.textOr('field', '')}`,
    receiveTimeMs: row.timeMs('receive_time') ?? 0,
    source: row.textOr('source', ''),
    stage: row.textOr('stage', ''),
    reason: row.textOr('reason', ''),
    field: row.text('field'),
    error: row.textOr('error', ''),
    remedy: row.text('remedy'),
    payload: decodeHex(row.textOr('payload_hex', '')),
    isCut: row.count('payload_bytes') > PAYLOAD_BYTES_MAX,
  };
}

/** Bytes as UTF-8 text; what is not UTF-8 becomes U+FFFD. */
export function decodeHex(hex: string): string {
  const bytes = Uint8Array.from(hex.match(/[0-9a-f]{2}/gi) ?? [], (pair) => Number.parseInt(pair, 16));
  return new TextDecoder().decode(bytes);
}
