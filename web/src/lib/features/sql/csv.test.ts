import { expect, test } from 'vitest';

import type { Json } from '../../api/json';
import { toCsv } from './csv';

function check(cells: readonly Json[], line: string): void {
  const columns = cells.map((_, index) => ({ name: `c${index}`, type: '' }));
  expect(toCsv({ columns, rows: [cells], isTruncated: false, elapsedMs: undefined }).split('\r\n')[1]).toBe(line);
}

test('plain cells', () => check(['a', 1, true, null], 'a,1,true,'));
test('quotes and separators', () => check(['say "hi"', 'a,b'], '"say ""hi""","a,b"'));
test('maps become JSON', () => check([{ k: 'v' }], '"{""k"":""v""}"'));
test('what a spreadsheet would run becomes text, negative numbers stay numbers', () => check(['=1+1', '@x', -5], "'=1+1,'@x,-5"));
