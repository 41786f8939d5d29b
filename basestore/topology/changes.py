"""Topology changes: the kinds of entries by which what a cluster is may change.

A change is a NamedTuple of plain values, and lists of them; each kind has a number, by which entries name it
(`entries.py`). A kind's fields never change, nor do the bounds here, for what is decided must mean the same
to every release: what is to be said otherwise gets another number.

    users ask for         buckets and settings; that a member is added, drained, removed or replaced; by how
                          many each partition is held, that it is planned anew, that moves are taken back
    the leader proposes   seats, the plan of moves, that a member has left, which store a member runs on, who
                          is an acceptor again, and what else it sees to

Says nothing of what is wrong with one: by itself `faults.py` does, as the cluster is `judgement.py`.
"""

import enum
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from basestore.config import BucketOptions

SETTING_KEY_BYTES_MAX: Final = 256
SETTINGS_BYTES_MAX: Final = 64 << 10  # of all, keys and values
NAME_BYTES_MAX: Final = 64  # of a member, and of a zone
WEIGHT_MAX: Final = 1_000_000
STORE_BYTES: Final = 16
KINDS: Final[dict[int, type[Any]]] = {}
NUMBERS: Final[dict[type[Any], int]] = {}
C = TypeVar("C", bound=type[Any])


class Standing(enum.Enum):
    """Of a member: whether it is to be given seats, keeps them, or gives them up."""

    JOINING = "joining"
    MEMBER = "member"
    DRAINING = "draining"
    DEAD = "dead"
    LEFT = "left"

    @property
    def goes(self) -> bool:
        """Whether it is to leave, and has not yet."""
        return self in (Standing.DRAINING, Standing.DEAD)


def _kind(number: int) -> Callable[[C], C]:
    def register(make: C) -> C:
        KINDS[number], NUMBERS[make] = make, number
        return make

    return register


@_kind(1)
class CreateBucket(NamedTuple):
    """`options`: as `BucketOptions` has them, in its order; `defer` as 0 or 1."""

    name: str
    rule: str
    options: list[int]


@_kind(2)
class DropBucket(NamedTuple):
    name: str


@_kind(3)
class SetSetting(NamedTuple):
    key: str
    value: str


@_kind(4)
class UnsetSetting(NamedTuple):
    key: str


@_kind(5)
class AddMember(NamedTuple):
    """It gets the next number. `store`: that it runs on, if it is known."""

    name: str
    address: str
    zone: str
    weight: int
    store: bytes


@_kind(6)
class SetMember(NamedTuple):
    """A member is another way from now on, in all that is not None: so who says that it has moved does not
    take back that it is to be drained. `store`: it is bound to this one. If it was bound to another, that
    has forgotten what it had accepted: the member is barred as an acceptor of each partition in which it has
    a seat, until it is taken in (`TakeIn`)."""

    number: int
    address: str | None = None
    zone: str | None = None
    weight: int | None = None
    standing: str | None = None
    store: bytes | None = None


@_kind(7)
class SetSeats(NamedTuple):
    """Of each partition that is named: it, the stage, how many members S has, and the members of S and T
    (`Seats.row`)."""

    rows: list[list[int]]


@_kind(8)
class Founded(NamedTuple):
    """The metadata group has come to its size: from now on it decides what users ask for."""


@_kind(9)
class ForgetDropped(NamedTuple):
    """All members have purged what they held of these buckets, by number."""

    numbers: list[int]


@_kind(10)
class SetPlan(NamedTuple):
    """Of each partition that is named: it, and the members that are to hold it; the others are to stay as
    they are. `made_at`: the epoch that the plan was made by."""

    made_at: int
    rows: list[list[int]]


@_kind(11)
class DrainMember(NamedTuple):
    """It is to hold nothing any more, and then to leave."""

    number: int


@_kind(12)
class RemoveMember(NamedTuple):
    """It is dead: others are to hold what it held, and nobody waits for it."""

    number: int


@_kind(13)
class ReplaceMember(NamedTuple):
    """Another is to hold exactly what it holds; then it is to leave. `dead`: as RemoveMember has it."""

    number: int
    by: int
    dead: bool


@_kind(14)
class Rebalance(NamedTuple):
    """Who holds what is to be planned anew."""


@_kind(15)
class CancelMoves(NamedTuple):
    """These partitions, or with none named all, are to stay with those that hold them now: they are theirs
    alone at once. Once all members can read it, `TakeBack` is what is decided in its place."""

    partitions: list[int]


@_kind(16)
class SetReplication(NamedTuple):
    """Each partition is to be held by so many members."""

    replicas: int


@_kind(17)
class TakeIn(NamedTuple):
    """Of each partition that is named: it, and the members that were barred there, and are acceptors again
    from now on."""

    rows: list[list[int]]


@_kind(18)
class TakeBack(NamedTuple):
    """These partitions, or with none named all, are to stay with those that hold them now; the leader gives
    back what is under way, once enough of these are known to have what they must. If a move ends first, it
    has ended."""

    partitions: list[int]


Change = (
    CreateBucket | DropBucket | SetSetting | UnsetSetting | AddMember | SetMember | SetSeats | Founded
    | ForgetDropped | SetPlan | DrainMember | RemoveMember | ReplaceMember | Rebalance | CancelMoves
    | SetReplication | TakeIn | TakeBack
)  # fmt: skip


OF_MOVES: Final = (
    AddMember, SetPlan, DrainMember, RemoveMember, ReplaceMember, Rebalance, CancelMoves, SetReplication,
    TakeBack,
)  # fmt: skip
MOVES_SINCE: Final = 11  # version of the wire, and so of the feature level, from which on these are known
OF_USERS: Final = (
    CreateBucket, DropBucket, SetSetting, UnsetSetting, AddMember, DrainMember, RemoveMember, ReplaceMember,
    Rebalance, CancelMoves, SetReplication, TakeBack,
)  # fmt: skip  # the kinds that they may ask for


def options_list(options: BucketOptions) -> list[int]:
    """As an entry has them."""
    degrade_s, defer = options.degrade_s, int(options.defer)
    return [degrade_s, defer, options.requests_per_s, options.key_requests_per_s]


def options_of(numbers: list[int]) -> BucketOptions:
    """Inverse of `options_list`; ValueError."""
    degrade_s, defer, requests_per_s, key_requests_per_s = numbers
    return BucketOptions(degrade_s, bool(defer), requests_per_s, key_requests_per_s)
