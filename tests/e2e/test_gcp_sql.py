"""What is shipped in SQL, in BigQuery: translated by sqlglot, and with the same answers as the worker gives."""

import json
import re
import time
from pathlib import Path

import pytest
import sqlglot
from sqlglot import expressions

from conftest import ROOT, Server, sawlog, wait_for
from test_gcp import SMALL, Cloud, as_text, cloud

__all__ = ["cloud"]

# Functions on Sawlog's own sketches, which BigQuery does not have; docs/gcp/bigquery.md names what to read there.
EMBEDDED_ONLY = {"Slowest routes"}
# Tables that no query has to name a time for.
SMALL_TABLES = {"sawlog_ledger", "sawlog_reconciled"}


def examples() -> dict[str, str]:
    """The queries of the page, by title."""
    text = (ROOT / "web/src/lib/features/sql/examples.ts").read_text()
    found = dict(re.findall(r"title: '([^']+)',\s+sql: `([^`]+)`", text))
    assert len(found) == text.count("title:") - 1 > 3, "one is the type's"
    return found


def translated(sql: str) -> str:
    tree = sqlglot.parse_one(sql, read="postgres", error_level=sqlglot.ErrorLevel.RAISE)
    for function in tree.find_all(expressions.Anonymous):
        raise AssertionError(f"{function.name} is no function of BigQuery: {sql}")
    return tree.sql("bigquery", unsupported_level=sqlglot.ErrorLevel.RAISE)


def test_every_statement_of_a_dataset_is_of_bigquerys_grammar(cloud: Cloud):
    done = sawlog("gcp", "plan", "--config", str(cloud.config(cloud.pubsub.subscription)))
    assert done.returncode == 0, done.stderr
    statements = re.findall(r"^-- (.+)\n((?:.|\n)+?);$", done.stdout.decode(), re.MULTILINE)
    assert len(statements) > 50
    for makes, sql in statements:
        tree = sqlglot.parse_one(sql, read="bigquery", error_level=sqlglot.ErrorLevel.RAISE)
        assert not isinstance(tree, expressions.Command), f"{makes} is not understood: {sql}"


@pytest.mark.parametrize("title", sorted(set(examples()) - EMBEDDED_ONLY))
def test_queries_of_the_page_name_a_time_in_bigquery(title: str):
    tree = sqlglot.parse_one(translated(examples()[title]), read="bigquery")
    tables = {table.name for table in tree.find_all(expressions.Table)}
    where = tree.find(expressions.Where)
    named = {column.name for column in where.find_all(expressions.Column)} if where else set()
    assert tables <= SMALL_TABLES or named & {"event_time", "window_start"}, f"{title}: BigQuery would refuse it"


def test_queries_have_the_same_answers_in_bigquery_as_in_the_worker(data: Path, cloud: Cloud):
    worker = Server(data, *SMALL, "windows.out-of-orderness=1s", "windows.idle-timeout=1s", config=cloud.config(cloud.pubsub.subscription))
    worker.start()
    now = time.time()
    log = {"service": "shop", "path": "/orders/7", "duration_ms": 12}
    lines = [{**log, "timestamp": now - 200 - n, "message": f"m{n}", "level": "error" if n % 4 == 0 else "info"} for n in range(80)]
    lines += [{"timestamp": now - 190 - n, "event": "buy", "user_id": f"u{n % 9}", "session_id": f"s{n % 12}"} for n in range(60)]
    lines += [{"timestamp": now - n, "metric": f"m{n % 3}", "value": n} for n in range(30)]
    assert worker.events("\n".join(map(json.dumps, lines)))["stored"] == len(lines)
    queries = {title: sql for title, sql in examples().items() if title not in EMBEDDED_ONLY}
    of_minute = "window_start >= now() - INTERVAL '1 day' AND window_start < date_trunc('minute', now()) - INTERVAL '2 minutes'"
    figures = {"v_error_rate": "error_count", "v_performance": "duration_count", "v_activity": "user_count"}
    for view, figure in figures.items():
        wait_for(lambda: worker.sql(f'SELECT count(*) FROM {view} WHERE {of_minute}')[0][0] > 0, f"{view} has rows", 30)
        queries[view] = f'SELECT window_start, {figure} FROM {view} WHERE {of_minute} ORDER BY 1, 2'
    time.sleep(1)
    answers = {title: worker.sql(sql) for title, sql in queries.items()}
    worker.stop()
    dataset = f"{cloud.bigquery.client.project}.sawlog"
    for title, sql in queries.items():
        tree = sqlglot.parse_one(translated(sql), read="bigquery")
        for table in tree.find_all(expressions.Table):
            table.replace(sqlglot.to_table(f"`{dataset}.{table.name}`", dialect="bigquery"))
        found = sorted(as_texts(row) for row in cloud.bigquery.rows(tree.sql("bigquery")))
        assert found and found == sorted(as_texts(row) for row in answers[title]), title


def as_texts(row) -> list[str]:
    """A row as both engines' texts agree: times to the second."""
    return [re.sub(r"^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d).*", r"\1 \2", as_text(value)) for value in row]
