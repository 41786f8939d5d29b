"""Topology entries: the changes of what a cluster is, as they stand in its log.

An entry says what is to change, under which id its sender looks for what became of it, through which member
it came, and when, by that member's clock. Its form is CBOR: a version, these three, the number of the kind,
and the kind's fields. A change is a NamedTuple of plain values, lists of such among them. Whether a change makes
sense, `topology.py` says when it is applied.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import cbor2

VERSION: Final = 1
ENTRY_BYTES_MAX: Final = 256 << 10
UNNAMED: Final = 0  # the id of an entry that nobody looks for
KINDS: Final[dict[int, type[Any]]] = {}
_NUMBERS: Final[dict[type[Any], int]] = {}
C = TypeVar("C", bound=type[Any])


def _kind(number: int) -> Callable[[C], C]:
    def register(make: C) -> C:
        KINDS[number], _NUMBERS[make] = make, number
        return make

    return register


@_kind(1)
class CreateBucket(NamedTuple):
    """`options`: as `BucketOptions` has them, in its order."""

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
    """A member is another way from now on: all that is known of it but its number and name."""

    number: int
    address: str
    zone: str
    weight: int
    standing: str
    store: bytes


@_kind(7)
class SetSeats(NamedTuple):
    """Of each partition that is named: it, the stage, how many members S has, and the members of S and T."""

    rows: list[list[int]]


@_kind(8)
class Founded(NamedTuple):
    """The metadata group has come to its size: from now on it decides what users ask for."""


@_kind(9)
class ForgetDropped(NamedTuple):
    """All members have purged what they held of these buckets, by number."""

    numbers: list[int]


Change = (
    CreateBucket | DropBucket | SetSetting | UnsetSetting | AddMember | SetMember | SetSeats | Founded
    | ForgetDropped
)  # fmt: skip


class Suggestion(NamedTuple):
    """An entry: a change, the `id` that its sender has drawn for it (UNNAMED: none), through which member it
    came, and when."""

    change: Change
    id: int
    by: int
    wall_ms: int


def encode_entry(said: Suggestion) -> bytes:
    return cbor2.dumps([VERSION, said.id, said.by, said.wall_ms, _NUMBERS[type(said.change)], *said.change])


def decode_entry(data: bytes) -> Suggestion:
    """Inverse of `encode_entry`; ValueError."""
    try:
        version, identity, by, wall_ms, number, *fields = cbor2.loads(data)
        if version != VERSION or not all(type(each) is int for each in (identity, by, wall_ms, number)):
            raise ValueError("it has another form")
        make = KINDS[number]
        hints = make.__annotations__
        if len(fields) != len(hints) or not all(map(_fits, hints.values(), fields)):
            raise ValueError("its fields are others")
        if not 0 <= identity < 1 << 64:
            raise ValueError("its id is none")
        return Suggestion(make(*fields), identity, by, wall_ms)
    except (cbor2.CBORError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"this is no entry of the cluster's log: {error}") from error


def _fits(hint: Any, field: Any) -> bool:
    if hint == list[int]:
        return type(field) is list and all(type(each) is int for each in field)
    if hint == list[list[int]]:
        return type(field) is list and all(_fits(list[int], each) for each in field)
    return type(field) is hint
