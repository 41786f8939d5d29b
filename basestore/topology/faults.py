"""Faults of topology changes: what is wrong with one whatever the cluster is, and what to do about it.

Every release must say the same of a change that is decided. So text is judged by the Unicode of 2002, as
names of hosts are: whether a character prints depends on the Python that one asks.
"""

import re
import unicodedata
from typing import Final

from basestore.config import REQUESTS_PER_S_MAX, BucketOptions
from basestore.protocol.limits import ADDRESS_CHARACTERS_MAX, BUCKET_BYTES_MAX, STALE_MS_MAX
from basestore.repair.rule import Rule
from basestore.repair.seats import SEATS_MAX, Seats
from basestore.topology.changes import (
    NAME_BYTES_MAX,
    SETTING_KEY_BYTES_MAX,
    SETTINGS_BYTES_MAX,
    STORE_BYTES,
    WEIGHT_MAX,
    AddMember,
    CancelMoves,
    Change,
    CreateBucket,
    DropBucket,
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

RULES: Final = {rule.value: rule for rule in Rule}
_ADDRESS: Final = re.compile(r"[^ ]+:[0-9]{1,5}")
_UNICODE: Final = unicodedata.ucd_3_2_0
_UNPRINTED: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"))
_TURNING: Final = frozenset("\u061c\u2066\u2067\u2068\u2069")  # what follows; of a later Unicode


def prints(text: str) -> bool:
    """Whether it shows as what it is, on one line; spaces in it are plain ones."""
    shown = (each == " " or _UNICODE.category(each) not in _UNPRINTED for each in text)
    return all(shown) and _TURNING.isdisjoint(text)


def fault(change: Change) -> str:
    """What is wrong with a change by itself, and what to do; empty if nothing is."""
    match change:
        case CreateBucket(name, rule, options):
            return wrong_bucket_name(name) or _wrong_options(RULES[rule], options)
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
        case SetPlan(_, rows):
            return _wrong_plan(rows)
        case ReplaceMember(number, by, _):
            return "a member cannot be replaced by itself: name another" if number == by else ""
        case CancelMoves(partitions) | TakeBack(partitions):
            twice = len(set(partitions)) < len(partitions)
            return "a partition is named twice: once is enough" if twice else ""
        case SetReplication(count):
            return _wrong_count(count)
        case TakeIn(rows):
            return _wrong_taken_in(rows)
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
    if degrade_s and rule.serial:
        return "degrade_s is for buckets whose reads count replicas, not for registers: leave it out"
    if defer not in (0, 1):
        return "defer is 0 or 1"
    if defer and not rule.plain:
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


def _wrong_plan(rows: list[list[int]]) -> str:
    if any(len(row) < 2 for row in rows) or len({row[0] for row in rows}) < len(rows):
        return "this is no plan: have it made anew"
    return ""


def _wrong_taken_in(rows: list[list[int]]) -> str:
    if any(len(row) < 2 or len(set(row[1:])) < len(row) - 1 for row in rows):
        return "a partition is named without members, or with one twice: name each that is taken in once"
    twice = len({row[0] for row in rows}) < len(rows)
    return "a partition is named twice in one change: name all its members at once" if twice else ""


def _wrong_count(count: int) -> str:
    if not 1 <= count <= SEATS_MAX:
        return f"each partition can have 1 to {SEATS_MAX} replicas: choose another number"
    return ""
