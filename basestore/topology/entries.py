"""Topology entries: the changes of what a cluster is, as they stand in its log.

An entry says what is to change, under which id its sender looks for what became of it, through which member
it came, and when, by that member's clock. Its form is CBOR: a version, these three, the number of the kind,
and the fields of the kind. A change is a NamedTuple of plain values, and lists of them:

    [1, 7731, 3, 1760000000000, 1, "carts", "last-write-wins", [0, 0, 0, 0]]

What is decided must mean the same to every release that reads it, for ever. So a kind's fields never change,
nor do the bounds here: what is to be said otherwise gets another number. What only a later release can mean
is an UnknownEntry, which nobody may pass by. And text is judged by the Unicode of 2002, as names of hosts
are: whether a character prints depends on the Python that one asks.

Says what is wrong with a change whatever the cluster is (`fault`); what is wrong with it as the cluster is,
`topology.py` says when it applies it.
"""

import enum
import hashlib
import re
import unicodedata
from collections.abc import Callable
from types import UnionType
from typing import Any, Final, NamedTuple, TypeVar, get_args, get_origin

import cbor2

from basestore.config import NUMBER_MAX, REQUESTS_PER_S_MAX, BucketOptions
from basestore.protocol.limits import ADDRESS_CHARACTERS_MAX, BUCKET_BYTES_MAX, STALE_MS_MAX
from basestore.repair.rule import Rule
from basestore.repair.seats import Seats

VERSION: Final = 1
ENTRY_BYTES_MAX: Final = 256 << 10
UNNAMED: Final = 0  # the id of an entry that nobody looks for
ID_MAX: Final = (1 << 64) - 1
SETTING_KEY_BYTES_MAX: Final = 256
SETTINGS_BYTES_MAX: Final = 64 << 10  # of all, keys and values
NAME_BYTES_MAX: Final = 64  # of a member, and of a zone
WEIGHT_MAX: Final = 1_000_000
STORE_BYTES: Final = 16
CONTENT_BYTES: Final = 8
_DEPTH_MAX: Final = 3
_NUMBER_MAX: Final = (1 << 63) - 1
_RULES: Final = {rule.value: rule for rule in Rule}
_ADDRESS: Final = re.compile(r"[^ ]+:[0-9]{1,5}")
_UNICODE: Final = unicodedata.ucd_3_2_0
_UNPRINTED: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"))
_TURNING: Final = frozenset("\u061c\u2066\u2067\u2068\u2069")  # what follows; of a later Unicode
KINDS: Final[dict[int, type[Any]]] = {}
_NUMBERS: Final[dict[type[Any], int]] = {}
C = TypeVar("C", bound=type[Any])


class Standing(enum.Enum):
    """Of a member: whether it is to be given seats, keeps them, or gives them up."""

    JOINING = "joining"
    MEMBER = "member"
    DRAINING = "draining"
    DEAD = "dead"
    LEFT = "left"


class BrokenEntry(ValueError):
    """What is no entry of the log, to any release."""


class UnknownEntry(ValueError):
    """An entry that a later release has written: who cannot apply it must not go on without it."""


def changes_what_is_held(data: bytes) -> bool:
    """Whether an entry changes who holds a partition, or takes a bucket away, as far as can be told."""
    try:
        return isinstance(decode_entry(data).change, SetSeats | DropBucket)
    except ValueError:
        return True


_STANDINGS: Final = frozenset(standing.value for standing in Standing)


def _kind(number: int) -> Callable[[C], C]:
    def register(make: C) -> C:
        KINDS[number], _NUMBERS[make] = make, number
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
    take back that it is to be drained."""

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


Change = (
    CreateBucket | DropBucket | SetSetting | UnsetSetting | AddMember | SetMember | SetSeats | Founded
    | ForgetDropped
)  # fmt: skip


OF_USERS: Final = (CreateBucket, DropBucket, SetSetting, UnsetSetting)  # the kinds that they may ask for


class Suggestion(NamedTuple):
    """An entry: a change, the `id` that its sender has drawn for it (UNNAMED: none), through which member it
    came, and when."""

    change: Change
    id: int
    by: int
    wall_ms: int


def options_list(options: BucketOptions) -> list[int]:
    """As an entry has them."""
    degrade_s, defer = options.degrade_s, int(options.defer)
    return [degrade_s, defer, options.requests_per_s, options.key_requests_per_s]


def options_of(numbers: list[int]) -> BucketOptions:
    """Inverse of `options_list`; ValueError."""
    degrade_s, defer, requests_per_s, key_requests_per_s = numbers
    return BucketOptions(degrade_s, bool(defer), requests_per_s, key_requests_per_s)


# --- form ----------------------------------------------------------------------------------------


def encode_entry(said: Suggestion) -> bytes:
    """A ValueError for what `decode_entry` would refuse."""
    fields = (said.id, said.by, said.wall_ms, _NUMBERS[type(said.change)], *said.change)
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
        known = ", ".join(sorted(_RULES))
        _know(change.rule in _RULES, f"rule {change.rule[:64]!r} for a bucket (there are {known})")
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
    left out while it says nothing."""
    data = cbor2.dumps([_NUMBERS[type(change)], *change])
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
            "users may create and drop buckets, and set and unset settings; this is another change, which "
            "the leader alone makes: ask for one of these"
        )
    if wrong := fault(said.change):
        raise BrokenEntry(wrong)
    return said


# --- what is wrong whatever the cluster is -------------------------------------------------------


def prints(text: str) -> bool:
    """Whether it shows as what it is, on one line; spaces in it are plain ones."""
    shown = (each == " " or _UNICODE.category(each) not in _UNPRINTED for each in text)
    return all(shown) and _TURNING.isdisjoint(text)


def fault(change: Change) -> str:
    """What is wrong with a change by itself, and what to do; empty if nothing is."""
    match change:
        case CreateBucket(name, rule, options):
            return wrong_bucket_name(name) or _wrong_options(_RULES[rule], options)
        case DropBucket(name):
            return wrong_bucket_name(name)
        case SetSetting(key, value):
            return _wrong_key(key) or _wrong_value(value)
        case UnsetSetting(key):
            return _wrong_key(key)
        case AddMember(name, address, zone, weight, store):
            return _wrong_member_name(name) or _wrong_member(address, zone, weight, store)
        case SetMember(_, address, zone, weight, _, store):
            return _wrong_member(address, zone, weight, store)
        case SetSeats(rows):
            return _wrong_rows(rows)
    return ""


def wrong_bucket_name(name: str) -> str:
    """What is wrong with a name for a bucket; empty if nothing is."""
    if not 1 <= len(name.encode(errors="replace")) <= BUCKET_BYTES_MAX:
        return f"the name of a bucket has 1 to {BUCKET_BYTES_MAX} bytes: choose another"
    return "" if prints(name) else "the name of a bucket has only characters that print: choose another"


def _wrong_options(rule: Rule, numbers: list[int]) -> str:
    if len(numbers) != len(options_list(BucketOptions())):
        return "the bucket's options are those of another release: leave them out"
    degrade_s, defer, requests_per_s, key_requests_per_s = numbers
    if not 0 <= degrade_s <= STALE_MS_MAX // 1000:
        return f"degrade_s = {degrade_s} must lie between 0 and {STALE_MS_MAX // 1000}"
    if defer not in (0, 1):
        return "defer is 0 or 1"
    if defer and rule.immutable:
        return "defer is for buckets where the last write wins: leave it out, or choose that rule"
    if not all(0 <= each <= REQUESTS_PER_S_MAX for each in (requests_per_s, key_requests_per_s)):
        return f"requests_per_s and key_requests_per_s must lie between 0 and {REQUESTS_PER_S_MAX}"
    if 0 < requests_per_s < key_requests_per_s:
        return "key_requests_per_s is above requests_per_s, and would never be reached: lower it"
    return ""


def _wrong_key(key: str) -> str:
    if not 1 <= len(key.encode(errors="replace")) <= SETTING_KEY_BYTES_MAX:
        return f"the key of a setting has 1 to {SETTING_KEY_BYTES_MAX} bytes: choose another"
    return "" if prints(key) else "the key of a setting has only characters that print: choose another"


def _wrong_value(value: str) -> str:
    if len(value.encode(errors="replace")) > SETTINGS_BYTES_MAX:
        return (
            f"the value of a setting has at most {SETTINGS_BYTES_MAX} bytes, for every node keeps it in "
            f"memory: make it shorter, or keep it under a key of a bucket"
        )
    return ""


def _wrong_member_name(name: str) -> str:
    if not 1 <= len(name.encode(errors="replace")) <= NAME_BYTES_MAX or not prints(name) or " " in name:
        return (
            f"the name of a member has 1 to {NAME_BYTES_MAX} bytes that print, without spaces: choose another"
        )
    return ""


def _wrong_member(address: str | None, zone: str | None, weight: int | None, store: bytes | None) -> str:
    if address is not None and (
        len(address) > ADDRESS_CHARACTERS_MAX or not prints(address) or not _ADDRESS.fullmatch(address)
    ):
        return "the address of a member is host:port, as in 10.0.0.7:7400: correct it"
    if zone is not None and (len(zone.encode(errors="replace")) > NAME_BYTES_MAX or not prints(zone)):
        return f"a zone has at most {NAME_BYTES_MAX} bytes that print: choose another"
    if weight is not None and not 0 <= weight <= WEIGHT_MAX:
        return f"the weight of a member lies between 0, to be given nothing, and {WEIGHT_MAX}: correct it"
    if store is not None and len(store) not in (0, STORE_BYTES):
        return f"the id of a store has {STORE_BYTES} bytes"
    return ""


def _wrong_rows(rows: list[list[int]]) -> str:
    try:
        partitions = [Seats.of_row(row, 0)[0] for row in rows]
    except ValueError:
        return "these are no seats of a partition: ask for the move again"
    if len(set(partitions)) < len(partitions):
        return "a partition is named twice in one change: ask for one step of it at a time"
    return ""
