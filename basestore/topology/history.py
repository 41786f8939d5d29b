"""Topology history: what an entry of the cluster's log has done, in words.

    create bucket 'carts', last-write-wins, through n1: it has number 3
    create bucket 'carts', first-write-wins, through n2: refused: bucket 'carts' exists with rule ...
    partition 7: fill n1, n2, n3 -> n1, n2, n4; and 12 more, through n1
    the voters are n1, n2 (on two stores), n3

Each line is made of the entry and of the topology that it met, so that names are those of its time; and when
the entry is applied, so that nobody who reads them makes a node go through its log. Decides nothing.
"""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from basestore.config import REPLICATION_MAX, UNNUMBERED, BucketOptions
from basestore.consensus.log import Kind
from basestore.consensus.voters import decode_voters
from basestore.repair.seats import Seats, Stage
from basestore.topology.changes import (
    STORE_BYTES,
    AddMember,
    CancelMoves,
    Change,
    CreateBucket,
    DrainMember,
    DropBucket,
    ForgetDropped,
    Founded,
    RemoveMember,
    ReplaceMember,
    SetMember,
    SetPlan,
    SetReplication,
    SetSeats,
    SetSetting,
    TakeBack,
    TakeIn,
    UnsetSetting,
    options_list,
)
from basestore.topology.entries import Suggestion
from basestore.topology.judgement import Judged
from basestore.topology.topology import Outcome, Topology

LINES_MAX: Final = 1000
SHOWN_MAX: Final = 3
TEXT_CHARACTERS_MAX: Final = 64
_OPTIONS: Final = tuple(BucketOptions.__dataclass_fields__)
_NO_OPTIONS: Final = options_list(BucketOptions())


class Line(NamedTuple):
    """What the entry `epoch` has said. `wall_ms`: when, by the clock of the member through which it came; 0
    where nobody says."""

    epoch: int
    wall_ms: int
    text: str


class History:
    """The last lines, without a gap."""

    def __init__(self) -> None:
        self._lines = deque[Line](maxlen=LINES_MAX)

    @property
    def first(self) -> int | None:
        """The epoch of the first that is left; None without any."""
        return self._lines[0].epoch if self._lines else None

    def skip(self) -> None:
        """What comes next does not follow on what is here."""
        self._lines.clear()

    def add(self, index: int, kind: Kind, data: bytes, before: Topology, judged: Judged | None) -> None:
        """This is being applied. `judged`: what came of it, where it was for the topology to judge."""
        if judged is not None:
            wall_ms = judged.said.wall_ms if judged.said is not None else 0
            line = Line(index, wall_ms, describe(judged, before))
        elif kind is Kind.EMPTY:
            line = Line(index, 0, "another leader was elected")
        else:
            line = Line(index, 0, _voters(data, before))
        self._lines.append(line)

    def between(self, after: int, last: int) -> Iterator[Line]:
        """Those behind `after`, up to `last`."""
        return (line for line in self._lines if after < line.epoch <= last)


def _voters(data: bytes, topology: Topology) -> str:
    stores = Counter(voter.number for voter in decode_voters(data))
    names = (_named(each, topology) + (" (on two stores)" if of > 1 else "") for each, of in stores.items())
    return f"the voters are {', '.join(sorted(names))}"


def describe(judged: Judged, before: Topology) -> str:
    """One line: what the entry asked for, and what became of it. `before`: the topology that it met."""
    said, outcome = judged.said, judged.outcome
    if said is None or outcome is None:
        return "what no release can read; nothing was changed by it"
    line = f"{_asked(said.change, before)}, through {_named(said.by, before)}"
    return line + _became(said, outcome, judged.topology.epoch)


def _became(said: Suggestion, outcome: Outcome, index: int) -> str:
    if outcome.epoch != index:
        return f": said again, after entry {outcome.epoch}; nothing was changed by it"
    if outcome.error:
        return f": refused: {outcome.error}"
    given = outcome.number != UNNUMBERED and isinstance(said.change, CreateBucket | AddMember)
    return f": it has number {outcome.number}" if given else ""


def _asked(change: Change, before: Topology) -> str:
    match change:
        case CreateBucket(name, rule, options):
            return f"create bucket {_text(name)}, {rule}{_options(options)}"
        case DropBucket(name):
            return f"drop bucket {_text(name)}"
        case SetSetting(key, value):
            return f"set setting {_text(key)} to {_text(value)}"
        case UnsetSetting(key):
            return f"unset setting {_text(key)}"
        case AddMember(name, address, zone, weight, _):
            return f"add member {_text(name)}, address {_text(address)}, zone {_text(zone)}, weight {weight}"
        case SetMember(number):
            return f"member {_named(number, before)}: {_facts(change)}"
        case SetSeats(rows):
            return _listed([_seats(row, before) for row in rows[:SHOWN_MAX]], len(rows), "; ")
        case ForgetDropped(numbers):
            shown = [f"{number}" for number in numbers[:SHOWN_MAX]]
            return f"forget dropped buckets {_listed(shown, len(numbers))}, which are purged on all members"
        case Founded():
            return "the metadata group is complete"
        case _:
            return _asked_of_members(change, before)


def _asked_of_members(change: Change, before: Topology) -> str:
    match change:
        case SetPlan(_, rows):
            return f"the plan: partitions to move: {len(rows)}" if rows else "the plan: nothing is to move"
        case DrainMember(number):
            return f"drain member {_named(number, before)}"
        case RemoveMember(number):
            return f"remove member {_named(number, before)}, which is dead"
        case ReplaceMember(number, by, dead):
            old, new = _named(number, before), _named(by, before)
            return f"replace member {old}{', which is dead,' if dead else ''} by {new}"
        case CancelMoves(partitions) | TakeBack(partitions):
            shown = _listed([f"{each}" for each in partitions[:SHOWN_MAX]], len(partitions))
            return f"cancel moves of partitions {shown}" if partitions else "cancel all moves"
        case SetReplication(count):
            return f"each partition is to have {count} replicas"
        case TakeIn(rows):
            return _listed([_taken_in(row, before) for row in rows[:SHOWN_MAX]], len(rows), "; ")
    return "plan anew who holds what"


def _text(text: str) -> str:
    """In quotes, on one line, and no longer than a line has room for."""
    cut = text[:TEXT_CHARACTERS_MAX]
    return repr(cut) if cut == text else f"{cut!r} and so on"


def _named(number: int, topology: Topology) -> str:
    member = topology.member(number)
    return f"number {number}" if member is None else member.name


def _options(numbers: list[int]) -> str:
    if len(numbers) != len(_OPTIONS):
        return ""
    given = zip(_OPTIONS, numbers, _NO_OPTIONS, strict=True)
    return "".join(f", {name} {value}" for name, value, usual in given if value != usual)


def _facts(change: SetMember) -> str:
    """What is said of a member."""
    texts = {"address": change.address, "zone": change.zone}
    said = [f"{name} {_text(value)}" for name, value in texts.items() if value is not None]
    said += [] if change.weight is None else [f"weight {change.weight}"]
    said += [] if change.standing is None else [f"standing {change.standing}"]
    said += [] if change.store is None else [f"store {change.store[:STORE_BYTES].hex() or 'unknown'}"]
    return ", ".join(said) or "nothing"


def _seats(row: list[int], topology: Topology) -> str:
    try:
        partition, seats = Seats.of_row(row, 0)
    except ValueError:
        return "seats that cannot be read"
    old, new = (
        _listed([_named(each, topology) for each in held[:REPLICATION_MAX]], len(held))
        for held in (seats.old, seats.new)
    )
    if seats.stage is Stage.STILL:
        return f"partition {partition}: still {new}"
    return f"partition {partition}: {seats.stage.name.lower()} {old} -> {new}"


def _taken_in(row: list[int], topology: Topology) -> str:
    if len(row) < 2:
        return "a partition that cannot be read"
    partition, *members = row
    named = _listed([_named(each, topology) for each in members[:REPLICATION_MAX]], len(members))
    return f"partition {partition}: taken in as acceptors again: {named}"


def _listed(shown: list[str], count: int, between: str = ", ") -> str:
    more = [f"and {count - len(shown)} more"] if count > len(shown) else []
    return between.join(shown + more) or "nothing"
