"""Messages by which members keep and follow the log of what the cluster is, ask for a change of it, and read
it; and report how far partitions have come that move.

What the voters of the metadata group say to each other is `consensus/messages.py`'s, and is only registered
here. Owns the fields of the rest; what is done with entries that are decided, is in
`membership/following.py`.
"""

from typing import Any, Final, NamedTuple

from basestore.consensus.messages import (
    Append,
    Appended,
    EntryRow,
    Granted,
    Install,
    Stand,
    check_entries,
)
from basestore.protocol.limits import SERIAL_SINCE
from basestore.protocol.registry import ANSWERED, ANYTHING, message
from basestore.repair.paxos import BALLOT_BYTES

GROUP_BYTES: Final = 16
VOTER_BYTES: Final = 16
NOWHERE: Final = -1  # the epoch of who knows no topology
OF_RAFT: Final[tuple[type[Any], ...]] = (Stand, Granted, Append, Appended, Install)

for _number, _make in enumerate(OF_RAFT, 82):
    message(_number, since=10)(_make)


def _check_group(group: bytes, epoch: int) -> str:
    if len(group) not in (0, GROUP_BYTES) or (epoch < 0) != (not group):
        return "names no metadata group"
    return ""


@message(76, since=10)
class At(NamedTuple):
    """What follows on this link is said under this epoch, which is decided, and durable at the sender; it is
    said before any request on a link. `group`: the metadata group whose log that is, `formers`: those whose
    place it took, one after the other; all empty, and the epoch -1, while the sender knows none. `term`: of
    the entry that made the epoch, by which two histories of one group are told apart. `voter`: by which
    the sender votes, `lasting`: its store is on a disk; `barred`: it founds no group; `follows`: it goes over
    to a group that took its own one's place. `entries`: those from `first` on, decided, as far as they came
    along."""

    group: bytes
    formers: bytes
    voter: bytes
    lasting: bool
    barred: bool
    follows: bool
    epoch: int
    term: int
    first: int
    entries: list[EntryRow]

    def check(self) -> str:
        if len(self.voter) != VOTER_BYTES or len(self.formers) % GROUP_BYTES:
            return "names no voter"
        if self.entries and not 0 < self.first <= self.epoch + 1 - len(self.entries):
            return "has entries that are not decided"
        return check_entries(self.entries) or _check_group(self.group, self.epoch)


@message(75, since=10, unchecked=ANYTHING)
class Lacking(NamedTuple):
    """The sender has heard of a later epoch than its own: what came after `epoch`, which an entry of this
    term has made? -1: it knows nothing."""

    epoch: int
    term: int


@message(74, since=10)
class Base(NamedTuple):
    """All up to an entry in one: what the receiver lacks begins before the log of the sender does."""

    group: bytes
    formers: bytes
    last: int
    term: int
    voters: bytes
    state: bytes

    def check(self) -> str:
        return _check_group(self.group, self.last)


@message(87, since=10, unchecked=ANSWERED)
class Suggest(NamedTuple):
    """To the leader: append this entry. It carries an id, by which its sender sees in the log what has become
    of it; until then it is said again now and then."""

    entry: bytes


@message(89, since=10, unchecked=ANYTHING)
class AskRead(NamedTuple):
    """To the leader: up to which entry must be read, for a read that begins now? `lease`: the answer may rest
    on the leader's lease."""

    id: int
    lease: bool


@message(72, since=10, unchecked=ANYTHING)
class ReadAt(NamedTuple):
    """The answer; -1: not by the sender, who does not lead, is not sure of that yet, or has too many wait."""

    id: int
    at: int


# --- what clients ask ------------------------------------------------------------------------------

STALE: Final = 0  # modes of a read: by what the node has
DEFAULT: Final = 1  # by the leader's word, while its lease holds
CONSISTENT: Final = 2  # by the leader's word, once it is sure that it leads


@message(91, since=10, unchecked=ANSWERED)
class ReadTopology(NamedTuple):
    """What is the cluster? `mode`: STALE, DEFAULT or CONSISTENT."""

    id: int
    mode: int
    timeout_ms: int


@message(92, since=10)
class TopologyTold(NamedTuple):
    """The answer. `topology`: as `Topology.encode` has it, empty while there is none; `group`: that decides
    it. `leader`: the number of the member that leads it, -1 if none is heard of, `heard_ms` how long ago it
    was, -1: never. `voters` and `learners`: numbers of members, as this node's log has them. `epochs`:
    members and the epochs that they have told, in turn."""

    id: int
    topology: bytes
    group: bytes
    leader: int
    heard_ms: int
    term: int
    voters: list[int]
    learners: list[int]
    epochs: list[int]

    def check(self) -> str:
        return "tells members without their epochs" if len(self.epochs) % 2 else ""


class HistoryRow(NamedTuple):
    """An entry in words: which epoch it made, and when, by the clock of the member through which it came (0:
    that is not said)."""

    epoch: int
    wall_ms: int
    text: str


@message(93, since=10, unchecked=ANSWERED)
class ReadHistory(NamedTuple):
    """What has become of the cluster, from the entry behind `after` on, at most so many; -1: the last ones.
    By what this node has."""

    id: int
    after: int
    limit: int
    timeout_ms: int


@message(94, since=10, unchecked=ANYTHING)
class HistoryTold(NamedTuple):
    """The answer. `first`: the first epoch of which anything is still known; `epoch`: the last."""

    id: int
    first: int
    epoch: int
    rows: list[HistoryRow]


@message(95, since=10, unchecked=ANSWERED)
class ChangeTopology(NamedTuple):
    """Have this entry decided (`topology/entries.py`): by which member it came, and when, is not read, for
    the node says so itself. Under the id of an earlier one it is that one; `again`: there may have been
    one, so that what is not known to have been done may have been."""

    id: int
    entry: bytes
    timeout_ms: int
    again: bool


@message(96, since=10, unchecked=ANYTHING)
class TopologyChanged(NamedTuple):
    """The answer, once it is decided: which epoch it made, why it has changed nothing (empty: it has), and
    the number that it gave to a bucket or member, or -1."""

    id: int
    epoch: int
    error: str
    number: int


# --- partitions that move ----------------------------------------------------------------------------


class MoveRow(NamedTuple):
    """What a member says of a partition whose seats are being changed. `since`: the epoch that has changed
    them last, by which it goes; `fit`: it holds all that it must; `met`: the members with whom it has proven
    to hold the same, of those that have held it until now, two bytes each; `records`: so many it holds."""

    partition: int
    since: int
    fit: bool
    met: bytes
    records: int


@message(77, since=11)
class MoveReport(NamedTuple):
    """To the leader: how far moves have come at the sender. Of a partition the last row holds, as long as the
    link stands."""

    rows: list[MoveRow]

    def check(self) -> str:
        wrong = any(min(row.partition, row.since, row.records) < 0 or len(row.met) % 2 for row in self.rows)
        return "reports what cannot be" if wrong else ""


@message(78, since=11, unchecked=ANYTHING)
class AskMoves(NamedTuple):
    """To the leader, for a client: how far have moves come?"""

    id: int


class MoveState(NamedTuple):
    """A partition that is being moved, or is to be. `stage`: 0, it is to begin yet, or as in `Stage`; for how
    long it has been in it, as far as the leader has seen; `records`: that it has at most, at a replica;
    `left`: so many at most are lacking where it comes to, -1: that is not known. `old`, `new`: who holds it,
    and who is to; `awaited`: whom it waits for; two bytes each."""

    partition: int
    stage: int
    stage_ms: int
    records: int
    left: int
    old: bytes
    new: bytes
    awaited: bytes


@message(79, since=11, unchecked=ANYTHING)
class MovesTold(NamedTuple):
    """The answer, to a member and to a client. `epoch`: that it is of; `leader`: whose word it is, -1: of the
    node that was asked, which knows of no leader, and not for whom moves wait; `unplanned`: a plan is to be
    made yet."""

    id: int
    epoch: int
    leader: int
    unplanned: bool
    rows: list[MoveState]


@message(97, since=11, unchecked=ANSWERED)
class ReadMoves(NamedTuple):
    """How far have moves come, by the leader's word if there is one?"""

    id: int
    timeout_ms: int


class FinishedRow(NamedTuple):
    """Of this partition, whose seats or acceptors are what they are since this epoch. `floor`: a ballot, or
    nothing."""

    partition: int
    since: int
    floor: bytes


@message(98, since=SERIAL_SINCE)
class Finished(NamedTuple):
    """To members that compare these partitions: what the sender had accepted of them under earlier epochs it
    has learned, durably. An exchange that is begun behind this brings it along."""

    rows: list[FinishedRow]

    def check(self) -> str:
        sound = all(
            0 <= row.partition < 1 << 16 and row.since >= 0 and len(row.floor) in (0, BALLOT_BYTES)
            for row in self.rows
        )
        return "" if sound else "has finished what cannot be"
