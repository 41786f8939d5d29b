"""Frames: what a version of the wire looks like in bytes, kept in a text file and read again.

    # each kind

    12 Get(id=1, bucket='default', key=b'key', ...)       the fields that this version carries
      81940c01...                                         a payload, in hexadecimal digits

    # frames: two nodes meet

    n1 -> n2  Hello(lowest=8, highest=9, ...)             one message of a frame
      00000021...                                         the frame

    # sealed: a client asks                               the same; these have envelopes

A file needs nothing but itself to be read again: its messages stand there in words. `made` says what the file
of a version would be today.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from basestore.protocol.codec import Message, decode, encode
from basestore.protocol.envelopes import seal
from basestore.protocol.registry import DATES, NUMBERS, forms_of
from basestore.transport.frames import FrameReader, pack

KINDS, FRAMES, SEALED = "each kind", "frames", "sealed"
INDENT = "  "

Spoken = tuple[str, list[Message]]  # who says it to whom, and what


class Scene(NamedTuple):
    """A part of a file: how its bytes are to be read, its title, and words and bytes in turn."""

    sort: str
    title: str
    said: list[tuple[list[str], bytes]]


class Again(NamedTuple):
    """What is said once more: in words and bytes as they were kept, and today's messages and bytes."""

    words: list[str]
    data: bytes
    messages: list[Any]
    encoded: bytes


def words(message: Any, version: int) -> str:
    """A message with the fields that a version carries."""
    _, dates = DATES[type(message)]
    fields = zip(message._fields, message, dates, strict=True)
    told = ", ".join(f"{name}={value!r}" for name, value, date in fields if date <= version)
    return f"{type(message).__name__}({told})"


def made(
    version: int, examples: Iterable[Message], scenes: Mapping[tuple[str, str], list[Spoken]]
) -> list[str]:
    """The lines of a version's file: an example of each kind, and conversations by sort and title."""
    lines = [f"# {KINDS}", ""]
    for example in sorted(examples, key=lambda each: NUMBERS[type(each)]):
        if DATES[type(example)].since <= version:
            number = NUMBERS[type(example)]
            lines += [f"{number} {words(example, version)}", f"{INDENT}{encode([example], version).hex()}"]
    for (sort, title), spoken in scenes.items():
        lines += ["", f"# {sort}: {title}", ""]
        for ends, messages in spoken:
            data = _sent(sort, messages, version)
            lines += [f"{ends}  {words(each, version)}" for each in _Reading(sort, version).read(data)]
            lines.append(f"{INDENT}{data.hex()}")
    return lines


def _sent(sort: str, messages: Iterable[Message], version: int) -> bytes:
    if sort == KINDS:
        return encode(messages, version)
    return pack(messages, version) if sort == FRAMES else b"".join(seal(messages, version))


class _Reading:
    """One side of a conversation, which hears."""

    def __init__(self, sort: str, version: int) -> None:
        self._sort, self._version = sort, version
        self._reader = FrameReader()
        self._reader.speak(version)
        if sort == SEALED:
            self._reader.keep_sealed()

    def read(self, data: bytes) -> list[Any]:
        if self._sort == KINDS:
            return decode(data, self._version)
        found = self._reader.feed(data)
        if self._sort == FRAMES:
            return found
        return [each for frame in found for each in frame.open(self._reader.decoder)]


def parsed(lines: Iterable[str]) -> list[Scene]:
    """The scenes of a file."""
    scenes: list[Scene] = []
    told: list[str] = []
    for line in filter(None, lines):
        if line.startswith("# "):
            sort, _, title = line[2:].partition(": ")
            scenes.append(Scene(sort, title, []))
        elif line.startswith(INDENT):
            scenes[-1].said.append((told, bytes.fromhex(line)))
            told = []
        else:
            told.append(line.partition(" " if scenes[-1].sort == KINDS else "  ")[2])
    assert not told, f"without bytes: {told}"
    return scenes


def again(scene: Scene, version: int) -> Iterator[Again]:
    """All that is said in a scene."""
    reading = _Reading(scene.sort, version)
    for told, data in scene.said:
        messages = reading.read(data)
        yield Again(told, data, messages, _sent(scene.sort, messages, version))


def spoken_fields(version: int) -> dict[int, tuple[str, ...]]:
    """The fields that a version carries, by the number of the kind."""
    return {number: form.make._fields[: len(form.types)] for number, form in forms_of(version).items()}


def kept_fields(lines: Iterable[str]) -> dict[int, tuple[str, ...]]:
    """The same as a file says it."""
    found = {}
    for line in lines:
        number, _, told = line.partition(" ")
        if number.isdecimal():
            call = ast.parse(told, mode="eval").body
            assert isinstance(call, ast.Call), told
            found[int(number)] = tuple(keyword.arg or "" for keyword in call.keywords)
    return found
