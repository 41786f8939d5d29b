"""Bugs of comparing many partitions by one message (`anti_entropy/roots.py`)."""

from typing import Any

from basestore.anti_entropy.closed_stamps import ClosedStamps
from basestore.anti_entropy.roots import RootComparison
from tests.simulation.mutations.proofs import CLOSED
from tests.simulation.mutations.proofs import PURGED as UNPROVEN
from tests.simulation.mutations.registry import mutant

_same, _prove = RootComparison.same, RootComparison.prove


@mutant(
    "roots that differ are taken for the same", UNPROVEN | {"mismatches"}, RootComparison, "same"
)  # fmt: skip
def _any_root(self: Any, member: int, said: Any, place: int, theirs: Any, now: Any) -> bool:
    _same(self, member, said, place, theirs, now)
    return True


@mutant(
    "closed at the end of a comparison of roots", CLOSED | {"mismatches"}, RootComparison, "prove", "haste"
)  # fmt: skip
def _closed_late(self: Any, member: int, partition: int, mine: Any, theirs: Any, *rest: Any) -> None:
    (closed,) = ClosedStamps.close(self._local.closed_stamps, (partition,), rest[-1])
    _prove(self, member, partition, mine._replace(closed=closed), theirs, *rest)


@mutant("a comparison of roots counts what was written since", {"mismatches"}, RootComparison, "prove")
def _counted_late(self: Any, member: int, partition: int, mine: Any, theirs: Any, *rest: Any) -> None:
    sequence = self._summaries.of[partition].sequence
    _prove(self, member, partition, mine._replace(sequence=sequence), theirs, *rest)


@mutant("roots told before they are durable", {"told"} | UNPROVEN, RootComparison, "say", "haste")
def _say_at_once(self: Any, outbox: Any, message: Any) -> None:
    outbox.put(message)
