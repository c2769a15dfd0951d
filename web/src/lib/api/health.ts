// Asks the server how it is.

export type Health =
  | { readonly state: 'unknown' }
  | { readonly state: 'ready' }
  | { readonly state: 'not_ready'; readonly reason: string }
  | { readonly state: 'unreachable' };

const HEALTH_TIMEOUT_MS = 5_000;
const REASON_CHARS_MAX = 200;

export async function fetchHealth(signal: AbortSignal): Promise<Health> {
  try {
    const response = await fetch('/readyz', { signal: AbortSignal.any([signal, AbortSignal.timeout(HEALTH_TIMEOUT_MS)]) });
    if (response.ok) return { state: 'ready' };
    const reason = (await response.text()).slice(0, REASON_CHARS_MAX).trim();
    return { state: 'not_ready', reason: reason === '' ? `status ${response.status}` : reason };
  } catch {
    return { state: 'unreachable' };
  }
}
