"""Settings are read as the binary reads them."""

import re

import pytest
from conftest import run

import sawlog
from sawlog.settings import _PLACES, duration


def test_defaults_are_those_of_the_binary():
    shown = run("config", "show")
    parsed = sawlog.Settings.parse(shown)
    assert parsed == sawlog.Settings(rules=parsed.rules)
    for section, key in _PLACES.values():
        assert re.search(rf"^{re.escape(section)}\.{key} = ", shown, re.MULTILINE), (section, key)


@pytest.mark.parametrize(
    ("text", "micros"), [("500ms", 500_000), ("1.5 h", 5_400_000_000), ("2min", 120_000_000), ("1d", 86_400_000_000)]
)
def test_durations(text: str, micros: int):
    assert duration(text, "a.b") == micros


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[windows]\nallowed-lateness = 5", "windows.allowed-lateness: 5 is no duration"),
        ('[sessions]\ngap = "soon"', "sessions.gap: 'soon' is no duration"),
        ('[rollups]\nseries-max = "many"', "rollups.series-max: 'many' is no number"),
        ("[broken", "no TOML"),
    ],
)
def test_mistakes_have_a_place(text: str, problem: str):
    with pytest.raises(sawlog.SawlogError, match=re.escape(problem)):
        sawlog.Settings.parse(text)


def test_any_age_can_be_allowed():
    assert sawlog.Settings.parse('[sources.pubsub]\npast-max = "unlimited"').past_max is None
