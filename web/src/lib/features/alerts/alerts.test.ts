import { describe, expect, test } from 'vitest';

import { parseAlerts, type Alert } from '../../api/alerts';
import { alertEventsSql, groupText, inOrder } from './events';

const BODY = {
  rules: ['errors', 'slow'],
  alerts: [
    { rule: 'slow', group: { host: null, service: 'shop' }, state: 'pending', fired_at: null },
    { rule: 'slow', group: {}, state: 'firing', fired_at: '1970-01-01T00:01:00.000000Z' },
    { rule: 'errors', group: { service: 'cart' }, state: 'firing', fired_at: '1970-01-01T00:02:00Z' },
  ],
};
const first = (): Alert => {
  const [alert] = parseAlerts(BODY).alerts;
  if (alert === undefined) throw new Error('no alert');
  return alert;
};

describe('alerts', () => {
  test('firing groups come first, each with its time', () => {
    const { rules, alerts } = parseAlerts(BODY);
    expect(rules).toEqual(['errors', 'slow']);
    expect(inOrder(alerts).map((alert) => [alert.state, alert.rule, groupText(alert), alert.firedAtMs])).toEqual([
      ['firing', 'errors', 'service=cart', 120_000],
      ['firing', 'slow', '', 60_000],
      ['pending', 'slow', 'service=shop', null],
    ]);
  });
  test.each([[{}], [{ rules: [], alerts: 1 }], [{ alerts: [] }], [{ rules: [], alerts: [{ rule: 'a', group: {}, state: 'asleep' }] }], [{ rules: [], alerts: [{ rule: 'a', state: 'firing' }] }]])(
    'what is no answer is an error: %j',
    (body) => expect(() => parseAlerts(body)).toThrow('cannot be read'),
  );
  test('events are those of the rule and every dimension of the group', () => {
    const sql = alertEventsSql({ ...first(), rule: "it's" }, Date.UTC(2026, 10, 24));
    expect(sql).toContain("rule = 'it''s' AND dimensions['host'] IS NULL AND dimensions['service'] = 'shop'");
    expect(sql).toContain("event_date >= DATE '2026-11-17'");
    expect(alertEventsSql(undefined, 0)).not.toContain('rule =');
  });
});
