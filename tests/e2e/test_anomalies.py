"""Anomaly scores of labelled series, by the public benchmark's own measure."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import sawlog, test_data


def scored(path: Path) -> list[dict]:
    done = sawlog("anomalies", "score", str(path), "--csv")
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout.decode())))


def test_the_benchmarks_score_is_reached_with_one_configuration(tmp_path: Path):
    data = test_data() / "nab"
    scorer = data.parents[1] / "tools" / "score_nab.py"
    if not scorer.exists():
        pytest.fail(f"the scorer is not at {scorer}")
    windows = json.loads((data / "combined_windows.json").read_text())
    names = [name for name in windows if (data / name).exists()]
    assert len(names) == 35
    for name in names:
        rows = scored(data / name)
        assert len(rows) == len((data / name).read_text().strip().splitlines()) - 1
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with open(tmp_path / name, "w", newline="") as out:
            writer = csv.DictWriter(out, ["timestamp", "value", "score", "low", "high"])
            writer.writeheader()
            writer.writerows(rows)
    command = [sys.executable, str(scorer), str(data / "combined_windows.json"), str(data), str(tmp_path)]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    total = float(re.search(r"^all\s+score\s+([\d.]+)", report, re.M)[1])
    assert total >= 58, report


def test_scores_need_nothing_that_comes_later(tmp_path: Path):
    lines = ["timestamp,value"] + [f"2026-11-{1 + minute // 288:02} {minute % 288 // 12:02}:{minute % 12 * 5:02}:00,{minute % 288}" for minute in range(2_000)]
    whole, part = tmp_path / "whole.csv", tmp_path / "part.csv"
    whole.write_text("\n".join(lines))
    part.write_text("\n".join(lines[:1_001]))
    assert scored(whole)[:1_000] == scored(part)


def test_bad_lines_are_refused_with_their_place(tmp_path: Path):
    for content, told in {
        "timestamp,value\n2026-11-01 00:00:00,1\n2026-11-01 00:05:00,x\n": "line 3, value: \"x\"",
        "timestamp,value\nsoon,1\n": "line 2, timestamp: \"soon\"",
        "2026-11-01 00:00:00;1\n": "line 1 has no comma",
    }.items():
        path = tmp_path / "series.csv"
        path.write_text(content)
        done = sawlog("anomalies", "score", str(path), "--csv")
        assert done.returncode == 1 and told in done.stderr.decode(), done.stderr
    assert sawlog("anomalies", "score", str(tmp_path / "none.csv")).returncode == 1
