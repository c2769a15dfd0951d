// Finds search terms in a text, ignoring case.

export interface TextPart {
  readonly text: string;
  readonly isHit: boolean;
}

/** Parts in order; joined they are the text again. */
export function splitByTerms(text: string, terms: readonly string[]): TextPart[] {
  const patterns = terms.filter((term) => term !== '').map((term) => term.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  if (patterns.length === 0) return [{ text, isHit: false }];
  // Longest first, so that "timeout" is not marked as "time" and "out".
  patterns.sort((one, other) => other.length - one.length);
  return text
    .split(new RegExp(`(${patterns.join('|')})`, 'giu'))
    .map((part, index) => ({ text: part, isHit: index % 2 === 1 }))
    .filter((part) => part.text !== '');
}
