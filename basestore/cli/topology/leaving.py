"""Leaving: what holds up a member that is drained, and holds nothing any more; in words.

It leaves once it keeps no write that nobody else has (`moves/conductor.py`). What that waits for only the
member itself can say, and sometimes it waits for an operator. Asks, and changes nothing.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from basestore.cli import text
from basestore.errors import InvalidRequest

if TYPE_CHECKING:
    from basestore.results.hints import NodeHints
    from basestore.sync import SyncStore

DRAINING = "draining"


def held_up(store: "SyncStore") -> Iterator[str]:
    """A sentence for each that could leave, but for what it keeps. What answers may raise."""
    topology = store.topology(mode="stale")
    holding = {name for seats in topology.partitions for name in (*seats.replicas, *seats.to)}
    for member in topology.members:
        if member.standing == DRAINING and member.name not in holding:
            try:
                (hints,) = store.hints(node=member.name)
            except InvalidRequest:  # it has left since
                continue
            if why := _why(hints):
                yield f"{member.name} holds nothing any more, and {why}"


def _why(hints: "NodeHints") -> str:
    if not hints.answered:
        return (
            f"does not answer ({hints.reason}): it leaves once it has said that it keeps no write that "
            f"nobody else has; if it is lost for good: basestore node remove {hints.node} --dead"
        )
    if late := sum(pile.late for pile in hints.piles):
        return (
            f"leaves once {text.counted(late, 'late hint')} of its {'is' if late == 1 else 'are'} decided: "
            f"basestore hints replay --late --node {hints.node}"
        )
    waiting = [pile for pile in hints.piles if pile.only_copies]
    if not waiting:
        return ""
    alone = text.counted(sum(pile.only_copies for pile in waiting), "write")
    return (
        f"leaves once {alone} that it alone keeps, "
        f"for {text.listed([pile.peer for pile in waiting])}, are delivered: see basestore hints"
    )
