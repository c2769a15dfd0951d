import { describe, expect, test } from 'vitest';

import { parseDeploys } from '../../api/deploys';
import { marksOf } from './deploys';

const BODY = {
  deploys: [
    { time: '1970-01-01T00:02:00.000000Z', service: 'shop', service_version: '1.2', description: 'faster', origin: 'file' },
    { time: '1970-01-01T00:01:00.000000Z', service: 'cart', service_version: '9', description: null, origin: 'first_seen' },
    { time: '1970-01-01T00:00:30.500000Z', service: null, service_version: null, description: null, origin: 'event' },
  ],
  truncated: false,
};

describe('deploys', () => {
  test('each is a mark that says what, and how one knows', () => {
    expect(marksOf(parseDeploys(BODY), [])).toEqual([
      { seconds: 120, label: 'shop 1.2 deployed: faster' },
      { seconds: 60, label: 'cart 9 first seen' },
      { seconds: 30.5, label: 'a service deployed' },
    ]);
  });
  test('only those of the services that are shown', () => {
    const labels = (value: string, isExcluded: boolean): string[] =>
      marksOf(parseDeploys(BODY), [{ field: 'service', value, isExcluded }]).map((mark) => mark.label);
    expect(labels('cart', false)).toEqual(['cart 9 first seen']);
    expect(labels('cart', true)).toEqual(['shop 1.2 deployed: faster', 'a service deployed']);
  });
  test.each([[{}], [{ deploys: [{ time: 'soon', origin: 'file' }] }], [{ deploys: [{ time: '1970-01-01T00:00:00Z', origin: 'rumour' }] }], [{ deploys: [7] }]])(
    'what is no answer is an error: %j',
    (body) => expect(() => parseDeploys(body)).toThrow('cannot be read'),
  );
});
