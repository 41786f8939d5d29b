"""Topology: what a cluster is: its members, who holds which partition, its buckets and its settings.

A frozen value. It is built by the entries of the cluster's log, one after the other, and by nothing else, so
every node that has applied the same entries has the same one. Its *epoch* is the index of the last of them.

    epoch 0     as it was founded, by the configuration file
    epoch 4     bucket "carts" was created: its number is 3, its rows begin with that
    epoch 9     it was dropped: what is held of number 3 is to go
    epoch 12    "carts" was created: number 4

What becomes of an entry `judgement.py` says. Outcomes are part of the value, the last ones by the ids that
their senders have drawn.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final, NamedTuple

import cbor2

from basestore.config import NUMBER_MAX, UNNUMBERED, BucketOptions
from basestore.repair.rule import Rule
from basestore.repair.seats import Seats, Stage
from basestore.topology.changes import Standing, options_list, options_of

VERSION: Final = 1  # of its form: nothing is planned, and nothing has ever moved
PLANNED_VERSION: Final = 2  # written of what has moved, too, before it was said who had come when
MOVED_VERSION: Final = 3
BARRED_VERSION: Final = 4  # written while anybody is barred
TAKEN_BACK: Final = ()  # as a goal: that of a move that is to be taken back
OUTCOMES_MAX: Final = 1024
BUCKETS_MAX: Final = 1000
DROPPED_MAX: Final = 1000
LABEL_START: Final = b"\0"  # of the labels of buckets that the cluster was not founded with
OWN_LABEL_START: Final = b"\1"  # likewise of what nodes keep for themselves, and no user can name
_LABEL_BYTES: Final = 4
_DEPTH_MAX: Final = 4
OTHER_CHANGE: Final = "another change has this identity, so nothing was done: ask under another"
_STAYING: Final = frozenset((Standing.JOINING, Standing.MEMBER))


class MemberEntry(NamedTuple):
    """A member as the log has it. `store`: the id of the store that it is known to run on, 16 bytes; empty
    until it is known."""

    number: int
    name: str
    address: str
    zone: str = ""
    weight: int = 1
    standing: Standing = Standing.MEMBER
    store: bytes = b""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A named keyspace with one conflict rule. `label`: what its rows begin with, behind the partition."""

    number: int
    name: str
    rule: Rule
    label: bytes
    options: BucketOptions = field(default_factory=BucketOptions)


class Dropped(NamedTuple):
    """A bucket that is no more: of its rows nothing may be shown, and all are to go."""

    number: int
    label: bytes
    since: int
    name: str


class Outcome(NamedTuple):
    """What became of an entry: the epoch that it made, why it has changed nothing, if it has not, and the
    number that a bucket or member was given by it, if one was. `content`: of what was asked for."""

    epoch: int
    error: str
    number: int = UNNUMBERED
    content: bytes = b""

    def of(self, content: bytes) -> "Outcome":
        """What is answered to who asks for this under the same id: another change does not happen."""
        return self if content == self.content else Outcome(self.epoch, OTHER_CHANGE, UNNUMBERED, content)


class Refused(Exception):
    """A change that makes no sense, in words."""


def later_label(number: int) -> bytes:
    """Of a bucket with this number that the cluster was not founded with: no name begins so."""
    return LABEL_START + number.to_bytes(_LABEL_BYTES)


@dataclass(frozen=True, slots=True)
class Topology:
    """`members` by ascending number; those that have left are among them. `seats` by partition, in members'
    numbers. `founded`: the metadata group has come to its size once. `last_bucket`: the greatest number that
    a bucket was ever given; `dropped_since`: the epoch of the last drop, 0 without one, though what was
    dropped may be forgotten. `plan`: by partition, who is to hold it, as long as others do; TAKEN_BACK: who
    has held it, as long as its move has not ended. `unplanned`: the members have changed, or what is to be
    held, and the leader is to make a plan. `came`: by partition and member, since which epoch it has had its
    seat without a break, where that is not since the founding. `barred`: by partition, the members that are
    no acceptors of it, though they have a seat: they have come to another store, and were not taken in
    since."""

    epoch: int
    cluster: bytes
    replication: int
    drift_ms_max: int
    timeout_ms_max: int
    members: tuple[MemberEntry, ...]
    seats: tuple[Seats, ...]
    buckets: Mapping[str, Bucket]
    last_bucket: int
    dropped: tuple[Dropped, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    founded: bool = False
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    dropped_since: int = 0
    plan: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    unplanned: bool = False
    came: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    barred: Mapping[int, frozenset[int]] = field(default_factory=dict)

    # --- what it says ----------------------------------------------------------------------------

    @property
    def present(self) -> list[MemberEntry]:
        """The members that have not left."""
        return [each for each in self.members if each.standing is not Standing.LEFT]

    @property
    def formers(self) -> dict[int, str]:
        """The members that have left, by number: their names."""
        return {each.number: each.name for each in self.members if each.standing is Standing.LEFT}

    @property
    def dead(self) -> frozenset[int]:
        """The members of whom an operator has said so, by number."""
        return frozenset(each.number for each in self.members if each.standing is Standing.DEAD)

    @property
    def staying(self) -> list[MemberEntry]:
        """Those of them that may be given partitions: they neither are to leave, nor dead."""
        return [each for each in self.members if each.standing in _STAYING and each.weight]

    @property
    def moving(self) -> dict[int, Seats]:
        """The seats of the partitions that are on their way from members to members."""
        return {at: seats for at, seats in enumerate(self.seats) if seats.stage is not Stage.STILL}

    def goal(self, partition: int) -> tuple[int, ...]:
        """Who is to hold it in the end."""
        seats = self.seats[partition]
        return self.plan.get(partition, seats.new) or seats.old

    @property
    def stranded(self) -> dict[int, int]:
        """Of how many partitions members are to be rid, by number, and nothing is under way or planned for
        it: that was cancelled, and of a dead member an operator has to ask for it again."""
        going = {each.number for each in self.members if each.standing.goes}
        if not going or self.unplanned:
            return {}
        moved = self.moving.keys() | self.plan.keys()
        still = (of.old for at, of in enumerate(self.seats) if at not in moved)
        return dict(Counter(number for held in still for number in held if number in going))

    @property
    def rules(self) -> dict[str, Rule]:
        """Of the buckets, by name."""
        return {name: bucket.rule for name, bucket in self.buckets.items()}

    def outcome(self, identity: int) -> Outcome | None:
        """Of the entry with this id, if it is one of the last."""
        return self.outcomes.get(identity)

    def member(self, number: int) -> MemberEntry | None:
        return next((each for each in self.members if each.number == number), None)

    # --- entries ---------------------------------------------------------------------------------

    def pass_by(self, index: int) -> "Topology":
        """After an entry that says nothing of it; ValueError unless it is the next."""
        if index != self.epoch + 1:
            raise ValueError(f"the topology of epoch {self.epoch} goes on with another entry than {index}")
        return replace(self, epoch=index)

    def seated(self, seats: Mapping[int, Seats], index: int) -> "Topology":
        """With these seats, by partition, since this entry. Who gives up its seat is not barred any more."""
        after, came, barred = list(self.seats), dict(self.came), dict(self.barred)
        for at, now in seats.items():
            barred[at] = self.barred.get(at, frozenset()).intersection(now.both)
            before, had = after[at].both, self.came.get(at, {})
            epochs = {each: had.get(each, 0) if each in before else index for each in now.both}
            after[at], came[at] = now, {each: epoch for each, epoch in epochs.items() if epoch}
        return replace(
            self, seats=tuple(after), came={at: of for at, of in came.items() if of},
            barred={at: of for at, of in barred.items() if of},
        )  # fmt: skip

    def barring(self, number: int, index: int) -> "Topology":
        """With this member barred wherever it has a seat, since this entry: its seats it has kept."""
        held = {at: of._replace(since=index) for at, of in enumerate(self.seats) if number in of.both}
        more = {at: self.barred.get(at, frozenset()) | {number} for at in held}
        return replace(self, barred={**self.barred, **more}).seated(held, index)

    def taking_in(self, members: Mapping[int, frozenset[int]], index: int) -> "Topology":
        """With these of each partition not barred there any more, since this entry."""
        left = {at: self.barred.get(at, frozenset()) - of for at, of in members.items()}
        seats = {at: self.seats[at]._replace(since=index) for at in members}
        return replace(self, barred={**self.barred, **left}).seated(seats, index)

    def without_serial(self) -> "Topology":
        """As who knows nothing of serial buckets can read it."""
        buckets = {name: bucket for name, bucket in self.buckets.items() if not bucket.rule.serial}
        plan = {at: goal for at, goal in self.plan.items() if goal != TAKEN_BACK}
        return replace(self, buckets=buckets, barred={}, plan=plan)

    # --- form ------------------------------------------------------------------------------------

    def encode(self, *, moved: bool | None = None) -> bytes:
        """As a snapshot has it: CBOR, the same bytes for the same value. `moved`: with what is said once
        anything has moved; left out: if it has."""
        members = [[*each[:5], each.standing.value, each.store] for each in self.members]
        buckets = [
            [each.number, each.name, each.rule.value, each.label, *options_list(each.options)]
            for each in sorted(self.buckets.values(), key=lambda bucket: bucket.number)
        ]
        facts: list[Any] = [
            self.epoch, self.cluster, self.replication, self.drift_ms_max, self.timeout_ms_max,
            self.last_bucket, self.founded, self.dropped_since,
        ]  # fmt: skip
        outcomes = [[identity, *outcome] for identity, outcome in self.outcomes.items()]
        tables = [
            [facts], members, [each.encoded() for each in self.seats], buckets,
            [list(each) for each in self.dropped], [list(pair) for pair in sorted(self.settings.items())],
            outcomes,
        ]  # fmt: skip
        moved = any(each.since for each in self.seats) if moved is None else moved
        if not (self.plan or self.unplanned or moved):
            return cbor2.dumps([VERSION, *tables])
        plan = [[each, *members] for each, members in sorted(self.plan.items())]
        if not moved:
            return cbor2.dumps([PLANNED_VERSION, *tables, self.unplanned, plan])
        came = [[at, *chain.from_iterable(sorted(of.items()))] for at, of in sorted(self.came.items())]
        if not self.barred:
            return cbor2.dumps([MOVED_VERSION, *tables, self.unplanned, plan, came])
        barred = [[at, *sorted(of)] for at, of in sorted(self.barred.items())]
        return cbor2.dumps([BARRED_VERSION, *tables, self.unplanned, plan, came, barred])

    @classmethod
    def decode(cls, data: bytes) -> "Topology":
        """Inverse of `encode`; ValueError for all that it does not make."""
        try:
            version, *tables = cbor2.loads(data, max_depth=_DEPTH_MAX, allow_indefinite=False)
            if type(version) is not int or not VERSION <= version <= BARRED_VERSION:
                raise ValueError(f"it has version {version!r:.20}, which this release does not know")
            unplanned, plan, *more = tables[len(_FORMS) :] if version > VERSION else (False, [])
            came, barred = more[:1], more[1:]
            topology = replace(
                _decoded(tables[: len(_FORMS)]), unplanned=_truth(unplanned), plan=_decoded_plan(plan),
                came=_decoded_came(*came) if came else {}, barred=_decoded_barred(*barred) if barred else {},
            )  # fmt: skip
            wrong = _inconsistent(topology)
            if wrong or topology.encode(moved=None if came else False) != data:
                raise ValueError(wrong or "it is not as it would be written")
        except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"this is no topology: {error}") from error
        return topology if came else replace(topology, came=_came_at_last(topology))


_FORMS: Final[tuple[tuple[type, ...], ...]] = (
    (int, bytes, int, int, int, int, bool, int),
    (int, str, str, str, int, str, bytes),
    (int, int, bytes, bytes),
    (int, str, str, bytes, int, int, int, int),
    (int, bytes, int, str),
    (str, str),
    (int, int, str, int, bytes),
)


def _decoded(tables: list[Any]) -> Topology:
    """The value of these rows, whatever they say; ValueError unless they have its form."""
    for table, form in zip(tables, _FORMS, strict=True):
        if type(table) is not list or any(tuple(map(type, row)) != form for row in table):
            raise ValueError("its fields are others")
    (facts,), members, seats, buckets, dropped, settings, outcomes = tables
    epoch, cluster, replication, drift_ms_max, timeout_ms_max, last_bucket, founded, dropped_since = facts
    made = [Bucket(row[0], row[1], Rule(row[2]), row[3], options_of(row[4:])) for row in buckets]
    return Topology(
        epoch, cluster, replication, drift_ms_max, timeout_ms_max,
        tuple(MemberEntry(*row)._replace(standing=Standing(row[5])) for row in members),
        tuple(Seats.decoded(*row) for row in seats),
        {bucket.name: bucket for bucket in made}, last_bucket,
        tuple(Dropped(*row) for row in dropped), dict(settings), founded,
        {row[0]: Outcome(*row[1:]) for row in outcomes}, dropped_since,
    )  # fmt: skip


def _truth(told: object) -> bool:
    if type(told) is not bool:
        raise ValueError("its fields are others")
    return told


def _numbers(rows: Any, what: str) -> list[list[int]]:
    if type(rows) is not list or not all(type(row) is list and set(map(type, row)) == {int} for row in rows):
        raise ValueError(f"{what} is another")
    return rows


def _decoded_plan(rows: Any) -> dict[int, tuple[int, ...]]:
    return {partition: tuple(members) for partition, *members in _numbers(rows, "its plan")}


def _decoded_came(rows: Any) -> dict[int, dict[int, int]]:
    told = _numbers(rows, "who has come when")
    return {at: dict(zip(of[::2], of[1::2], strict=True)) for at, *of in told}


def _decoded_barred(rows: Any) -> dict[int, frozenset[int]]:
    return {at: frozenset(members) for at, *members in _numbers(rows, "who is barred")}


def _came_at_last(moved: Topology) -> dict[int, dict[int, int]]:
    """Who has come when, where that is not said: nobody is known to have kept its seat."""
    return {at: dict.fromkeys(of.both, of.since) for at, of in enumerate(moved.seats) if of.since}


def _inconsistent(is_: Topology) -> str:
    """What cannot be, for no entry makes it so; empty if nothing is."""
    numbers = [each.number for each in is_.members]
    if not numbers or numbers != sorted(set(numbers)) or not 0 <= numbers[0] <= numbers[-1] <= NUMBER_MAX:
        return "the numbers of its members cannot be"
    able = {each.number for each in is_.present}
    if not is_.seats or any(each.wrong(able) or each.since > is_.epoch for each in is_.seats):
        return "its seats cannot be"
    if any(not 0 <= at < len(is_.seats) for at in is_.plan):
        return "its plan cannot be"
    going_back = {at for at, goal in is_.plan.items() if goal == TAKEN_BACK}
    goals = (goal for at, goal in is_.plan.items() if at not in going_back)
    if not going_back <= is_.moving.keys() or any(Seats.still(goal).wrong(able) for goal in goals):
        return "its plan cannot be"
    for at, of in is_.came.items():
        seats = is_.seats[at] if 0 <= at < len(is_.seats) else None
        if seats is None or not of or not {*seats.both} >= of.keys():
            return "who has come when cannot be"
        if any(not 0 < epoch <= seats.since for epoch in of.values()):
            return "who has come when cannot be"
    for at, barred in is_.barred.items():
        seats = is_.seats[at] if 0 <= at < len(is_.seats) else None
        if seats is None or not seats.since or not barred or not barred <= {*seats.both}:
            return "who is barred cannot be"
    kept = [*(each.number for each in is_.buckets.values()), *(each.number for each in is_.dropped)]
    if len(set(kept)) < len(kept) or not all(0 < each <= is_.last_bucket for each in kept):
        return "the numbers of its buckets cannot be"
    epochs = [outcome.epoch for outcome in is_.outcomes.values()]
    if len(epochs) > OUTCOMES_MAX or max(is_.dropped_since, *epochs, 0) > is_.epoch:
        return "its outcomes cannot be"
    return ""
