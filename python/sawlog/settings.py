"""What the pipelines take from the configuration file of the binary.

For: the sections that say what becomes of a record, read as the binary reads them. Not for: its server, its stores and its
disk, which have no counterpart here; they are passed over.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sawlog._native import Rollups, SawlogError, Sessions, Transformer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_UNITS = {"ms": 1e3, "s": 1e6, "m": 6e7, "min": 6e7, "h": 3.6e9, "d": 8.64e10}
_DURATION = re.compile(r"\s*([0-9.]+)\s*([a-z]+)\s*")


def duration(text: Any, place: str) -> int:
    """A duration such as `30s` or `400d`, in microseconds."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None or found[2] not in _UNITS:
        raise SawlogError(f"{place}: {text!r} is no duration; write a number and ms, s, m, h or d")
    return round(float(found[1]) * _UNITS[found[2]])


@dataclass(frozen=True)
class Settings:
    """Settings with the defaults of the binary; durations are in microseconds."""

    rules: Mapping[str, Any] = field(default_factory=dict)
    past_max: int | None = duration("400d", "")
    future_max: int = duration("1d", "")
    dedup_window: int = duration("1h", "")
    allowed_lateness: int = duration("1h", "")
    apdex_threshold: int = duration("500ms", "")
    series_max: int = 20_000
    session_gap: int = duration("30m", "")
    session_length_max: int = duration("24h", "")

    @classmethod
    def load(cls, path: str | Path) -> "Settings":
        """Reads a configuration file."""
        return cls.parse(Path(path).read_text(encoding="utf-8"))

    @classmethod
    def parse(cls, text: str) -> "Settings":
        """Reads the text of a configuration file. Raises `SawlogError` with the place of what it cannot read."""
        try:
            config = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SawlogError(f"the configuration is no TOML: {error}") from error
        values: dict[str, Any] = {"rules": config.get("rules", {})}
        for name, (section, key) in _PLACES.items():
            given: Any = config
            for part in (*section.split("."), key):
                given = given.get(part) if isinstance(given, Mapping) else None
            if given is None:
                continue
            place = f"{section}.{key}"
            if name == "series_max":
                if not isinstance(given, int):
                    raise SawlogError(f"{place}: {given!r} is no number")
                values[name] = given
            elif name == "past_max" and given == "unlimited":
                values[name] = None
            else:
                values[name] = duration(given, place)
        return cls(**values)

    def files(self) -> list[str]:
        """Names of the files that the rules need."""
        tables = [*self.rules.get("users", []), *self.rules.get("lookup", [])]
        return sorted({table["file"] for table in tables})

    def transformer(self, files: Mapping[str, bytes] | None = None) -> Transformer:
        """Compiles the rules, with the contents of their files; those that are not given are read from the disk."""
        given = dict(files or {})
        for name in self.files():
            if name not in given:
                given[name] = Path(name).read_bytes()
        return Transformer(json.dumps(self.rules), files=given, past_max=self.past_max, future_max=self.future_max)

    def rollups(self) -> Rollups:
        """Counts rows with these settings."""
        return Rollups(apdex_threshold=self.apdex_threshold, series_max=self.series_max)

    def sessions(self) -> Sessions:
        """Makes sessions with these settings."""
        return Sessions(gap=self.session_gap, length_max=self.session_length_max)


_PLACES = {
    "past_max": ("sources.pubsub", "past-max"),
    "future_max": ("sources.pubsub", "future-max"),
    "dedup_window": ("pipeline", "dedup-window"),
    "allowed_lateness": ("windows", "allowed-lateness"),
    "apdex_threshold": ("rollups", "apdex-threshold"),
    "series_max": ("rollups", "series-max"),
    "session_gap": ("sessions", "gap"),
    "session_length_max": ("sessions", "length-max"),
}
