"""Hints: the writes that a node keeps for members that it could not reach, as its operator sees them.

Hinted handoff (DeCandia et al., "Dynamo", 2007, section 4.6): a write whose replica does not answer is kept
elsewhere and delivered later. All hints for one member are a pile. Made out of what the node answers
(`HintPiles`). Pure; delivers and decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from basestore.protocol.codec import Message
from basestore.protocol.operator import HintPiles
from basestore.results.answers import SENSELESS, error_of, senseless


@dataclass(frozen=True, slots=True)
class HintPile:
    """What a node keeps for one member.

    peer         the member
    alive        whether it is alive, as the node sees it: its hints are then being delivered
    count        hints, and their `bytes`
    only_copies  how many of them no replica is known to hold
    deferred     how many are of deferred writes, which the member was not sent yet
    late         how many come too late to be taken, and wait for `replay` with `late`
    oldest_ms    when the oldest was written, None when there is none; milliseconds since 1970
    debt         by partition, since when the member may lack writes of which no hint is kept (there was
                 no room for it, or it became too old); milliseconds since 1970
    """

    peer: str
    alive: bool
    count: int
    bytes: int
    only_copies: int
    late: int
    oldest_ms: int | None
    debt: dict[int, int]
    deferred: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "peer": self.peer,
            "alive": self.alive,
            "count": self.count,
            "bytes": self.bytes,
            "only_copies": self.only_copies,
            "deferred": self.deferred,
            "late": self.late,
            "oldest_ms": self.oldest_ms,
            "debt": {str(partition): since_ms for partition, since_ms in self.debt.items()},
        }


@dataclass(frozen=True, slots=True)
class NodeHints:
    """The hints of one node, or why it did not tell.

    asked_ms  now, by its clock: milliseconds since 1970; None when it did not answer
    piles     one for each member for which there is a hint or a debt
    rewritten, superseded  late hints that it has had decided since it was started: written anew, or dropped
              because what a quorum held was better
    reason    why it did not answer, or the empty string
    """

    node: str
    asked_ms: int | None
    piles: tuple[HintPile, ...]
    reason: str = ""
    rewritten: int = 0
    superseded: int = 0

    @property
    def answered(self) -> bool:
        return self.asked_ms is not None

    def as_json(self) -> dict[str, Any]:
        """As `basestore hints -o json` prints it."""
        return {
            "node": self.node,
            "asked_ms": self.asked_ms,
            "reason": self.reason,
            "late_rewritten": self.rewritten,
            "late_superseded": self.superseded,
            "peers": [pile.as_json() for pile in self.piles],
        }


def node_hints(answer: Message, members: Mapping[int, str]) -> NodeHints:
    """Read the answer to HintsOf or Replay; raises the error it stands for."""
    if not isinstance(answer, HintPiles):
        raise error_of(answer)
    debts: dict[int, dict[int, int]] = {}
    for debt in answer.debts:
        debts.setdefault(debt.number, {})[debt.partition] = debt.since_ms
    try:
        piles = tuple(
            HintPile(
                members[pile.number], pile.alive, pile.hints, pile.bytes, pile.only_copies, pile.late,
                pile.oldest_ms or None, debts.get(pile.number, {}), pile.deferred,
            )
            for pile in answer.piles
        )  # fmt: skip
    except SENSELESS as error:
        raise senseless(answer) from error
    return NodeHints(answer.node, answer.wall_ms, piles, "", answer.rewritten, answer.superseded)
