// Types and guards for parsed JSON.

export type Json = string | number | boolean | null | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

/** Anything `JSON.parse` returned is `Json` by construction; `unknown` values are looked at before use. */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function isJsonList(value: unknown): value is readonly Json[] {
  return Array.isArray(value);
}

/** Parses text that may not be JSON; `undefined` means it is not. */
export function parseJson(text: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isJson(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The text of a field; null where it is missing or something else. */
export function textIn(object: JsonObject, name: string): string | null {
  const value = object[name];
  return typeof value === 'string' ? value : null;
}

/** The number of a field; null where it is missing or something else. */
export function numberIn(object: JsonObject, name: string): number | null {
  const value = object[name];
  return typeof value === 'number' ? value : null;
}

/** Milliseconds since the epoch of an RFC 3339 field; null where it is missing or no time. */
export function timeIn(object: JsonObject, name: string): number | null {
  const timeMs = Date.parse(textIn(object, name) ?? '');
  return Number.isNaN(timeMs) ? null : timeMs;
}

function isJson(value: unknown): value is Json {
  return value === null || ['string', 'number', 'boolean', 'object'].includes(typeof value);
}
