"""Register rates: what `basestore top` shows of registers, made of what a node has counted. Pure.

A write takes two rounds with the acceptors of its row: a ballot is prepared, then a record is accepted. Who
wrote the row last has its next ballot promised already, and needs one round (`metrics.py`: `register_skips`).
A node that has had nothing to do with registers has nothing to show.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from basestore.metrics import LEVELS, Metrics

_USED = "count register_"
_SERIAL = LEVELS[-1]
_WRITES = ("set", "delete")


class RegisterRates(NamedTuple):
    """Of one node, in the time between two samples.

    writes_per_s     writes of registers that its clients have had answered
    one_round        the share of ballots used here that did not need preparing; None: none were used
    conflicts_per_s  ballots that it refused as an acceptor, for it knew of a later one
    helps_per_s      tries to finish a write that was found accepted: another's, or its own
    unlearned        rows that it has accepted and not learned, now
    intents          rows of its store that hold an intent of a transaction, now
    locks            that are held, of those whose register it writes
    """

    writes_per_s: float
    one_round: float | None
    conflicts_per_s: float
    helps_per_s: float
    unlearned: int
    intents: int
    locks: int

    @classmethod
    def of(cls, facts: Mapping[str, str], done: Metrics, span_s: float | None) -> Self | None:
        """`facts`: what the node says now, counters included; `done`: what it has counted in the span. None:
        it has nothing to do with registers, or there is no span yet."""
        unlearned = int(facts.get("register rows unlearned", "0"))
        if span_s is None or not (unlearned or any(name.startswith(_USED) for name in facts)):
            return None
        writes = sum(
            sum(series.outcomes.values())
            for operation, level, series in done.series()
            if operation in _WRITES and level == _SERIAL
        )
        counts = done.counts
        skips, ballots = counts["register_skips"], counts["register_ballots"]
        one_round = skips / (skips + ballots) if skips + ballots else None
        conflicts, helps = counts["register_conflicts"], counts["register_helps"]
        now = (int(facts.get(name, "0")) for name in ("transaction intents", "locks held"))
        rates = writes / span_s, one_round, conflicts / span_s, helps / span_s, unlearned
        return cls(*rates, *now)

    def as_json(self) -> dict[str, Any]:
        return {
            "writes_per_s": round(self.writes_per_s, 3),
            "one_round": None if self.one_round is None else round(self.one_round, 3),
            "conflicts_per_s": round(self.conflicts_per_s, 3),
            "helps_per_s": round(self.helps_per_s, 3),
            "unlearned": self.unlearned,
            "intents": self.intents,
            "locks": self.locks,
        }
