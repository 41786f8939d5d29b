"""Arguments: what a caller passes, checked, and turned into what messages hold.

Keys, values and prefixes may be `bytes`, or `str`, which is encoded as UTF-8. Times are seconds. What is
wrong is an InvalidRequest that says what is allowed. Shared by all clients, and by the command line. Asks the
environment for endpoints where none are given; otherwise pure.
"""

import enum
import math
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

from basestore.config import parse_address
from basestore.consistency import Level
from basestore.errors import ConfigurationError, InvalidRequest
from basestore.protocol.client import (
    ADD,
    AS_ASKED,
    IF_ABSENT,
    IF_VALUE,
    IF_VERSION,
    NO_CONDITION,
    Delete,
    Get,
    Set,
)
from basestore.protocol.limits import (
    BUCKET_BYTES_MAX,
    KEY_BYTES_MAX,
    STALE_MS_MAX,
    TIMEOUT_MS_MAX,
    TTL_MS_MAX,
    VALUE_BYTES_MAX,
    ttl_text,
)
from basestore.repair.version import Identity, Version
from basestore.results.cluster_view import Scope

T = TypeVar("T")
Data = bytes | str
Condition = tuple[int, bytes]  # of a write, and what is expected, as `Set` has them
Consistency = Level | Literal["any", "one", "quorum", "all", "serial"]
UNCONDITIONAL: Final = (NO_CONDITION, b"")  # of a write that depends on nothing
ADDING: Final = (ADD, b"")
ADDEND_LIMIT: Final = 10**18  # what is added is nearer to 0 than this
TIMEOUT_S_DEFAULT = 5.0
ENDPOINT_DEFAULT = "127.0.0.1:7400"
ENDPOINTS_VARIABLE = "BASESTORE_ENDPOINTS"
PATIENCE_MS_MAX = 24 * 3600 * 1000
Unset = enum.Enum("Unset", "UNSET")  # of a condition that was not given: None stands for what a key lacks
UNSET: Final = Unset.UNSET
_NAMES = {level.name.lower(): level for level in Level}


def level_of(consistency: Consistency | str) -> Level:
    """A level by itself or by its name; InvalidRequest lists the names."""
    if isinstance(consistency, Level):
        return consistency
    level = _NAMES.get(consistency.lower()) if isinstance(consistency, str) else None
    if level is None:
        raise InvalidRequest(f"there is no level {consistency!r}; use {', '.join(_NAMES)}")
    return level


def read_level_of(consistency: Consistency | str) -> Level:
    """A level that one can read at: all but ANY."""
    level = level_of(consistency)
    if level is Level.ANY:
        raise InvalidRequest("level any is for writes; read at one, quorum, all or serial")
    return level


def get_level_of(consistency: Consistency | None, default: Level, max_staleness: float | None) -> Level:
    """The level that a get is made at. A bound on staleness is one on what a single replica answers, and
    so makes it a read at ONE; another level that the call names contradicts it."""
    if max_staleness is None:
        return read_level_of(default if consistency is None else consistency)
    if consistency is None:
        return Level.ONE
    level = read_level_of(consistency)
    if level is not Level.ONE:
        raise InvalidRequest(
            f"a read at {level.name.lower()} is never stale, and max_staleness is for reads at one, which it "
            f"turns into reads at quorum where they may be too stale: give up one of the two"
        )
    return level


def repairs_of(repair: bool, level: Level, max_staleness: float | None) -> bool:
    if not isinstance(repair, bool):
        raise InvalidRequest(f"repair must be True or False, not {repair!r:.80}")
    if not repair and level is not Level.ONE:
        raise InvalidRequest(
            f"a read at level {level.name.lower()} cannot leave replicas that differ as they are, it repairs "
            f"them: read at level one, or let it repair"
        )
    if max_staleness is not None and not repair:
        raise InvalidRequest("max_staleness may need a quorum, which repairs: give up one of the two")
    return repair


def degrade_ms_of(degrade: float | None, level: Level, max_staleness: float | None) -> int:
    """How stale an answer may be that is degraded, as `Get.degrade_ms`."""
    if degrade is None:
        return 0
    if type(degrade) in (int, float) and degrade == 0:
        return AS_ASKED
    degrade_ms = milliseconds("degrade", degrade, STALE_MS_MAX)
    if max_staleness is not None:
        raise InvalidRequest(
            "max_staleness reads at quorum what is too stale at one, and degrade reads at one what cannot be "
            "had at quorum: give up one of the two"
        )
    if level is Level.ONE:
        raise InvalidRequest(
            "a read at one has nothing to be degraded to: leave degrade out, or read at quorum or all"
        )
    return degrade_ms


def defers_of(defer: bool) -> bool:
    if not isinstance(defer, bool):
        raise InvalidRequest(f"defer must be True or False, not {defer!r:.80}")
    return defer


def condition_of(
    if_version: Version | str | Unset, if_absent: bool, if_value: Data | Unset, defer: bool
) -> Condition:
    """What a write in a register depends on, and what is expected, as `Set.condition`."""
    if not isinstance(if_absent, bool):
        raise InvalidRequest(f"if_absent must be True or False, not {if_absent!r:.80}")
    if if_version is UNSET and if_value is UNSET and not if_absent:
        return UNCONDITIONAL
    for what, given in (("version", if_version), ("value", if_value)):
        if given is None:
            raise InvalidRequest(
                f"if_{what} is None: a key that holds nothing has no {what}; use if_absent=True (of set), or "
                f"leave if_{what} out"
            )
    if if_version is not UNSET and if_value is not UNSET:
        raise InvalidRequest("give if_version or if_value, not both: a version already fixes the value")
    if if_absent and (if_version is not UNSET or if_value is not UNSET):
        other = "if_value" if if_version is UNSET else "if_version"
        raise InvalidRequest(f"a write depends on one thing at most: give up if_absent or {other}")
    if defer:
        raise InvalidRequest(
            "a write that is deferred is kept for later, and a condition is about what the key holds now: "
            "give up one of the two"
        )
    if if_version is not UNSET:
        return IF_VERSION, _version_bytes(if_version)
    if if_value is not UNSET:
        return IF_VALUE, bytes_of("value to compare with", if_value, VALUE_BYTES_MAX)
    return IF_ABSENT, b""


def _version_bytes(version: Version | str) -> bytes:
    if not isinstance(version, str | Version):
        raise InvalidRequest(
            f"what a key must hold is named by the version that a receipt or a result carries, or by that as "
            f"text, not by {type(version).__name__}"
        )
    try:
        return (Version.parse(version) if isinstance(version, str) else version).encode()
    except (ValueError, TypeError, struct.error) as error:
        raise InvalidRequest(f"the version to compare with is malformed: {error}") from None


def addend_of(by: int) -> bytes:
    """What is added to a number, in decimal digits."""
    if type(by) is not int or not -ADDEND_LIMIT < by < ADDEND_LIMIT:
        raise InvalidRequest(f"what is added is a whole number, of at most 18 digits, not {by!r:.80}")
    return b"%d" % by


def stale_ms_of(max_staleness: float | None) -> int:
    return 0 if max_staleness is None else milliseconds("max_staleness", max_staleness, STALE_MS_MAX)


def bytes_of(what: str, data: bytes | str, bytes_max: int) -> bytes:
    if type(data) is bytes and len(data) <= bytes_max:
        return data
    if isinstance(data, str):
        data = _utf8(what, data)
    elif not isinstance(data, bytes | bytearray | memoryview):
        raise InvalidRequest(f"the {what} must be bytes or str, not {type(data).__name__}")
    if len(data) > bytes_max:
        raise InvalidRequest(f"the {what} has {len(data)} bytes; at most {bytes_max} are allowed")
    return bytes(data)


def _utf8(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"the {what} cannot be encoded as UTF-8: {error}") from None


def key_bytes(key: bytes | str) -> bytes:
    if type(key) is bytes and 0 < len(key) <= KEY_BYTES_MAX:
        return key
    encoded = bytes_of("key", key, KEY_BYTES_MAX)
    if not encoded:
        raise InvalidRequest(f"the key is empty; 1 to {KEY_BYTES_MAX} bytes are allowed")
    return encoded


def key_columns(bucket: str, keys: Sequence[Data]) -> tuple[str, list[bytes]]:
    """A bucket and keys of it; InvalidRequest if any is wrong."""
    column = _column(keys) or [key_bytes(key) for key in keys]
    sizes = set(map(len, column))
    if min(sizes) == 0 or max(sizes) > KEY_BYTES_MAX:
        column = [key_bytes(key) for key in keys]
    return bucket_of(bucket), column


def value_column(values: Sequence[Data]) -> list[bytes]:
    """Values; InvalidRequest if any is wrong."""
    column = _column(values)
    if column is None or max(map(len, column)) > VALUE_BYTES_MAX:
        column = [bytes_of("value", value, VALUE_BYTES_MAX) for value in values]
    return column


def _column(data: Sequence[Any]) -> list[bytes] | None:
    """These as they are, if they are all `bytes`."""
    return list(data) if set(map(type, data)) == {bytes} else None


def prefix_bytes(prefix: bytes | str) -> bytes:
    return bytes_of("prefix", prefix, KEY_BYTES_MAX)


def after_bytes(after: bytes | str) -> bytes:
    return bytes_of("key to go on after", after, KEY_BYTES_MAX)


def limit_of(limit: int | None) -> float:
    """How many keys a scan may show; infinite without a limit."""
    if limit is None:
        return math.inf
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise InvalidRequest(f"a limit is a whole number of keys, 0 or more, not {limit!r:.80}")
    return limit


def bucket_of(name: str) -> str:
    if type(name) is str and 0 < len(name) <= BUCKET_BYTES_MAX and name.isascii():
        return name
    if not isinstance(name, str) or not 0 < len(_utf8("bucket's name", name)) <= BUCKET_BYTES_MAX:
        raise InvalidRequest(f"a bucket's name is a str of 1 to {BUCKET_BYTES_MAX} bytes, not {name!r:.80}")
    return name


def _is_time(seconds: float) -> bool:
    """True is a number to Python, and 1."""
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < math.inf


def milliseconds(what: str, seconds: float, ms_max: int) -> int:
    """A time in whole milliseconds, at least 1."""
    if not _is_time(seconds):
        raise InvalidRequest(f"the {what} must be a positive number of seconds, not {seconds!r}")
    if seconds > ms_max / 1e3:
        raise InvalidRequest(f"the {what} of {seconds} s is too long; at most {ms_max // 1000} s are allowed")
    return max(1, round(seconds * 1e3))


def identity_of(repeat: Identity | str) -> bytes:
    """What the write that is to be repeated is known by, encoded."""
    if not isinstance(repeat, str | Identity):
        raise InvalidRequest(
            f"what is to be repeated is named by the identity that a receipt or an error carries, or by that "
            f"as text, not by {type(repeat).__name__}"
        )
    try:
        identity = Identity.parse(repeat) if isinstance(repeat, str) else repeat
        return Identity.decode(identity.encode()).encode()
    except (ValueError, TypeError, AttributeError, struct.error) as error:
        raise InvalidRequest(f"the identity to repeat is malformed: {error}") from None


def ttl_ms_of(ttl: float | None) -> int:
    """In milliseconds; 0: for ever."""
    if ttl is None:
        return 0
    if not _is_time(ttl) or ttl * 1e3 > TTL_MS_MAX:
        raise InvalidRequest(ttl_text(f"{ttl!r:.80}"))
    return max(1, round(ttl * 1e3))


def pairs(items: Mapping[Data, Data] | Iterable[tuple[Data, Data]]) -> list[tuple[Data, Data]]:
    """Keys with their values: those of a mapping, or given as pairs. InvalidRequest for the first that is no
    pair, named by its place; nothing has been done then."""
    given = items.items() if isinstance(items, Mapping) else _many("pairs of a key and a value", items)
    listed = []
    for place, pair in enumerate(given):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InvalidRequest(
                f"number {place} of the items, counted from 0, is {pair!r:.80}, and no pair of a key and a "
                f"value; nothing was done"
            )
        listed.append((pair[0], pair[1]))
    return listed


def listed(keys: Iterable[Data]) -> list[Data]:
    """Several keys, in their order."""
    return list(_many("keys", keys))


def _many(what: str, given: Iterable[T]) -> Iterable[T]:
    # A str is iterable too, and bytes are: by letters, which nobody means.
    if isinstance(given, str | bytes | bytearray | memoryview) or not isinstance(given, Iterable):
        raise InvalidRequest(f"{what} are wanted, as a list of them; not {given!r:.80}. Nothing was done")
    return given


def timeout_ms_of(timeout_s: float) -> int:
    return milliseconds("timeout", timeout_s, TIMEOUT_MS_MAX)


def patience(timeout_s: float) -> float:
    """How long to wait for a proof or a repair: up to a day."""
    return milliseconds("timeout", timeout_s, PATIENCE_MS_MAX) / 1e3


def scope_of(bucket: str, key: bytes | str | None, partition: int | None = None) -> Scope:
    """What a survey is about: the partition of a key, or this one, or all."""
    if partition is not None and (type(partition) is not int or partition < 0):
        raise InvalidRequest(f"partitions are counted from 0; there is none called {partition!r}")
    if key is not None and partition is not None:
        raise InvalidRequest("a key is in one partition: name the key or the partition, not both")
    number = -1 if partition is None else partition
    return Scope(bucket_of(bucket), b"" if key is None else key_bytes(key), number)


def check_endpoints(endpoints: Sequence[str] | str | None) -> list[str]:
    """A list of host:port: those given, or (None) those of the environment, or this machine's default;
    InvalidRequest when it is empty or malformed."""
    if endpoints is None:
        endpoints = os.environ.get(ENDPOINTS_VARIABLE, "").replace(",", " ").split() or ENDPOINT_DEFAULT
    listed = [endpoints] if isinstance(endpoints, str) else list(endpoints)
    if not listed:
        raise InvalidRequest("no endpoint is given; name at least one node as host:port")
    for endpoint in listed:
        if not isinstance(endpoint, str):
            raise InvalidRequest(f"an endpoint is a str, as 127.0.0.1:7400, not {endpoint!r:.80}")
        try:
            parse_address(endpoint)
        except ConfigurationError as error:
            raise InvalidRequest(str(error)) from None
    return listed


# --- requests: a partial of one costs a third of what a closure over all its arguments does --------------


def set_request(
    key: bytes | str, value: bytes | str, bucket: str, level: Level, timeout_ms: int, ttl_s: float | None,
    identity: bytes, repeats: bool, defer: bool, condition: Condition, request: int,
) -> Set:  # fmt: skip
    return Set(
        request, bucket_of(bucket), key_bytes(key), bytes_of("value", value, VALUE_BYTES_MAX), int(level),
        timeout_ms, 0 if ttl_s is None else ttl_ms_of(ttl_s), identity, repeats, 0, defer, *condition,
    )  # fmt: skip


def delete_request(
    key: bytes | str, bucket: str, level: Level, timeout_ms: int, identity: bytes, repeats: bool, defer: bool,
    condition: Condition, request: int,
) -> Delete:  # fmt: skip
    return Delete(
        request, bucket_of(bucket), key_bytes(key), int(level), timeout_ms, identity, repeats, 0, defer,
        *condition,
    )  # fmt: skip


def get_request(
    key: bytes | str,
    bucket: str,
    level: Level,
    timeout_ms: int,
    repair: bool,
    staleness: bool,
    max_staleness: float | None,
    degrade: float | None,
    request: int,
) -> Get:
    return Get(
        request, bucket_of(bucket), key_bytes(key), int(level), timeout_ms, b"",
        repairs_of(repair, level, max_staleness), bool(staleness), stale_ms_of(max_staleness),
        degrade_ms_of(degrade, level, max_staleness),
    )  # fmt: skip
