// Queries to start from. Each names a time, as BigQuery's tables demand it.

export interface Example {
  readonly title: string;
  readonly sql: string;
}

export const EXAMPLES: readonly Example[] = [
  {
    title: 'Newest errors',
    sql: `SELECT event_time, service, message
FROM logs
WHERE severity_class = 'error'
  AND event_time >= now() - INTERVAL '1 day'
ORDER BY event_time DESC
LIMIT 100`,
  },
  {
    title: 'Slowest routes',
    sql: `SELECT http_route, sum("count") AS requests,
  sketch_quantile(sketch_merge(latency), 0.99) / 1000 AS p99_ms
FROM rollup_requests_1m
WHERE http_route IS NOT NULL
  AND window_start >= now() - INTERVAL '1 day'
GROUP BY http_route
ORDER BY p99_ms DESC NULLS LAST
LIMIT 20`,
  },
  {
    title: 'Most active users',
    sql: `SELECT user_id, count(*) AS events, approx_distinct(session_id) AS sessions
FROM activity
WHERE user_id IS NOT NULL
  AND event_time >= now() - INTERVAL '1 day'
GROUP BY user_id
ORDER BY events DESC
LIMIT 50`,
  },
  {
    title: 'Ledger by source',
    sql: `SELECT source, sum(received) AS received, sum(stored) AS stored, sum(duplicate) AS duplicate,
  sum(filtered) AS filtered, sum(dead_lettered) AS dead_lettered,
  sum(rejected) AS rejected, sum(in_flight) AS in_flight
FROM sawlog_ledger
GROUP BY source
ORDER BY received DESC`,
  },
  {
    title: 'Metric names',
    sql: `SELECT metric_name, metric_type, unit, count(*) AS points
FROM metrics
WHERE event_time >= now() - INTERVAL '1 day'
GROUP BY metric_name, metric_type, unit
ORDER BY points DESC`,
  },
];
