"""Topology entries: the changes of what a cluster is, as they stand in its log.

An entry says what is to change (`changes.py`), under which id its sender looks for what became of it, through
which member it came, and when, by that member's clock. Its form is CBOR: a version, these three, the number
of the kind, and the fields of the kind:

    [1, 7731, 3, 1760000000000, 1, "carts", "last-write-wins", [0, 0, 0, 0]]

What is decided must mean the same to every release that reads it, for ever. What only a later release can
mean is an UnknownEntry, which nobody may pass by.

What is wrong with a change whatever the cluster is, `faults.py` says; what is wrong with it as the cluster
is, `judgement.py` says when it is applied.
"""

import hashlib
from types import UnionType
from typing import Any, Final, NamedTuple, get_args, get_origin

import cbor2

from basestore.config import NUMBER_MAX
from basestore.topology.changes import (
    KINDS,
    NUMBERS,
    OF_USERS,
    CancelMoves,
    Change,
    CreateBucket,
    DropBucket,
    SetMember,
    SetSeats,
    Standing,
    TakeBack,
    TakeIn,
)
from basestore.topology.faults import RULES, fault

VERSION: Final = 1
ENTRY_BYTES_MAX: Final = 256 << 10
UNNAMED: Final = 0  # the id of an entry that nobody looks for
ID_MAX: Final = (1 << 64) - 1
CONTENT_BYTES: Final = 8
_DEPTH_MAX: Final = 3
_NUMBER_MAX: Final = (1 << 63) - 1
_STANDINGS: Final = frozenset(standing.value for standing in Standing)


class BrokenEntry(ValueError):
    """What is no entry of the log, to any release."""


class UnknownEntry(ValueError):
    """An entry that a later release has written: who cannot apply it must not go on without it."""


class Suggestion(NamedTuple):
    """An entry: a change, the `id` that its sender has drawn for it (UNNAMED: none), through which member it
    came, and when."""

    change: Change
    id: int
    by: int
    wall_ms: int


def changes_what_is_held(data: bytes) -> bool:
    """Whether an entry changes who holds a partition or is its acceptor, or takes a bucket away, as far as
    can be told."""
    try:
        change = decode_entry(data).change
    except ValueError:
        return True
    binds = isinstance(change, SetMember) and change.store is not None
    return binds or isinstance(change, SetSeats | CancelMoves | DropBucket | TakeIn)


# --- form ----------------------------------------------------------------------------------------


def encode_entry(said: Suggestion) -> bytes:
    """A ValueError for what `decode_entry` would refuse."""
    fields = (said.id, said.by, said.wall_ms, NUMBERS[type(said.change)], *said.change)
    try:
        data = cbor2.dumps([VERSION, *fields])
    except UnicodeEncodeError:
        raise BrokenEntry("it contains text that is not Unicode: correct its encoding") from None
    decode_entry(data)
    return data


def decode_entry(data: bytes) -> Suggestion:
    """Inverse of `encode_entry`. ValueError: BrokenEntry for what is no entry to any release, UnknownEntry
    for what may be one to a later release."""
    if len(data) > ENTRY_BYTES_MAX:
        raise BrokenEntry(
            f"a change has at most {ENTRY_BYTES_MAX} bytes, this has {len(data)}: make it smaller"
        )
    try:
        version, *rest = cbor2.loads(data, max_depth=_DEPTH_MAX, allow_indefinite=False)
        _know(type(version) is not int or version <= VERSION, f"version {version}")
        identity, by, wall_ms, number, *fields = rest
        sizes = ((version, VERSION), (identity, ID_MAX), (by, NUMBER_MAX), (wall_ms, _NUMBER_MAX))
        if not all(type(each) is int and 0 <= each <= most for each, most in sizes) or version < 1:
            raise ValueError("it has another form")
        if type(number) is not int:  # True is as good a key as 1
            raise ValueError("its kind is no number")
        _know(number in KINDS, f"kind {number}")
        change = _change(KINDS[number], fields)
        if cbor2.dumps([version, identity, by, wall_ms, number, *fields]) != data:
            raise ValueError("it is not in the shortest form")
    except UnknownEntry:
        raise
    except (cbor2.CBORError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BrokenEntry(f"this is no entry of the cluster's log: {error}") from error
    return Suggestion(change, identity, by, wall_ms)


def _change(make: type[Any], fields: list[Any]) -> Any:
    """ValueError; UnknownEntry for a word that a later release may know."""
    hints = make.__annotations__
    if len(fields) != len(hints) or not all(map(_fits, hints.values(), fields)):
        raise ValueError("its fields are others")
    change = make(*fields)
    if isinstance(change, CreateBucket):
        known = ", ".join(sorted(RULES))
        _know(change.rule in RULES, f"rule {change.rule[:64]!r} for a bucket (there are {known})")
    if isinstance(change, SetMember):
        _know(change.standing is None or change.standing in _STANDINGS, f"standing {change.standing!r:.64}")
    return change


def _know(known: bool, what: str) -> None:
    if not known:
        raise UnknownEntry(
            f"this release does not know {what}, in a change of what the cluster is: correct it, or run the "
            f"release that wrote it"
        )


def _fits(hint: Any, field: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_fits(each, field) for each in get_args(hint))
    if get_origin(hint) is list:
        (each_hint,) = get_args(hint)
        return type(field) is list and all(_fits(each_hint, each) for each in field)
    return type(field) is hint and (hint is not int or -_NUMBER_MAX <= field <= _NUMBER_MAX)


def content_of(change: Change) -> bytes:
    """By which it is told from others, 8 bytes. The same in every release: what a later one adds is to be
    left out while it says nothing, and what means the same to users is the same."""
    kind = CancelMoves if isinstance(change, TakeBack) else type(change)
    data = cbor2.dumps([NUMBERS[kind], *change])
    return hashlib.blake2b(data, digest_size=CONTENT_BYTES).digest()


def read_suggested(data: bytes) -> Suggestion:
    """An entry that somebody suggests, who is not the leader; ValueError for what must not come into the log:
    all kinds but those of users the leader alone proposes, and what is refused anyway would stand there on
    every node."""
    said = decode_entry(data)
    if said.id == UNNAMED:
        raise BrokenEntry("it has no id: draw one, by which what has become of it is found")
    if not isinstance(said.change, OF_USERS):
        raise BrokenEntry(
            "users may create and drop buckets, set and unset settings, have members added, drained, removed "
            "or replaced, and moves planned or cancelled; this is another change, which the leader alone "
            "makes: ask for one of these"
        )
    if wrong := fault(said.change):
        raise BrokenEntry(wrong)
    return said
