// Client of GET /v1/fields: the fields that recent rows have, and whether a filter can be read.

import { getJson, spanParams, unreadable } from './answer';
import { isJsonList, isJsonObject, type Json } from './json';

export interface FieldInfo {
  /** Name in a filter. */
  readonly name: string;
  readonly isAttribute: boolean;
  readonly types: readonly string[];
  readonly rows: number;
  readonly values: readonly { readonly value: string; readonly rows: number }[];
}

/** Fields of the rows that pass a filter, in a span of time; null is no bound. */
export async function loadFields(filter: string, fromMs: number | null, toMs: number | null, signal: AbortSignal): Promise<FieldInfo[]> {
  const params = spanParams(fromMs, toMs);
  params.set('filter', filter);
  return parseFields(await getJson('/v1/fields', params, signal));
}

/** Fields that any row has, attributes last. */
export function parseFields(body: unknown): FieldInfo[] {
  const fields = isJsonObject(body) ? body['fields'] : undefined;
  if (!isJsonList(fields)) throw unreadable('the answer of /v1/fields');
  return fields.flatMap((field) => parseField(field)).filter((field) => field.rows > 0);
}

function parseField(field: Json): FieldInfo[] {
  if (!isJsonObject(field) || typeof field['name'] !== 'string') return [];
  const types = isJsonList(field['types']) ? field['types'].filter((type) => typeof type === 'string') : [];
  const values = isJsonList(field['values']) ? field['values'] : [];
  return [
    {
      name: field['name'],
      isAttribute: field['kind'] === 'attribute',
      types,
      rows: typeof field['rows'] === 'number' ? field['rows'] : 0,
      values: values.flatMap((item) =>
        isJsonObject(item) && typeof item['value'] === 'string' && typeof item['rows'] === 'number' ? [{ value: item['value'], rows: item['rows'] }] : [],
      ),
    },
  ];
}
