"""Transcripts: what was said in a world, line by line, held against a text file.

    def test_a_write_reaches_all(transcript: Transcribe) -> None:
        world = World(3)
        with transcript(world) as scene:
            scene("n1 takes a write at QUORUM")
            world.put(0, "k", "v")

The file stands in the folder `transcripts` beside the test's module and has the test's name.
`pytest --update` writes it anew; what it then holds is reviewed as a change of code is:

    # n1 takes a write at QUORUM
    client -> n1      Set(id=1, bucket='default', key='k', value='v', level=QUORUM, timeout_ms=1000)
    n1     -> n2      Apply(id=1.1, row=default/k, record='v' by n1 at +0.199s, deadline_ms=+1.199s)

What is 0, False or empty is left out. Times and stamps count from the beginning of the world; a stamp that is
told as the distance to a partition's stable stamp, from there (`closed=stable+2.100s`). Bytes that mean
nothing to a reader (names of stores, digests, seals) are numbered as they come up, with their length: the
same number is the same bytes. Heartbeats are left out unless they are asked for.
"""

import difflib
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from basestore.consistency import Level, ReplicaState
from basestore.protocol.client import FINAL, OUTCOME_LOST, OUTCOME_SUPERSEDED, PROVISIONAL
from basestore.protocol.codec import Message
from basestore.protocol.heartbeats import Ping, Pong
from basestore.protocol.replication import COPY
from basestore.repair.version import (
    COUNTER_BITS,
    HEAD_BYTES,
    IDENTITY_BYTES,
    PROPOSAL_BYTES,
    RECORD_BYTES_MIN,
    VERSION_BYTES,
    Record,
    Version,
)
from basestore.repair.version import is_tombstone as deleted
from tests.worlds.world import BORN_S, WALL_MS, Sent, World

HEARTBEATS = (Ping, Pong)
LIST_MAX = 6
TEXT_MAX = 24
HEX_MAX = 4
REQUEST_BITS = 40  # of an id; the bits above count the starts of nodes
DAY_MS = 86_400_000
NAMED = {  # numbers that stand for words, by the field's name
    "level": {level.value: level.name for level in Level},
    "way": {COPY: "COPY"},
    "outcome": {OUTCOME_SUPERSEDED: "SUPERSEDED", OUTCOME_LOST: "LOST"},
    "final": {PROVISIONAL: "PROVISIONAL", FINAL: "FINAL"},
    "mine": {-1: "none"},
    "theirs": {-1: "none"},
    "complete": {-1: "whole"},
    "closed": {-1: "untold"},
    "stale_ms": {-1: "unknown"},
}


class Scene(Protocol):
    """Called, it begins a new scene of the transcript under a title."""

    def __call__(self, title: str) -> None: ...


class Transcribe(Protocol):
    """Begins the transcript of a world; its end holds it against the file."""

    def __call__(
        self, world: World, without: Collection[type[Message]] = HEARTBEATS
    ) -> AbstractContextManager[Scene]: ...


class Transcript:
    """The lines of one world."""

    def __init__(self, world: World, without: Collection[type[Message]]) -> None:
        self._world = world
        self._without = tuple(without)
        self._numbers: dict[bytes, int] = {}
        self._heard_s = world.monotonic
        self.lines: list[str] = []

    def scene(self, title: str) -> None:
        self.lines += [*([""] if self.lines else []), f"# {title}"]

    def hear(self, sent: Sent) -> None:
        if isinstance(sent.message, self._without):
            return
        if self._world.monotonic != self._heard_s:
            self._heard_s = self._world.monotonic
            self.lines.append(f"  {self._heard_s - BORN_S:+.3f}s")
        ends = f"{self._name(sent.source):6} -> {self._name(sent.target):6}"
        self.lines.append(f"{ends}  {self._tuple(sent.message)}{'   (lost)' if sent.lost else ''}")

    def _name(self, end: int) -> str:
        return "client" if end < 0 else self._world.cluster.members[end].name

    def _tuple(self, message: Message) -> str:
        fields = zip(message._fields, message, strict=True)
        return f"{type(message).__name__}({', '.join(self._field(*field) for field in fields if field[1])})"

    def _field(self, name: str, value: object) -> str:
        if isinstance(value, int) and value in NAMED.get(name, {}):
            return f"{name}={NAMED[name][value]}"
        if name == "closed" and isinstance(value, int) and not self._is_stamp(value):
            return f"closed=stable{(value >> COUNTER_BITS) / 1000:+.3f}s"
        if name == "replicas" and isinstance(value, list):
            names = self._world.cluster.names
            states = zip(value[::2], value[1::2], strict=True)
            return (
                f"replicas=[{', '.join(f'{names[at]} {ReplicaState(state).name}' for at, state in states)}]"
            )
        return name if value is True else f"{name}={self._value(value)}"

    def _value(self, value: object) -> str:
        if isinstance(value, bytes):
            return self._bytes(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return self._number(value)
        if isinstance(value, list | tuple):
            shown = [self._value(element) for element in value[:LIST_MAX]]
            rest = [f"... {len(value)} in all"] if len(value) > LIST_MAX else []
            return f"[{', '.join(shown + rest)}]"
        return repr(value)

    def _bytes(self, data: bytes) -> str:
        if self._is_stamp(int.from_bytes(data[:8])):
            if len(data) == VERSION_BYTES:
                return self._version(data)
            if len(data) == HEAD_BYTES:
                return f"head of what came by {self._version(data[:VERSION_BYTES])}"
            if len(data) >= RECORD_BYTES_MIN:
                value = "deletion" if deleted(data) else self._bytes(Record(data).value)
                return f"{value} by {self._version(data[:VERSION_BYTES])}"
        if len(data) == IDENTITY_BYTES and self._is_stamp(int.from_bytes(data[PROPOSAL_BYTES:][:8])):
            return self._version(data[PROPOSAL_BYTES:][:VERSION_BYTES])
        return self._row(data) or self._text(data)

    def _version(self, data: bytes) -> str:
        stamp, origin, _ = Version.decode(data)
        name = self._world.cluster.names[(origin >> 48) - 1] if origin >> 48 else "nobody"
        return f"{name} at {self._number(stamp)}"

    def _row(self, data: bytes) -> str:
        """bucket/key, if these bytes are the row of a key."""
        bucket, key = (
            data[3 : 3 + data[2]] if len(data) > 3 else b"",
            data[3 + data[2] :] if len(data) > 3 else b"",
        )
        known = bucket.decode("ascii", "replace") in self._world.cluster.buckets
        if known and self._world.placement.row(bucket, key) == data:
            return f"{bucket.decode()}/{key.decode('ascii', 'backslashreplace')}"
        return ""

    def _text(self, data: bytes) -> str:
        if len(data) <= TEXT_MAX and data.isascii() and data.decode().isprintable():
            return repr(data.decode())
        if len(data) <= HEX_MAX:
            return f"0x{data.hex()}"
        number = self._numbers.setdefault(data, len(self._numbers) + 1)
        return f"#{number}({len(data)})"

    def _number(self, number: int) -> str:
        for milliseconds, counter in ((number, 0), (number >> COUNTER_BITS, number & 0xFFFF)):
            since_ms = milliseconds - WALL_MS - round(BORN_S * 1000)
            if abs(since_ms) < DAY_MS:
                return f"{since_ms / 1000:+.3f}s" + (f".{counter}" if counter else "")
        if number >= 1 << REQUEST_BITS:
            return f"{number >> REQUEST_BITS}.{number & (1 << REQUEST_BITS) - 1}"
        return str(number)

    def _is_stamp(self, number: int) -> bool:
        return self._number(number).startswith(("+", "-"))


def transcriber(file: Path, *, update: bool) -> Transcribe:
    """What the fixture `transcript` gives to the test whose transcript stands in this file."""

    @contextmanager
    def transcribe(world: World, without: Collection[type[Message]] = HEARTBEATS) -> Iterator[Scene]:
        transcript = Transcript(world, without)
        world.listeners.append(transcript.hear)
        yield transcript.scene
        world.listeners.remove(transcript.hear)
        hold(file, transcript.lines, update=update)

    return transcribe


def hold(file: Path, lines: list[str], *, update: bool) -> None:
    """Fail with what differs, or write the file."""
    text = "".join(f"{line}\n" for line in lines)
    if update:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    kept = file.read_text(encoding="utf-8") if file.exists() else ""
    if text != kept:
        changes = difflib.unified_diff(kept.splitlines(), lines, str(file), "said now", lineterm="", n=1)
        raise AssertionError("\n".join([*changes, "", "if this is as it should be: pytest --update"]))
