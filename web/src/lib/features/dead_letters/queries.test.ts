import { expect, test } from 'vitest';

import { decodeHex } from './queries';

test('payloads are shown as text, with a mark where they are not', () => {
  expect(decodeHex('7b22c3a9227d')).toBe('{"é"}');
  expect(decodeHex('61ff62')).toBe('a\ufffdb');
  expect(decodeHex('')).toBe('');
});
