"""Topology: what a cluster is: its members, who holds which partition, its buckets and its settings.

A frozen value. It is built by the entries of the cluster's log, one after the other, and by nothing else, so
every node that has applied the same entries has the same one. Its *epoch* is the index of the last of them.

    epoch 0     as it was founded, by the configuration file
    epoch 4     bucket "carts" was created: its number is 3, its rows begin with that
    epoch 9     it was dropped: what is held of number 3 is to go
    epoch 12    "carts" was created: number 4

An entry that makes no sense when it comes to be applied (somebody else's came first) changes nothing but the
epoch, and has an error for its outcome. Outcomes are part of the value, the last ones by the ids that their
senders have drawn: so an entry that is said again is applied once, and answered as the first time.

Every release must come to the same value, so the bounds here are part of what is decided (`entries`
says how such things are changed), and nothing is asked of Python that another Python may answer otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import cbor2

from basestore.config import BUILT_IN, MEMBERS_MAX, NUMBER_MAX, UNNUMBERED, BucketOptions
from basestore.repair.rule import Rule
from basestore.repair.seats import Seats
from basestore.topology.entries import (
    OF_USERS,
    SETTINGS_BYTES_MAX,
    UNNAMED,
    AddMember,
    BrokenEntry,
    CreateBucket,
    DropBucket,
    ForgetDropped,
    Founded,
    SetMember,
    SetSeats,
    SetSetting,
    Standing,
    Suggestion,
    UnsetSetting,
    content_of,
    decode_entry,
    fault,
    options_list,
    options_of,
)

VERSION: Final = 1
OUTCOMES_MAX: Final = 1024
BUCKETS_MAX: Final = 1000
DROPPED_MAX: Final = 1000
LABEL_START: Final = b"\0"  # of the labels of buckets that the cluster was not founded with
_LABEL_BYTES: Final = 4
_DEPTH_MAX: Final = 4
OTHER_CHANGE: Final = "another change has this identity, so nothing was done: ask under another"
_INCOMPLETE: Final = (
    "the metadata group is not complete yet: its voters are still being gathered. See `basestore topology`, "
    "start the members that are missing, and try again"
)


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
    dropped may be forgotten."""

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

    # --- what it says ----------------------------------------------------------------------------

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

    def apply(self, index: int, data: bytes) -> "Topology":
        """After this entry, the next. What is an entry to no release is passed by, as every release does;
        UnknownEntry for one of a later release."""
        try:
            said = decode_entry(data)
        except BrokenEntry:
            return self.pass_by(index)
        return self.judged(index, said)[0]

    def judged(self, index: int, said: Suggestion) -> tuple["Topology", Outcome]:
        """After this entry, and what became of it: of one that was said before, what became of it then."""
        passed = self.pass_by(index)
        content, first = content_of(said.change), self.outcomes.get(said.id)
        if first is not None:
            return passed, first.of(content)
        try:
            if said.id != UNNAMED and not self.founded and isinstance(said.change, OF_USERS):
                raise Refused(_INCOMPLETE)
            if wrong := fault(said.change):
                raise Refused(wrong)
            changed, number = _APPLY[type(said.change)](passed, said.change, index)
            outcome = Outcome(index, "", number, content)
        except Refused as refused:
            changed, outcome = passed, Outcome(index, str(refused), UNNUMBERED, content)
        if said.id == UNNAMED:
            return changed, outcome
        outcomes = {**self.outcomes, said.id: outcome}
        if len(outcomes) > OUTCOMES_MAX:
            del outcomes[next(iter(outcomes))]
        return replace(changed, outcomes=outcomes), outcome

    # --- form ------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """As a snapshot has it: CBOR, the same bytes for the same value."""
        members = [[*each[:5], each.standing.value, each.store] for each in self.members]
        buckets = [
            [each.number, each.name, each.rule.value, each.label, *options_list(each.options)]
            for each in sorted(self.buckets.values(), key=lambda bucket: bucket.number)
        ]
        facts = [
            self.epoch, self.cluster, self.replication, self.drift_ms_max, self.timeout_ms_max,
            self.last_bucket, self.founded, self.dropped_since,
        ]  # fmt: skip
        outcomes = [[identity, *outcome] for identity, outcome in self.outcomes.items()]
        return cbor2.dumps([
            VERSION, [facts], members, [each.encoded() for each in self.seats], buckets,
            [list(each) for each in self.dropped], [list(pair) for pair in sorted(self.settings.items())],
            outcomes,
        ])  # fmt: skip

    @classmethod
    def decode(cls, data: bytes) -> "Topology":
        """Inverse of `encode`; ValueError for all that it does not make."""
        try:
            version, *tables = cbor2.loads(data, max_depth=_DEPTH_MAX, allow_indefinite=False)
            if version != VERSION:
                raise ValueError(f"it has version {version!r:.20}, which this release does not know")
            topology = _decoded(tables)
            wrong = _inconsistent(topology)
            if wrong or topology.encode() != data:
                raise ValueError(wrong or "it is not as it would be written")
        except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"this is no topology: {error}") from error
        return topology


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


def _inconsistent(is_: Topology) -> str:
    """What cannot be, for no entry makes it so; empty if nothing is."""
    numbers = [each.number for each in is_.members]
    if not numbers or numbers != sorted(set(numbers)) or not 0 <= numbers[0] <= numbers[-1] <= NUMBER_MAX:
        return "the numbers of its members cannot be"
    able = {each.number for each in _present(is_)}
    if not is_.seats or any(each.wrong(able) or each.since > is_.epoch for each in is_.seats):
        return "its seats cannot be"
    kept = [*(each.number for each in is_.buckets.values()), *(each.number for each in is_.dropped)]
    if len(set(kept)) < len(kept) or not all(0 < each <= is_.last_bucket for each in kept):
        return "the numbers of its buckets cannot be"
    epochs = [outcome.epoch for outcome in is_.outcomes.values()]
    if len(epochs) > OUTCOMES_MAX or max(is_.dropped_since, *epochs, 0) > is_.epoch:
        return "its outcomes cannot be"
    return ""


# --- buckets -------------------------------------------------------------------------------------


def _create_bucket(was: Topology, change: CreateBucket, index: int) -> tuple[Topology, int]:
    name, rule, held = change.name, Rule(change.rule), was.buckets.get(change.name)
    if held is not None and held.rule is rule:
        raise Refused(f"bucket '{name}' exists, with this rule: use it, or drop it first")
    if held is not None:
        raise Refused(
            f"bucket '{name}' exists with rule {held.rule.value}, which it keeps for life: use another name, "
            f"or drop it first, with all that it holds"
        )
    if len(was.buckets) >= BUCKETS_MAX:
        raise Refused(f"there are {BUCKETS_MAX} buckets, and no more are allowed: drop one first")
    number = was.last_bucket + 1
    bucket = Bucket(number, name, rule, later_label(number), options_of(change.options))
    return replace(was, buckets={**was.buckets, name: bucket}, last_bucket=number), number


def _drop_bucket(was: Topology, change: DropBucket, index: int) -> tuple[Topology, int]:
    name, bucket = change.name, was.buckets.get(change.name)
    if name in BUILT_IN:
        raise Refused(f"bucket '{name}' is built in, and cannot be dropped: delete its keys instead")
    if bucket is None:
        raise Refused(f"no bucket is called '{name}': see `basestore bucket list`")
    if len(was.dropped) >= DROPPED_MAX:
        raise Refused(
            f"{DROPPED_MAX} buckets that were dropped are not purged on all members yet: see `basestore "
            f"status`, start the members that are missing, and try again"
        )
    buckets = {each: held for each, held in was.buckets.items() if each != name}
    dropped = (*was.dropped, Dropped(bucket.number, bucket.label, index, name))
    return replace(was, buckets=buckets, dropped=dropped, dropped_since=index), bucket.number


def _forget_dropped(was: Topology, change: ForgetDropped, index: int) -> tuple[Topology, int]:
    gone = set(change.numbers)
    return replace(was, dropped=tuple(each for each in was.dropped if each.number not in gone)), UNNUMBERED


# --- settings ------------------------------------------------------------------------------------


def _set_setting(was: Topology, change: SetSetting, index: int) -> tuple[Topology, int]:
    settings = {**was.settings, change.key: change.value}
    size = sum(len(text.encode()) for pair in settings.items() for text in pair)
    if size > SETTINGS_BYTES_MAX:
        raise Refused(
            f"all settings together would have {size} bytes, and at most {SETTINGS_BYTES_MAX} are allowed, "
            f"for every node keeps them in memory: unset some, or keep this under a key of a bucket"
        )
    return replace(was, settings=settings), UNNUMBERED


def _unset_setting(was: Topology, change: UnsetSetting, index: int) -> tuple[Topology, int]:
    if change.key not in was.settings:
        raise Refused(f"there is no setting '{change.key}': see `basestore settings get`")
    left = {key: text for key, text in was.settings.items() if key != change.key}
    return replace(was, settings=left), UNNUMBERED


# --- members and seats ---------------------------------------------------------------------------


def _present(was: Topology) -> list[MemberEntry]:
    return [each for each in was.members if each.standing is not Standing.LEFT]


def _add_member(was: Topology, change: AddMember, index: int) -> tuple[Topology, int]:
    name, address, zone, weight, store = change
    present, number = _present(was), was.members[-1].number + 1
    if any(each.name == name for each in present):
        raise Refused(f"a member is called '{name}' already: choose another name")
    if any(each.address == address for each in present):
        raise Refused(f"a member is at {address} already: give the new one an address of its own")
    if len(present) >= MEMBERS_MAX:
        raise Refused(f"the cluster has {MEMBERS_MAX} members, and no more are allowed: remove one first")
    if number > NUMBER_MAX:
        raise Refused(f"the numbers of members end at {NUMBER_MAX}, and all were given: found a new cluster")
    added = MemberEntry(number, name, address, zone, weight, Standing.JOINING, store)
    return replace(was, members=(*was.members, added)), number


def _set_member(was: Topology, change: SetMember, index: int) -> tuple[Topology, int]:
    held, address = was.member(change.number), change.address
    if held is None:
        raise Refused(f"no member has the number {change.number}: see `basestore topology`")
    if held.standing is Standing.LEFT:
        raise Refused(f"member {held.name} has left, for good: let it join anew, under another number")
    if any(each.address == address for each in _present(was) if each is not held):
        raise Refused(f"another member is at {address}: give {held.name} an address of its own")
    facts = {name: value for name, value in change._asdict().items() if value is not None}
    if change.standing is not None:
        facts["standing"] = Standing(change.standing)
    new = held._replace(**facts)
    if new.standing is Standing.LEFT and any(held.number in each.both for each in was.seats):
        raise Refused(f"member {held.name} holds partitions yet: drain it first, or have it replaced")
    return replace(was, members=tuple(new if each is held else each for each in was.members)), UNNUMBERED


def _set_seats(was: Topology, change: SetSeats, index: int) -> tuple[Topology, int]:
    seats, able = list(was.seats), {each.number for each in _present(was)}
    for row in change.rows:
        partition, new = Seats.of_row(row, index)
        if not 0 <= partition < len(seats):
            raise Refused(f"there is no partition {partition}: they end at {len(seats) - 1}")
        if wrong := seats[partition].wrong_step(new) or new.wrong(able):
            raise Refused(f"partition {partition}: {wrong}")
        seats[partition] = new
    return replace(was, seats=tuple(seats)), UNNUMBERED


_APPLY: Final[Mapping[type, Callable[[Topology, Any, int], tuple[Topology, int]]]] = {
    CreateBucket: _create_bucket,
    DropBucket: _drop_bucket,
    ForgetDropped: _forget_dropped,
    SetSetting: _set_setting,
    UnsetSetting: _unset_setting,
    AddMember: _add_member,
    SetMember: _set_member,
    SetSeats: _set_seats,
    Founded: lambda was, change, index: (replace(was, founded=True), UNNUMBERED),
}
