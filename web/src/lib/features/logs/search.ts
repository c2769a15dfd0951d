// The filter language of the search box, as far as the page must know it: the server reads it.
//
// For: highlighting what was searched for, and writing set filters in the language. Not for: checking a filter.

import type { Filter } from '../../state/location';

export const EXAMPLES: readonly (readonly [string, string])[] = [
  ['timeout "connection refused"', 'messages with both'],
  ['severity>=warn', 'warnings and worse'],
  ['status:5*', 'server errors'],
  ['duration>500ms', 'slow requests'],
  ['-path:/health', 'without health checks'],
  ['service:(web OR shop)', 'one of two services'],
  ['status:[500 TO 599]', 'a range'],
  ['_exists_:user_id', 'with a user'],
];

const KEYWORDS: readonly string[] = ['AND', 'OR', 'NOT', 'TO'];
const TERMS_MAX = 20;

/** Words and phrases that messages are searched for. */
export function highlightTerms(search: string): string[] {
  const terms: string[] = [];
  let isNegated = false;
  for (const match of search.matchAll(/(-?)([\w@.][\w@./-]*(?::|[<>]=?|!?=))?(?:\[[^\]}]*[\]}]|"((?:[^"\\]|\\.)*)"?|([^\s()"]+))/g)) {
    const [, minus, field, phrase, word] = match;
    const text = phrase?.replace(/\\(.)/g, '$1') ?? word ?? '';
    const isKeyword = phrase === undefined && KEYWORDS.includes(text);
    if (!isKeyword && field === undefined && minus === '' && !isNegated) terms.push(...text.split('*'));
    isNegated = isKeyword && text === 'NOT';
  }
  return terms.filter((term) => term !== '').slice(0, TERMS_MAX);
}

/** Search text and set filters as one filter: the values of a field are alternatives, excluded values all go. */
export function filterText(search: string, filters: readonly Filter[]): string {
  const parts = search.trim() === '' ? [] : [`(${search})`];
  for (const field of new Set(filters.map((filter) => filter.field))) {
    const ofField = filters.filter((filter) => filter.field === field);
    const included = ofField.filter((filter) => !filter.isExcluded).map(term);
    if (included.length > 0) parts.push(`(${included.join(' OR ')})`);
    parts.push(...ofField.filter((filter) => filter.isExcluded).map((filter) => `NOT ${term(filter)}`));
  }
  return parts.join(' ');
}

function term(filter: Filter): string {
  return filter.value === null ? `(NOT _exists_:${quoted(filter.field)})` : `${quoted(filter.field)}:${quoted(filter.value)}`;
}

/** One value of a field, as the language writes it. */
export function fieldTerm(field: string, value: string): string {
  return `${/^[A-Za-z_@][\w.@/-]*$/.test(field) ? field : quoted(field)}:${/^[\w./@]+$/.test(value) && !KEYWORDS.includes(value) ? value : quoted(value)}`;
}

function quoted(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}
