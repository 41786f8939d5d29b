"""Round: what the replicas of a row have said to one request of a proposer.

A round is of one ballot, or of none, and of one epoch of the row's seats: nothing of it counts under another.
Sends nothing, and waits for nothing.
"""

import enum
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import Final

from basestore.consistency import APPLIED, FAILED, PENDING, Quorum
from basestore.repair.paxos import Known, Told, gathered_at


class Phase(enum.Enum):
    """What a proposer is at (`proposer.py`)."""

    QUEUED = 0
    PEEK = 1
    PREPARE = 2
    ACCEPT = 3
    WAIT = 4
    ENDED = 5


BACK_OFF_S: Final = 0.03
DOUBLINGS_MAX: Final = 5
ASKING: Final = frozenset((Phase.PEEK, Phase.PREPARE, Phase.ACCEPT))


class Round:
    """`told`: what members know; `acks`: who has accepted; `failed`: who will not answer. `widened`: all
    were asked, and not only as many as are needed."""

    __slots__ = ("acks", "failed", "id", "phase", "quorum", "since", "told", "widened")

    def __init__(self, phase: Phase, quorum: Quorum, since: int, request: int) -> None:
        """`request`: the id of what is asked; `since`: the epoch of the seats, of which `quorum` is."""
        self.phase, self.quorum, self.since, self.id = phase, quorum, since, request
        self.told: dict[int, Told] = {}
        self.acks: set[int] = set()
        self.failed: set[int] = set()
        self.widened = False

    @property
    def _answered(self) -> AbstractSet[int]:
        return self.acks if self.phase is Phase.ACCEPT else self.told.keys()

    def met(self, must: int | None) -> bool:
        """Whether a quorum has answered, and to a prepare request the member that `must`, if there is one."""
        heard = must is None or self.phase is Phase.ACCEPT or must in self.told
        return heard and self.quorum.met(self._answered)

    def is_hopeless(self, must: int | None) -> bool:
        """Whether that cannot come to be any more."""
        silent = must in self.failed and self.phase is Phase.PREPARE
        return silent or not self.quorum.met(self.quorum.replicas, self.failed)

    def awaits(self, member: int) -> bool:
        return member in self.quorum.replicas and member not in self._answered and member not in self.failed

    @property
    def awaited(self) -> list[int]:
        return [member for member in self.quorum.replicas if self.awaits(member)]

    def found(self) -> Known:
        """What those that have answered know. Chosen is what one of them has learned; and what a quorum of
        them has accepted under the present seats."""
        return gathered_at(self.told, self.since, self.quorum.met)

    @property
    def required(self) -> int:
        return self.quorum.told(self._answered)[0]

    def states(self, number_of: Sequence[int]) -> list[int]:
        """Of an accept request: members, by number, and what is known of each, as in `Written`."""
        if self.phase is not Phase.ACCEPT:
            return []
        states = [
            (each, int(APPLIED if each in self.acks else FAILED if each in self.failed else PENDING))
            for each in self.quorum.replicas
        ]
        return [number for each, state in states for number in (number_of[each], state)]


def back_off_s(ballot: bytes, failures: int) -> float:
    """How long to wait after so many failures: drawn from the ballot, which nobody else has."""
    doublings = min(failures, DOUBLINGS_MAX)
    drawn = int.from_bytes(blake2b(ballot + bytes((doublings,)), digest_size=4).digest())
    return drawn / (1 << 32) * BACK_OFF_S * (1 << doublings)
