"""Codec: the CBOR form of messages (RFC 8949). Pure: bytes in, messages out, and back.

A frame is an array of runs; a run is an array of a message's number and its fields, and messages of one
kind that follow each other share a run. Two `Status` (number 14, one field `id`) and a `Ping` (40), in
CBOR's diagnostic notation (RFC 8949, section 8):

    [[14, 1, 2], [40, 1500000, 1760000000000, true, h'0a0b0c0d0e0f1011', 7, []]]

Nothing is optional: every field has one type and is always there. What is absent is an empty string of
bytes, what never happens is 0. So a run is checked by comparing one tuple of types with another.

Decoding is strict. Refused are: indefinite lengths, tags, duplicate keys, bytes behind the end, nesting
beyond frame > run > field > row, numbers that `registry` does not know (but for those that may be left
unheard: `Decoder.unheard` names them), fields of another type, more than BATCH_MESSAGES_MAX messages,
and messages whose own `check` finds fault with them. Whatever is refused is a ProtocolError, and whoever
hears one closes the connection. What a message means is not looked at here.

Both sides speak one version of the wire, which they have agreed on: `registry` says what it carries.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol, Self

import cbor2

from basestore.protocol import (
    anti_entropy,
    client,
    feeds,
    groups,
    handshake,
    heartbeats,
    membership,
    operator,
    replication,
)
from basestore.protocol.limits import (
    BATCH_MESSAGES_MAX,
    DEPTH_MAX,
    WIRE_HIGHEST,
    ProtocolError,
    UnknownKind,
)
from basestore.protocol.registry import ADVISORY, NUMBERS, Form, cuts_of, forms_of

# Loading a conversation registers its messages; this list is the only one that a new file must be put on.
CONVERSATIONS: Final = (
    handshake, client, operator, replication, groups, heartbeats, anti_entropy, membership, feeds,
)  # fmt: skip


KEPT_BYTES_MAX: Final = 64 << 10
UNHEARD_MAX: Final = 16


class Message(Protocol):
    """Any message. Structural, because a NamedTuple has no base class of its own; `registry` says which
    classes may travel."""

    @property
    def _fields(self) -> tuple[str, ...]: ...

    def __iter__(self) -> Iterator[Any]: ...

    def _replace(self, *args: Any, **fields: Any) -> Self: ...


def _refuse(*_: object) -> None:
    raise ProtocolError("a message contains a CBOR tag; the protocol uses none")


# Tags that cbor2 would decode by itself; all others reach the hook.
_SEMANTIC: Final = dict.fromkeys(
    (*range(6), *range(25, 38), 100, *range(256, 262), 1004, 43000, 55799), _refuse
)


def encode(messages: Iterable[Message], version: int = WIRE_HIGHEST) -> bytes:
    """One frame's payload. Neighbours of one kind share an array: [kind, fields, fields, ...]."""
    if version < WIRE_HIGHEST:
        return _encode_cut(messages, cuts_of(version))
    runs: list[list[Any]] = []
    kind: type[Any] | None = None
    for message in messages:
        if type(message) is not kind:
            kind = type(message)
            run: list[Any] = [NUMBERS[kind]]
            runs.append(run)
        run += message
    return cbor2.dumps(runs)


def _encode_cut(messages: Iterable[Message], cuts: dict[type[Any], int]) -> bytes:
    """The same for an older version, which carries no more than the beginning of each message. KeyError for
    a kind that it does not carry: who sends that has not asked."""
    runs: list[list[Any]] = []
    kind: type[Any] | None = None
    for message in messages:
        if type(message) is not kind:
            kind = type(message)
            cut = cuts[kind]
            run: list[Any] = [NUMBERS[kind]]
            runs.append(run)
        run += tuple(message)[:cut]
    return cbor2.dumps(runs)


class Decoder:
    """Decodes the frames of one connection, one after the other: a decoder of CBOR is dear to make.
    `unheard`: the first kinds that came and are not known, of those that may be left unheard."""

    __slots__ = ("_decoder", "_forms", "unheard", "version")

    def __init__(self, version: int = WIRE_HIGHEST) -> None:
        self.version = version
        self._forms = forms_of(version)
        self.unheard: set[int] = set()
        self._decoder = cbor2.CBORDecoder(
            io.BytesIO(),
            tag_hook=_refuse,
            semantic_decoders=_SEMANTIC,
            max_depth=DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
        )

    def decode(self, payload: bytes) -> list[Message]:
        """The messages of a frame's payload, each checked; ProtocolError on anything else."""
        source = self._decoder.fp = io.BytesIO(payload)
        try:
            runs = self._decoder.decode()
        except (cbor2.CBORError, ValueError, TypeError, RecursionError) as error:
            raise ProtocolError(f"a frame is not valid CBOR: {error}") from error
        if len(payload) > KEPT_BYTES_MAX:  # it would stay until the next frame
            self._decoder.fp = io.BytesIO()
        if source.tell() != len(payload):
            raise ProtocolError(f"{len(payload) - source.tell()} bytes follow the end of a frame's CBOR")
        if type(runs) is not list:
            raise ProtocolError("a frame is an array of messages")
        if len(runs) == 1:
            return self._messages(runs[0], BATCH_MESSAGES_MAX)
        messages: list[Message] = []
        for run in runs:
            messages += self._messages(run, BATCH_MESSAGES_MAX - len(messages))
        return messages

    def _messages(self, run: Any, room: int) -> list[Any]:
        """The messages of one run; ProtocolError unless they have the form of their kind."""
        if type(run) is not list or not run or type(run[0]) is not int:
            raise ProtocolError("a message is an array that starts with its kind")
        kind = run[0]
        form = self._forms.get(kind)
        if form is not None:
            return _made(form, run, room)
        if kind < ADVISORY:
            raise UnknownKind(kind, self.version)
        if len(self.unheard) < UNHEARD_MAX:
            self.unheard.add(kind)
        return []


def decode(payload: bytes, version: int = WIRE_HIGHEST) -> list[Message]:
    """The messages of one frame's payload, as `Decoder.decode`."""
    return Decoder(version).decode(payload)


def _made(form: Form, run: list[Any], room: int) -> list[Any]:
    """The messages of one run, whose first element says that they have this form."""
    make, types, lists, rows, check, absent = form
    del run[0]
    kinds = tuple(map(type, run))
    # One comparison checks all fields of all messages of the run. `type`, not isinstance: a bool is an int.
    if kinds != types:
        count, rest = divmod(len(run), len(types))
        # Before anything is made in proportion to it.
        if count > room:
            raise ProtocolError(f"a frame has more than {BATCH_MESSAGES_MAX} messages")
        if rest or not count or kinds != types * count:
            raise ProtocolError(f"the fields of a {make.__name__} have the wrong number or types")
    elif not room:
        raise ProtocolError(f"a frame has more than {BATCH_MESSAGES_MAX} messages")
    if rows:
        _make_rows(run, form)
    new = tuple.__new__  # what _make does, less the checks just made
    if absent:
        messages = [new(make, (*fields, *absent)) for fields in zip(*[iter(run)] * len(types), strict=True)]
    elif len(run) == len(types):
        messages = [new(make, run)]
    else:
        messages = [new(make, fields) for fields in zip(*[iter(run)] * len(types), strict=True)]
    for place, element in lists:
        for message in messages:
            if not set(map(type, message[place])) <= {element}:
                raise ProtocolError(f"a list in a {make.__name__} has elements of the wrong type")
    if check is not None and any(map(check, messages)):
        raise ProtocolError(f"a {make.__name__} message {next(filter(None, map(check, messages)))}")
    return messages


def _make_rows(run: list[Any], form: Form) -> None:
    """Make the arrays in fields that are lists of rows into these rows."""
    for place, make, types in form.rows:
        for at in range(place, len(run), len(form.types)):
            rows = run[at]
            if any(type(row) is not list or tuple(map(type, row)) != types for row in rows):
                raise ProtocolError(
                    f"a {make.__name__} in a {form.make.__name__} has fields of the wrong type"
                )
            run[at] = [make._make(row) for row in rows]
