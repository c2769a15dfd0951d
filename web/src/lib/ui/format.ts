// Numbers and times as people read them.

export type TimeZoneName = 'local' | 'utc';

/** Stands where there is no value. */
export const MISSING = '–';
const SI_STEPS = [
  { from: 1e12, suffix: 'T' },
  { from: 1e9, suffix: 'G' },
  { from: 1e6, suffix: 'M' },
  { from: 1e3, suffix: 'k' },
] as const;

/** 950, 12.3k, 4.56M: three significant digits from ten thousand on. */
export function formatShort(value: number | null): string {
  if (value === null) return MISSING;
  const size = Math.abs(value);
  if (size >= 10_000) {
    const step = SI_STEPS.find(({ from }) => size >= from);
    if (step !== undefined) return `${trim((value / step.from).toPrecision(3))}${step.suffix}`;
  }
  if (size >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString('en-GB');
  return trim(value.toPrecision(size >= 10 ? 3 : 2));
}

/** All digits, grouped. */
export function formatCount(value: number | null): string {
  return value === null ? MISSING : value.toLocaleString('en-GB', { maximumFractionDigits: 0 });
}

export function formatPercent(ratio: number | null): string {
  if (ratio === null) return MISSING;
  const percent = ratio * 100;
  if (percent === 0 || percent >= 99.95) return `${Math.round(percent)} %`;
  return `${percent < 0.01 ? '<0.01' : percent.toFixed(percent < 1 ? 2 : 1)} %`;
}

export function formatMicros(micros: number | null): string {
  if (micros === null) return MISSING;
  if (micros === 0) return '0';
  if (micros < 1000) return `${trim(micros.toPrecision(3))} µs`;
  if (micros < 1e6) return `${trim((micros / 1e3).toPrecision(3))} ms`;
  if (micros < 120e6) return `${trim((micros / 1e6).toPrecision(3))} s`;
  return `${trim((micros / 60e6).toPrecision(3))} min`;
}

export function formatSpan(seconds: number): string {
  if (seconds % 86400 === 0) return `${seconds / 86400} d`;
  if (seconds % 3600 === 0) return `${seconds / 3600} h`;
  if (seconds % 60 === 0) return `${seconds / 60} min`;
  return `${seconds} s`;
}

/** 45 s, 12 min, 3.5 h, 2.1 d: how long something lasted. */
export function formatDuration(micros: number | null): string {
  if (micros === null) return MISSING;
  if (micros < 120e6) return formatMicros(micros);
  const steps = [{ below: 7200, size: 60, unit: 'min' }, { below: 172_800, size: 3600, unit: 'h' }] as const;
  const step = steps.find(({ below }) => micros / 1e6 < below) ?? { size: 86_400, unit: 'd' };
  const count = micros / 1e6 / step.size;
  return `${count >= 10 ? Math.round(count) : trim(count.toPrecision(2))} ${step.unit}`;
}

/** 14:03:09 of today, 2026-11-24 14:03:09 of another day. */
export function formatMoment(timeMs: number, zone: TimeZoneName): string {
  return isSameDay(timeMs, Date.now(), zone) ? formatClockSeconds(timeMs, zone) : formatSeconds(timeMs, zone);
}

/** 14:03:09 */
export function formatClockSeconds(timeMs: number, zone: TimeZoneName): string {
  return formatClock(timeMs, zone).slice(0, 8);
}

/** 14:03:09.123 */
export function formatClock(timeMs: number, zone: TimeZoneName): string {
  return isoLike(timeMs, zone).slice(11, 23);
}

/** 2026-11-24 14:03:09.123 */
export function formatTime(timeMs: number, zone: TimeZoneName): string {
  return isoLike(timeMs, zone).replace('T', ' ');
}

/** 2026-11-24 14:03:09 */
export function formatSeconds(timeMs: number, zone: TimeZoneName): string {
  return formatTime(timeMs, zone).slice(0, 19);
}

/** Whether two times fall on the same day. */
export function isSameDay(oneMs: number, otherMs: number, zone: TimeZoneName): boolean {
  return isoLike(oneMs, zone).slice(0, 10) === isoLike(otherMs, zone).slice(0, 10);
}

/** The value of an `<input type="datetime-local">`. */
export function toInputTime(timeMs: number, zone: TimeZoneName): string {
  return isoLike(timeMs, zone).slice(0, 19);
}

export function fromInputTime(text: string, zone: TimeZoneName): number | undefined {
  const timeMs = Date.parse(zone === 'utc' ? `${text}Z` : text);
  return Number.isNaN(timeMs) ? undefined : timeMs;
}

function isoLike(timeMs: number, zone: TimeZoneName): string {
  const offsetMs = zone === 'utc' ? 0 : new Date(timeMs).getTimezoneOffset() * 60_000;
  return new Date(timeMs - offsetMs).toISOString().slice(0, 23);
}

function trim(digits: string): string {
  const plain = digits.includes('e') ? String(Number(digits)) : digits;
  return plain.includes('.') ? plain.replace(/\.?0+$/, '') : plain;
}
