// Requests to the server, with the API key where one was entered.
//
// For: every request that a key may be needed for. Not for: reading answers. The key lives as long as the tab.

const KEY_ITEM = 'sawlog.api-key';
/** Sent to the window when the server asks for a key, or for another one. */
export const KEY_NEEDED_EVENT = 'sawlog-key-needed';

let keyInMemory = '';

export function readApiKey(): string {
  try {
    return window.sessionStorage.getItem(KEY_ITEM) ?? keyInMemory;
  } catch {
    return keyInMemory;
  }
}

/** Keeps a key for this tab; an empty one forgets it. Where storage is forbidden it lasts as long as the page. */
export function saveApiKey(key: string): void {
  keyInMemory = key;
  try {
    if (key === '') window.sessionStorage.removeItem(KEY_ITEM);
    else window.sessionStorage.setItem(KEY_ITEM, key);
  } catch {
    return;
  }
}

export async function request(path: string, init: RequestInit & { readonly signal: AbortSignal }): Promise<Response> {
  const headers = new Headers(init.headers);
  const key = readApiKey();
  if (key !== '') headers.set('authorization', `Bearer ${key}`);
  const response = await fetch(path, { ...init, headers });
  if (response.status === 401 || response.status === 403) window.dispatchEvent(new Event(KEY_NEEDED_EVENT));
  return response;
}
