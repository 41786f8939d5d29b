"""What clients and nodes say to each other, and its CBOR form.

A frame carries an array of messages; a message is an array of its kind and its fields, and those of
one kind that follow each other share an array. Every field has one type, so a message is checked by
comparing types, and nothing is ever missing: absent versions and records are empty strings of bytes,
"never" is 0. Pure: bytes in, messages out.

Decoding is strict (RFC 8949, section 5): no indefinite lengths, no duplicate keys, no tags, no
trailing bytes, nesting up to `DEPTH_MAX`. Whatever fails is a `ProtocolError`; the connection that
said it is closed.
"""

import io
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeAlias, get_args, get_origin, get_type_hints

import cbor2

from basestore.protocol.anti_entropy import (
    Abort,
    Ask,
    Certify,
    Entries,
    Going,
    Listing,
    Same,
    Sums,
    Syn,
    Taken,
    Want,
)
from basestore.protocol.client import Delete, Failed, Get, Got, Page, Scan, Set, Written
from basestore.protocol.handshake import Differs, Hello, Refused, Welcome
from basestore.protocol.heartbeats import Confirmed, Identity, Ping, Pong, Remembered
from basestore.protocol.limits import BATCH_MESSAGES_MAX, DEPTH_MAX, ProtocolError
from basestore.protocol.operator import (
    Counters,
    Explain,
    Explained,
    HintPiles,
    HintsOf,
    Inspect,
    Inspected,
    NodeStatus,
    Replay,
    Status,
    Survey,
    Surveyed,
    Trace,
    Traced,
)
from basestore.protocol.replication import (
    Applied,
    Apply,
    Held,
    HeldDigest,
    Hinted,
    Keep,
    Kept,
    Range,
    Read,
    ReadRange,
    Rejected,
    Settled,
    Superseded,
)

Message: TypeAlias = (
    Hello | Welcome | Refused | Differs | Set | Delete | Get | Scan | Status | Written | Got | Page
    | NodeStatus | Failed | Apply | Applied | Superseded | Rejected | Read | Held | HeldDigest | ReadRange
    | Range | Explain | HintsOf | Replay | Counters | Explained | HintPiles | Trace | Traced
    | Ping | Pong | Identity | Remembered | Confirmed | Keep | Kept | Settled | Syn | Same | Sums | Ask
    | Listing | Want | Entries | Taken | Certify | Abort | Going | Hinted | Survey | Surveyed | Inspect
    | Inspected
)  # fmt: skip


# What may travel, by the number that says so on the wire.
KINDS: Final[dict[int, type[Any]]] = {
    1: Hello,
    2: Welcome,
    3: Refused,
    4: Differs,
    10: Set,
    11: Delete,
    12: Get,
    13: Scan,
    14: Status,
    15: Explain,
    16: HintsOf,
    17: Replay,
    18: Counters,
    19: Survey,
    20: Written,
    21: Got,
    22: Page,
    23: NodeStatus,
    24: Failed,
    25: Explained,
    26: HintPiles,
    27: Surveyed,
    30: Apply,
    31: Applied,
    32: Superseded,
    33: Rejected,
    34: Read,
    35: Held,
    36: ReadRange,
    37: Range,
    38: HeldDigest,
    40: Ping,
    41: Pong,
    42: Identity,
    43: Remembered,
    44: Confirmed,
    45: Trace,
    46: Traced,
    47: Settled,
    48: Hinted,
    49: Inspect,
    39: Inspected,
    50: Syn,
    51: Same,
    52: Sums,
    53: Ask,
    54: Listing,
    55: Want,
    56: Entries,
    57: Taken,
    58: Certify,
    59: Abort,
    60: Going,
}


class _Form(NamedTuple):
    """How a kind of message is checked: the types of its fields, and of its lists' elements."""

    make: type[Any]
    types: tuple[type, ...]
    lists: tuple[tuple[int, type], ...]


def _form(kind: type[Any]) -> _Form:
    hints = get_type_hints(kind)
    fields = [hints[name] for name in kind._fields]
    lists = tuple((at, get_args(hint)[0]) for at, hint in enumerate(fields) if get_origin(hint))
    return _Form(kind, tuple(get_origin(hint) or hint for hint in fields), lists)


_FORMS: Final = {number: _form(kind) for number, kind in KINDS.items()}


_NUMBERS: Final = {kind: number for number, kind in KINDS.items()}


def _refuse(*_: object) -> None:
    raise ProtocolError("a message contains a CBOR tag; the protocol uses none")


# Tags that cbor2 would decode by itself; all others reach the hook.
_SEMANTIC: Final = dict.fromkeys(
    (*range(6), *range(25, 38), 100, *range(256, 262), 1004, 43000, 55799), _refuse
)


def encode(messages: Iterable[Message]) -> bytes:
    """One frame's payload. Neighbours of one kind share an array: [kind, fields, fields, ...]."""
    runs: list[list[Any]] = []
    kind: type[Any] | None = None
    for message in messages:
        if type(message) is not kind:
            kind = type(message)
            run: list[Any] = [_NUMBERS[kind]]
            runs.append(run)
        run += message
    return cbor2.dumps(runs)


def decode(payload: bytes) -> list[Message]:
    """The messages of a frame's payload, each checked; ProtocolError on anything else."""
    source = io.BytesIO(payload)
    try:
        runs = cbor2.CBORDecoder(
            source,
            tag_hook=_refuse,
            semantic_decoders=_SEMANTIC,
            max_depth=DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        ).decode()
    except (cbor2.CBORError, ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"a frame is not valid CBOR: {error}") from error
    if source.tell() != len(payload):
        raise ProtocolError(f"{len(payload) - source.tell()} bytes follow the end of a frame's CBOR")
    if type(runs) is not list:
        raise ProtocolError("a frame is an array of messages")
    messages: list[Message] = []
    for run in runs:
        messages += _messages(run, BATCH_MESSAGES_MAX - len(messages))
    return messages


def _messages(run: Any, room: int) -> Iterable[Message]:
    """The messages of one array; ProtocolError unless their fields have the types of their kind."""
    if type(run) is not list or not run or type(run[0]) is not int:
        raise ProtocolError("a message is an array that starts with its kind")
    form = _FORMS.get(run[0])
    if form is None:
        raise ProtocolError(f"there is no message of kind {run[0]}; the other side may be newer")
    make, types, lists = form
    del run[0]
    count, rest = divmod(len(run), len(types))
    if count > room:
        raise ProtocolError(f"a frame has more than {BATCH_MESSAGES_MAX} messages")
    if rest or not count or tuple(map(type, run)) != types * count:
        raise ProtocolError(f"the fields of a {make.__name__} have the wrong number or types")
    new = tuple.__new__  # what _make does, less the checks just made
    messages = [new(make, fields) for fields in zip(*[iter(run)] * len(types), strict=True)]
    for at, element in lists:
        for message in messages:
            if element is not Any and not set(map(type, message[at])) <= {element}:
                raise ProtocolError(f"a list in a {make.__name__} has elements of the wrong type")
    return messages
