// The search box's language: words that must all occur, "quoted phrases", -words that must not.
//
// For: reading what was typed, once, for both the query and the highlighting. Not for: SQL (filters.ts).

export interface SearchTerm {
  readonly text: string;
  readonly isExcluded: boolean;
}

/** Bounds the size of the query that typed or pasted text can lead to. */
const TERMS_MAX = 20;

export function parseSearch(search: string): SearchTerm[] {
  const terms: SearchTerm[] = [];
  for (const match of search.matchAll(/(-?)(?:"([^"]*)"?|(\S+))/g)) {
    const text = match[2] ?? match[3] ?? '';
    if (text !== '') terms.push({ text, isExcluded: match[1] === '-' });
  }
  return terms.slice(0, TERMS_MAX);
}

export function highlightTerms(search: string): string[] {
  return parseSearch(search)
    .filter((term) => !term.isExcluded)
    .map((term) => term.text);
}
