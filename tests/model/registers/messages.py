"""Messages: what nodes say to each other. Each is heard under the epoch that its sender had told before."""

from typing import NamedTuple

from tests.model.registers.records import Ballot, Record
from tests.model.registers.store import Known, Snapshot


class Prepare(NamedTuple):
    key: int
    ballot: Ballot


class Accept(NamedTuple):
    """`following`: the proposer's next ballot."""

    key: int
    record: Record
    following: Ballot


class Peek(NamedTuple):
    key: int


class Learn(NamedTuple):
    """What was accepted under this ballot is chosen."""

    key: int
    ballot: Ballot


Request = Prepare | Accept | Peek


class Asked(NamedTuple):
    """A request of a round of its sender."""

    number: int
    request: Request


class Refused(NamedTuple):
    """`known`: a ballot that the next has to be above."""

    known: Ballot


class Moved(NamedTuple):
    """The acceptors are others, or it is none that counts."""


class Answer(NamedTuple):
    number: int
    said: Known | Refused | Moved


class Finished(NamedTuple):
    """Nothing that was accepted before this entry waits to be learned."""

    store: int
    since: int


class Syn(NamedTuple):
    """Opens an exchange. `number`: which of the opener's."""

    number: int
    snapshot: Snapshot


class Merged(NamedTuple):
    number: int
    snapshot: Snapshot


class Certified(NamedTuple):
    number: int


Message = Asked | Answer | Learn | Finished | Syn | Merged | Certified
