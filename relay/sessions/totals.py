"""What a session counts beside the protocol."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Totals:
    """Counts of one session since it was begun."""

    dials_failed: int = 0
    no_route: int = 0
    refused: int = 0
    buffer_full: int = 0
    over_limit: int = 0
    access_denied: int = 0
    access_observed: int = 0
    datagrams_dropped: int = 0
    datagrams_refused: int = 0
    too_late: int = 0
    """Users whom the node had sent when our Close left: they are lost."""

    def errors(self) -> Counter[str]:
        """Return what went wrong, by name; users whom an access list only watched are none."""
        found = Counter({name: count for name, count in asdict(self).items() if count})
        del found["access_observed"]
        return found
