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
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from basestore.cluster.seats import Seats, Stage
from basestore.cluster.topology_entries import (
    UNNAMED,
    AddMember,
    CreateBucket,
    DropBucket,
    ForgetDropped,
    Founded,
    SetMember,
    SetSeats,
    SetSetting,
    UnsetSetting,
    decode_entry,
)
from basestore.config import BUILT_IN, MEMBERS_MAX, NUMBER_MAX, REPLICATION_MAX, BucketOptions
from basestore.protocol.limits import BUCKET_BYTES_MAX
from basestore.repair.rule import Rule

OUTCOMES_MAX: Final = 1024
BUCKETS_MAX: Final = 1000
SETTINGS_BYTES_MAX: Final = 64 << 10
SETTING_KEY_BYTES_MAX: Final = 256
LABEL_START: Final = b"\0"  # of the labels of buckets that the cluster was not founded with
_LABEL_BYTES: Final = 4
_INCOMPLETE: Final = (
    "the metadata group is not complete yet: its voters are still being gathered. See `basestore topology`, "
    "start the members that are missing, and try again"
)


class Standing(enum.Enum):
    """Of a member: whether it is to be given seats, keeps them, or gives them up."""

    JOINING = "joining"
    MEMBER = "member"
    DRAINING = "draining"
    DEAD = "dead"
    LEFT = "left"


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
    """What became of an entry: the epoch that it made, and why it has changed nothing, if it has not."""

    epoch: int
    error: str


class Refused(Exception):
    """A change that makes no sense, in words."""


def later_label(number: int) -> bytes:
    """Of a bucket with this number that the cluster was not founded with: no name begins so."""
    return LABEL_START + number.to_bytes(_LABEL_BYTES)


@dataclass(frozen=True, slots=True)
class Topology:
    """`members` by ascending number; those that have left are among them. `seats` by partition, in members'
    numbers. `founded`: the metadata group has come to its size once. `last_bucket`: the greatest number that
    a bucket was ever given."""

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

    # --- what it says ----------------------------------------------------------------------------

    def since(self, partition: int) -> int:
        """The epoch that last changed who holds it."""
        return self.seats[partition].since

    @property
    def dropped_since(self) -> int:
        """The epoch of the last drop that is not forgotten; 0 without one."""
        return max((each.since for each in self.dropped), default=0)

    def outcome(self, identity: int) -> Outcome | None:
        """Of the entry with this id, if it is one of the last."""
        return self.outcomes.get(identity)

    def member(self, number: int) -> MemberEntry | None:
        return next((each for each in self.members if each.number == number), None)

    # --- entries ---------------------------------------------------------------------------------

    def pass_by(self, index: int) -> "Topology":
        """After an entry that says nothing of it."""
        return replace(self, epoch=index)

    def apply(self, index: int, data: bytes) -> "Topology":
        """After this entry; ValueError where it is none."""
        change, identity, _, _ = decode_entry(data)
        if identity != UNNAMED and identity in self.outcomes:
            return self.pass_by(index)
        try:
            if identity != UNNAMED and not self.founded:
                raise Refused(_INCOMPLETE)
            changed, error = _APPLY[type(change)](self, change, index), ""
        except Refused as refused:
            changed, error = self, str(refused)
        if identity == UNNAMED:
            return replace(changed, epoch=index)
        outcomes = {**self.outcomes, identity: Outcome(index, error)}
        if len(outcomes) > OUTCOMES_MAX:
            del outcomes[next(iter(outcomes))]
        return replace(changed, epoch=index, outcomes=outcomes)


def options_of(numbers: list[int]) -> BucketOptions:
    """As an entry has them; TypeError."""
    degrade_s, defer, requests_per_s, key_requests_per_s = numbers
    return BucketOptions(degrade_s, bool(defer), requests_per_s, key_requests_per_s)


# --- buckets -------------------------------------------------------------------------------------


def _create_bucket(was: Topology, change: CreateBucket, index: int) -> Topology:
    name = change.name
    wrong = wrong_bucket_name(name)
    if wrong:
        raise Refused(wrong)
    try:
        rule, options = Rule(change.rule), options_of(change.options)
    except (ValueError, TypeError):
        raise Refused(
            f"bucket {name!r} is to have a rule or options that this release does not know"
        ) from None
    held = was.buckets.get(name)
    if held is not None:
        if held.rule is rule:
            raise Refused(f"bucket {name!r} exists: use it, or drop it first")
        raise Refused(
            f"bucket {name!r} exists with rule {held.rule.value}, which it keeps for life: use another name, "
            f"or drop it first, with all that it holds"
        )
    if len(was.buckets) >= BUCKETS_MAX:
        raise Refused(f"there are {BUCKETS_MAX} buckets, and no more are allowed: drop one first")
    number = was.last_bucket + 1
    bucket = Bucket(number, name, rule, later_label(number), options)
    return replace(was, buckets={**was.buckets, name: bucket}, last_bucket=number)


def wrong_bucket_name(name: str) -> str:
    """What is wrong with a name for a bucket; empty if nothing is."""
    if not 1 <= len(name.encode(errors="replace")) <= BUCKET_BYTES_MAX:
        return f"bucket names have 1 to {BUCKET_BYTES_MAX} bytes"
    return "" if name.isprintable() else "the name of the bucket has a character that does not print"


def _drop_bucket(was: Topology, change: DropBucket, index: int) -> Topology:
    name, bucket = change.name, was.buckets.get(change.name)
    if name in BUILT_IN:
        raise Refused(f"bucket {name!r} is built in, and cannot be dropped: delete its keys instead")
    if bucket is None:
        names = ", ".join(sorted(was.buckets))
        raise Refused(f"no bucket is called {name!r}; the cluster has {names}")
    if len(was.dropped) >= BUCKETS_MAX:
        raise Refused(
            f"{BUCKETS_MAX} buckets that were dropped are not purged on all members yet: see `basestore "
            f"status`, start the members that are missing, and try again"
        )
    buckets = {each: held for each, held in was.buckets.items() if each != name}
    dropped = (*was.dropped, Dropped(bucket.number, bucket.label, index, name))
    return replace(was, buckets=buckets, dropped=dropped)


def _forget_dropped(was: Topology, change: ForgetDropped, index: int) -> Topology:
    gone = set(change.numbers)
    return replace(was, dropped=tuple(each for each in was.dropped if each.number not in gone))


# --- settings ------------------------------------------------------------------------------------


def _set_setting(was: Topology, change: SetSetting, index: int) -> Topology:
    if (
        not 1 <= len(change.key.encode(errors="replace")) <= SETTING_KEY_BYTES_MAX
        or not change.key.isprintable()
    ):
        raise Refused(f"the key of a setting has 1 to {SETTING_KEY_BYTES_MAX} bytes that print")
    settings = {**was.settings, change.key: change.value}
    size = sum(len(text.encode(errors="replace")) for pair in settings.items() for text in pair)
    if size > SETTINGS_BYTES_MAX:
        raise Refused(
            f"all settings together would have {size} bytes, and at most {SETTINGS_BYTES_MAX} are allowed, "
            f"for every node keeps them in memory: unset some, or keep this under a key"
        )
    return replace(was, settings=settings)


def _unset_setting(was: Topology, change: UnsetSetting, index: int) -> Topology:
    if change.key not in was.settings:
        raise Refused(f"there is no setting {change.key!r}")
    return replace(was, settings={key: text for key, text in was.settings.items() if key != change.key})


# --- members and seats ---------------------------------------------------------------------------


def _add_member(was: Topology, change: AddMember, index: int) -> Topology:
    present = [each for each in was.members if each.standing is not Standing.LEFT]
    number = was.members[-1].number + 1 if was.members else 1
    if any(each.name == change.name for each in present):
        raise Refused(f"a member is called {change.name!r} already: choose another name")
    if any(each.address == change.address for each in present):
        raise Refused(f"a member is at {change.address} already: give the new one an address of its own")
    if len(present) >= MEMBERS_MAX:
        raise Refused(f"the cluster has {MEMBERS_MAX} members, and no more are allowed")
    if number > NUMBER_MAX:
        raise Refused(f"the numbers of members end at {NUMBER_MAX}, and all were given: found a new cluster")
    if change.weight < 1:
        raise Refused("the weight of a member is 1 or more")
    added = MemberEntry(
        number, change.name, change.address, change.zone, change.weight, Standing.JOINING, change.store
    )
    return replace(was, members=(*was.members, added))


def _set_member(was: Topology, change: SetMember, index: int) -> Topology:
    held = was.member(change.number)
    if held is None:
        raise Refused(f"no member has the number {change.number}")
    try:
        standing = Standing(change.standing)
    except ValueError:
        raise Refused(f"a member cannot be {change.standing!r} in this release") from None
    others = (each for each in was.members if each is not held and each.standing is not Standing.LEFT)
    if any(each.address == change.address for each in others):
        raise Refused(f"another member is at {change.address}: give {held.name} an address of its own")
    if change.weight < 1:
        raise Refused("the weight of a member is 1 or more")
    _, address, zone, weight, _, store = change
    new = held._replace(address=address, zone=zone, weight=weight, standing=standing, store=store)
    return replace(was, members=tuple(new if each is held else each for each in was.members))


def _set_seats(was: Topology, change: SetSeats, index: int) -> Topology:
    seats = list(was.seats)
    able = {each.number for each in was.members if each.standing is not Standing.LEFT}
    for row in change.rows:
        if len(row) < 3 or not 0 <= row[0] < len(seats) or row[1] not in tuple(Stage) or row[2] < 0:
            raise Refused("seats of a partition that there is not")
        partition, stage, count, *members = row
        new = Seats(index, Stage(stage), tuple(members[:count]), tuple(members[count:]))
        if wrong := _wrong_step(seats[partition], new, able):
            raise Refused(f"partition {partition}: {wrong}")
        seats[partition] = new
    return replace(was, seats=tuple(seats))


def _wrong_step(was: Seats, new: Seats, able: set[int]) -> str:
    """Why seats cannot become these now; empty if they can: from still to fill, from fill to joint, from
    joint to still; and from fill and joint back."""
    for members in (new.old, new.new):
        if (
            not 1 <= len(members) <= REPLICATION_MAX
            or len(set(members)) < len(members)
            or not able >= set(members)
        ):
            return "names members that cannot hold it together"
    if was.stage is Stage.STILL:
        if new.stage is Stage.FILL and new.old == was.old:
            return ""
        return "its seats are still: the next stage is to fill"
    if new.stage is Stage.STILL and new.old == new.new:
        back, on = new.old == was.old, was.stage is Stage.JOINT and new.old == was.new
        return (
            "" if back or on else "its seats can become still as they were, or, from joint, as they are to be"
        )
    if was.stage is Stage.FILL and new.stage is Stage.JOINT and (new.old, new.new) == (was.old, was.new):
        return ""
    return "this is no next stage of its seats"


def _found(was: Topology, change: Founded, index: int) -> Topology:
    return replace(was, founded=True)


_APPLY: Final[Mapping[type, Callable[[Topology, Any, int], Topology]]] = {
    CreateBucket: _create_bucket,
    DropBucket: _drop_bucket,
    ForgetDropped: _forget_dropped,
    SetSetting: _set_setting,
    UnsetSetting: _unset_setting,
    AddMember: _add_member,
    SetMember: _set_member,
    SetSeats: _set_seats,
    Founded: _found,
}
