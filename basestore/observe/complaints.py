"""Complaints: what a node writes to its log, and not the same over and over. Pure.

The same text once a minute. Of whoever has proven nothing the text may hold anything, and be another each
time: who complains of such names a *kind*, of which one is told a minute, and then how many more there were.
It refuses to remember more than so many kinds at once: beyond that a new one counts as one of the rest.
"""

import math
import re
from dataclasses import dataclass

COMPLAINT_S = 60.0
KINDS_MAX = 256
_REST = "other complaints"


@dataclass(slots=True)
class _Kind:
    """`until_s`: till when no more of it is told; `text`: the first; `more`: how many others have come."""

    until_s: float
    level: int
    text: str
    more: int = 0


class Complaints:
    """Of one node."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}
        self._due_s = math.inf

    def tell(self, level: int, text: str, kind: str, now_s: float) -> bool:
        """Whether this is to be told now; if not it is counted."""
        if len(self._kinds) >= KINDS_MAX and (kind or text) not in self._kinds:
            kind = _REST
        known = self._kinds.get(kind or text)
        if known is not None and now_s < known.until_s:
            known.more += bool(kind)
            return False
        until_s = now_s + COMPLAINT_S
        self._kinds[kind or text] = _Kind(until_s, level, text)
        self._due_s = min(self._due_s, until_s)
        return True

    def rest(self, now_s: float) -> list[tuple[int, str]]:
        """What was counted and can be told now. Asked now and then."""
        if now_s < self._due_s:
            return []
        over = [kind for kind, known in self._kinds.items() if known.until_s <= now_s]
        gone = [self._kinds.pop(kind) for kind in over]
        self._due_s = min((known.until_s for known in self._kinds.values()), default=math.inf)
        return [(each.level, f"{each.more} more like this: {each.text}") for each in gone if each.more]


def numberless(text: str) -> str:
    """A kind for what a client has done wrong: the same whatever numbers it has chosen."""
    return re.sub(r"\d+", "#", text)
