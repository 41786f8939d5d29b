"""`python -m tests.cluster.dying serve ...`: a node that ends itself as by kill -9, at a moment that it is
told, of a write of a register that it proposes.

    DIES_AT       which moment
                  "unsent"      the record is made, nobody has heard of it
                  "by another"  it was sent to one other acceptor only, which has accepted it
                  "by itself"   it was sent to its own acceptor only, which has accepted it
                  "by some"     it was sent to all; the first has accepted it
                  "chosen"      a quorum has accepted it, and nobody was told
    DIES_AFTER    how many records it has sent before as it should

    LACKS         instead: what it does not do
                  "telling"     it tells no other that a record is chosen
                  "finishing"   it finds out of nothing that it has accepted what became of it

Without these it is a node like any other.
"""

import os
import signal
import sys
from typing import Any

from basestore.cli import main as command
from basestore.cluster.operations import Ack
from basestore.cluster.outbox import SMALL_BYTES
from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.protocol.replication import Accept, Learn
from basestore.registers.acceptors import Acceptors
from basestore.registers.announcements import Announcements
from basestore.registers.proposer import Proposer
from basestore.repair.paxos import ballot_of
from tests.cluster.processes import SERVE, NodeProcess

UNSENT, BY_ANOTHER, BY_ITSELF, BY_SOME, CHOSEN = MOMENTS = (
    "unsent", "by another", "by itself", "by some", "chosen",
)  # fmt: skip


def mortal(node: NodeProcess) -> None:
    """Have it run by this program from its next start on."""
    node.command = (sys.executable, "-m", "tests.cluster.dying", *SERVE)


def dies_at(moment: str, after: int) -> dict[str, str]:
    """The environment of a start that ends so."""
    return {"DIES_AT": moment, "DIES_AFTER": str(after)}


def lacks(what: str) -> dict[str, str]:
    """The environment of a start without that."""
    return {"LACKS": what}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Death:
    """Watches what this node proposes. From so many records on each is sent only as far as the moment says;
    the first that comes to it is the last."""

    def __init__(self, moment: str, after: int) -> None:
        self._moment, self._left = moment, after
        self._last = 0  # the id of the record that was sent last
        self._ballot = b""
        self._told = False  # the one that alone is to have it

    def install(self) -> None:
        """Watch from now on."""
        sends, applies, learns = Peers.send, Proposer.applied, Announcements.add

        def send(peers: Peers, member: int, message: Any, size: int = SMALL_BYTES) -> bool:
            if isinstance(message, Accept) and not self.lets(peers, member, message):
                return True
            return sends(peers, member, message, size)

        def applied(serial: Proposer, member: int, answer: Ack, now: Instant) -> None:
            self.accepted(answer)
            applies(serial, member, answer, now)

        def learned(
            announcements: Announcements, members: tuple[int, ...], row: bytes, ballot: bytes
        ) -> None:
            self.chosen(ballot)
            learns(announcements, members, row, ballot)

        Peers.send, Proposer.applied, Announcements.add = send, applied, learned  # type: ignore[assignment, method-assign]

    @property
    def _is_doomed(self) -> bool:
        return self._left < 0

    def lets(self, peers: Peers, member: int, message: Accept) -> bool:
        """Whether a record is sent to this member."""
        if message.id != self._last:
            self._last, self._ballot, self._told = message.id, ballot_of(message.record), False
            self._left -= 1
        if not self._is_doomed or self._moment in (BY_SOME, CHOSEN):
            return True
        if self._moment == UNSENT:
            die()
        meant = (member == peers.me) == (self._moment == BY_ITSELF) and not self._told
        self._told |= meant
        return meant

    def accepted(self, request: int) -> None:
        """An acceptor has accepted what was sent under this id."""
        if self._is_doomed and self._moment in (BY_ANOTHER, BY_ITSELF, BY_SOME) and request == self._last:
            die()

    def chosen(self, ballot: bytes) -> None:
        """A quorum has accepted what was sent under this ballot."""
        if self._is_doomed and self._moment == CHOSEN and ballot == self._ballot:
            die()


def tell_nobody() -> None:
    """Have other members not hear of what is chosen."""
    sends = Peers.send

    def send(peers: Peers, member: int, message: Any, size: int = SMALL_BYTES) -> bool:
        return (isinstance(message, Learn) and member != peers.me) or sends(peers, member, message, size)

    Peers.send = send  # type: ignore[assignment, method-assign]


def finish_nothing() -> None:
    """Have nothing swept."""

    def tick(acceptors: Acceptors, now: Instant) -> None:
        pass

    Acceptors.tick = tick  # type: ignore[assignment, method-assign]


LACKING = {"telling": tell_nobody, "finishing": finish_nothing}


def main() -> None:
    """The command; its node dies, or does less, as it is told."""
    if "LACKS" in os.environ:
        LACKING[os.environ["LACKS"]]()
    if "DIES_AT" in os.environ:
        Death(os.environ["DIES_AT"], int(os.environ["DIES_AFTER"])).install()
    command()


if __name__ == "__main__":
    main()
