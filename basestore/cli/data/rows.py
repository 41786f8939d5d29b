"""Rows: what a file to import holds, one key and value at a time, with their positions in the file.

A position is a byte offset and a line number, so that reading can go on from it. Reading goes by
physical lines; a CSV row takes as many as its quoted newlines ask for. A row that makes no sense
is a `Malformed` value, and reading goes on behind it. Writes nothing, and asks no node: `importing.py` does.
"""

import base64
import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, Self, TypeVar

import click

from basestore.cli import text
from basestore.client.arguments import key_bytes
from basestore.protocol.limits import VALUE_BYTES_MAX

LINE_BYTES_MAX = 8 << 20
BATCH_ROWS = 256
BATCH_BYTES = 1 << 20
_FORMATS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson"}
_EXAMPLE = 'one object a line, as {"key": "k", "value": "v"}'
_WRONG = {  # what begins what the parser says, and the same for whoever has written the line
    "Expecting value": 'a value is missing, or is no JSON: a string stands in double quotes ("v")',
    "Expecting property name": 'a name in double quotes is missing (behind the last value no "," stands)',
    "Expecting ':'": 'a ":" is missing behind the name',
    "Expecting ','": 'a "," or the closing bracket is missing',
    "Illegal trailing comma": 'a "," stands before the closing bracket; leave it out',
    "Unterminated string": "a string begins, and its closing double quote is missing",
    "Invalid control character": "a control character stands in a string; write it as \\t or \\u0009",
    "Invalid \\": "a backslash stands before what it cannot escape; write a backslash itself as \\\\",
    "Extra data": "something follows the object; write one object a line",
}
_NO_CSV = {
    "expected after": 'a quoted field has ended, and no "," follows; write a quote within it as ""',
    "unexpected end": "a quoted field has no closing quote",
}
_BOM = b"\xef\xbb\xbf"


class Position(NamedTuple):
    """Where a row begins or ends: bytes from the start of the file, and the line, from 1."""

    offset: int
    line: int


START = Position(0, 1)


class Row(NamedTuple):
    """A key and its value."""

    start: Position
    end: Position
    key: bytes
    value: bytes


class Malformed(NamedTuple):
    """A row that cannot be imported, and why."""

    start: Position
    end: Position
    reason: str


_Line = TypeVar("_Line", Row, Row | Malformed)


def batches(rows: Iterable[_Line]) -> Iterator[list[_Line]]:
    """As many as are written at a time."""
    batch: list[_Line] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.key) + len(row.value) if isinstance(row, Row) else 0
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Lines:
    """The physical lines of a file, as bytes; `position` is behind the last one."""

    def __init__(self, source: BinaryIO, position: Position) -> None:
        self._source = source
        self.position = position

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """The next line; ValueError when it is too long, after skipping it."""
        line = self._source.readline(LINE_BYTES_MAX)
        if not line:
            raise StopIteration
        first = self.position.offset == 0
        self._pass(line)
        # Read to its end in pieces, so that neither memory nor the count of lines suffers.
        if len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = self._source.readline(LINE_BYTES_MAX)
                self.position = self.position._replace(offset=self.position.offset + len(line))
            raise ValueError(f"the line has more than {LINE_BYTES_MAX} bytes")
        return line.removeprefix(_BOM) if first else line

    def _pass(self, line: bytes) -> None:
        self.position = Position(self.position.offset + len(line), self.position.line + 1)


def _lines(source: BinaryIO, position: Position | None) -> _Lines:
    """The lines of a file from `position` on; with None, those that a stream still has."""
    if position is not None:
        source.seek(position.offset)
    return _Lines(source, position or START)


def read_ndjson(source: BinaryIO, position: Position | None = None) -> Iterator[Row | Malformed]:
    """The rows of a file with a JSON object a line, from `position` on, or of a stream. Empty lines are
    passed over."""
    lines = _lines(source, position)
    while True:
        start = lines.position
        try:
            line = next(lines)
            if line.strip():
                yield Row(start, lines.position, *_parse_object(line))
        except StopIteration:
            return
        except (ValueError, RecursionError) as error:
            yield Malformed(start, lines.position, reason_of(error))


def _parse_object(line: bytes) -> tuple[bytes, bytes]:
    """Key and value of one JSON object; ValueError says what is wrong with it."""
    fields = object_of(line, _EXAMPLE)
    for name in ("key", "value"):
        if name not in fields:
            raise ValueError(f'it has no "{name}"; write {_EXAMPLE}')
    return _checked(key_of(fields, "key"), value_of(fields))


def object_of(line: bytes, example: str) -> dict[str, Any]:
    """The JSON object on a line; ValueError says what is wrong with it, and what to write."""
    text_line = line.decode()
    try:
        fields = json.loads(text_line, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(_not_json(text_line, error, example)) from error
    if not isinstance(fields, dict):
        raise ValueError(f"it is JSON, but no object; write {example}")
    return fields


def key_of(fields: dict[str, Any], name: str) -> bytes:
    """A key, in the field of this name."""
    if not isinstance(fields[name], str):
        raise ValueError("its key is not a string; write it in double quotes")
    return key_bytes(_decode("key_encoding", fields[name], fields.get("key_encoding")))


def value_of(fields: dict[str, Any]) -> bytes:
    """Its value: a string, as it says encoded, or any other JSON, as compact text."""
    value = fields["value"]
    if isinstance(value, str):
        return _decode("encoding", value, fields.get("encoding"))
    return text.compact(value).encode()


def _not_json(line: str, error: json.JSONDecodeError, example: str) -> str:
    """What is wrong with a line, and what to write."""
    if not line.lstrip().startswith("{"):
        return f"it is not a JSON object; write {example}"
    if error.pos >= len(line.rstrip()):
        return "it ends before its JSON object does; an object has to stand on one line"
    said = next((words for begin, words in _WRONG.items() if error.msg.startswith(begin)), error.msg)
    return f"it is not JSON: at character {error.pos + 1} {said}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; write null, or a string in double quotes")


def _decode(field: str, content: str, encoding: Any) -> bytes:
    if encoding is None or encoding == "utf8":
        return content.encode()
    if encoding == "base64":
        try:
            return base64.b64decode(content, validate=True)
        except ValueError as error:
            raise ValueError(f"{field} says base64, and it is not ({error})") from error
    raise ValueError(f"its {field} is {encoding!r}; use utf8 or base64")


def _checked(key: bytes, value: bytes) -> tuple[bytes, bytes]:
    if len(value) > VALUE_BYTES_MAX:
        raise ValueError(f"the value has {len(value)} bytes; at most {VALUE_BYTES_MAX} are allowed")
    return key_bytes(key), value


def reason_of(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    if isinstance(error, csv.Error):
        return next(
            (words for part, words in _NO_CSV.items() if part in str(error)), f"it is no CSV: {error}"
        )
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


class Columns(NamedTuple):
    """Which column of a CSV file is the key, and which the value: None for the whole row."""

    key: str
    value: str | None


def read_csv(
    source: BinaryIO, columns: Columns, position: Position | None = None
) -> Iterator[Row | Malformed]:
    """The rows of a CSV file with a header, from `position` on, or of a stream; click.UsageError when
    the header lacks a column."""
    csv.field_size_limit(LINE_BYTES_MAX)
    lines = _lines(source, None if position is None else START)
    header = _header(lines, columns)
    # The header is read anew each time, for a checkpoint does not hold it.
    if position is not None and position > lines.position:
        lines = _lines(source, position)
    reader = csv.reader(_Decoded(lines), strict=True)
    while True:
        start = lines.position
        try:
            fields = next(reader)
            if fields:
                yield Row(start, lines.position, *_parse_fields(header, fields, columns))
        except StopIteration:
            return
        except (csv.Error, ValueError) as error:
            yield Malformed(start, lines.position, reason_of(error))


class _Decoded:
    """Lines as text. What is not UTF-8 is kept as surrogates, so that the row can be named."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._lines).decode("utf-8", "surrogateescape")


def _header(lines: _Lines, columns: Columns) -> list[str]:
    try:
        header = next(csv.reader(_Decoded(lines), strict=True), [])
    except (csv.Error, ValueError) as error:
        raise click.UsageError(f"The header of the CSV file cannot be read: {error}. Correct it.") from error
    if len(set(header)) < len(header):
        raise click.UsageError("The CSV file has two columns of one name. Rename one.")
    for name in columns:
        if name is not None and name not in header:
            raise click.UsageError(f"The CSV file has no column {name!r}. It has: {', '.join(header)}.")
    return header


def _parse_fields(header: list[str], fields: list[str], columns: Columns) -> tuple[bytes, bytes]:
    if len(fields) != len(header):
        raise ValueError(f"it has {len(fields)} fields, the header {len(header)}")
    named = dict(zip(header, fields, strict=True))
    value = text.compact(named) if columns.value is None else named[columns.value]
    return _checked(named[columns.key].encode(), value.encode())


class Source(NamedTuple):
    """What is to be read, and how. `file`: None for stdin; `key`, `value`: the columns of a CSV file."""

    file: Path | None
    format: str
    key: str | None
    value: str | None

    @classmethod
    def of(cls, file: Path, form: str | None, key: str | None, value: str | None) -> Self:
        """What a caller has said; click.UsageError when that makes no sense."""
        path = None if str(file) == "-" else file
        known = form or ("ndjson" if path is None else _FORMATS.get(file.suffix.lower()))
        if known is None:
            raise click.UsageError(
                f"What {file} holds is not clear from its name. Say --format ndjson or csv."
            )
        if known == "csv" and key is None:
            raise click.UsageError("Which column is the key? Say --key COLUMN.")
        if known == "ndjson" and (key or value):
            raise click.UsageError("--key and --value are for CSV; NDJSON names its keys. Leave them out.")
        return cls(path, known, key, value)

    @property
    def resumable(self) -> bool:
        """Whether it can be read again; stdin and named pipes cannot."""
        return self.file is not None and self.file.is_file()

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        if self.file is None:
            yield sys.stdin.buffer
            return
        try:
            opened = self.file.open("rb")
        except OSError as error:
            raise click.UsageError(f"{self.file} cannot be read: {error}. Name a file that can.") from error
        with opened:
            yield opened

    def read(self, opened: BinaryIO, position: Position) -> Iterator[Row | Malformed]:
        """The rows from a position on, or all that a pipe still has."""
        start = position if self.resumable else None
        if self.key is None:
            return read_ndjson(opened, start)
        return read_csv(opened, Columns(self.key, self.value), start)
