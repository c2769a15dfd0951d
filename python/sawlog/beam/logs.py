"""Entries of the workers' log, one JSON object each, which filters and log-based metrics of Cloud Logging take apart.

Dataflow shows an entry's text as `jsonPayload.message`; the fields are those of `note`, `event` first.
"""

import json
import logging
import time
from typing import Any

LOGGER = logging.getLogger("sawlog")
# Time between two summaries of one kind by one worker, seconds.
SUMMARY_SECONDS = 60


def note(level: int, event: str, **fields: Any) -> None:
    """Writes an entry."""
    LOGGER.log(level, "%s", json.dumps({"event": event, **fields}, default=str))


class DeadLetterSummary:
    """Counts of dead letters by stage and reason, told at once and then once a minute, each with its first example."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], tuple[int, str]] = {}
        self.told = float("-inf")

    def add(self, stage: str, reason: str, error: str) -> None:
        """One more."""
        count, first = self.counts.get((stage, reason), (0, error))
        self.counts[stage, reason] = (count + 1, first)

    def tell(self, is_last: bool = False) -> None:
        """Writes what was counted, if it is time for that or nobody will be asked again."""
        if not self.counts or (time.monotonic() - self.told < SUMMARY_SECONDS and not is_last):
            return
        self.told = time.monotonic()
        for (stage, reason), (count, first) in sorted(self.counts.items()):
            note(logging.WARNING, "dead_letters", stage=stage, reason=reason, count=count, error=first)
        self.counts.clear()
