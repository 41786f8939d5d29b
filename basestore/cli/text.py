"""Text: how data, tables, moments and lengths of time look on a terminal or in a line-based pipe.

Data is shown without loss: what does not print is escaped. Pure: takes values, returns strings, prints
nothing.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIT = 1024
_SIZES = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_AGES = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms"))
_CUT = "..."
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def printable(data: bytes) -> str:
    """Data on one line, without loss: what does not print, and each backslash, is escaped."""
    text = data.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as their widest cell."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def fitting(header: Sequence[str], rows: Sequence[Sequence[object]], columns: int) -> str:
    """The same, at most so many characters wide, as far as its headings leave room: of the widest columns
    what does not fit is cut off, and three dots show it."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    least = [max(len(name), len(_CUT) + 1) for name in header]
    while sum(widths) + 2 * (len(widths) - 1) > columns:
        spare, place = max((width - least[at], at) for at, width in enumerate(widths))
        if spare <= 0:
            break
        widths[place] -= 1
    for row in cells:
        for at, cell in enumerate(row):
            if len(cell) > widths[at]:
                row[at] = cell[: widths[at] - len(_CUT)] + _CUT
    return table(cells[0], cells[1:])


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence: n1, n2 and n3."""
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def counted(count: int, what: str) -> str:
    """So many of them: 1 pair, 2 pairs."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def moment(wall_ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601, in UTC."""
    try:
        at = _EPOCH + timedelta(milliseconds=wall_ms)
    except OverflowError:
        return f"{wall_ms} ms"  # no clock says so; a stamp may
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age(length_ms: int) -> str:
    """A length of time in its largest whole unit: 850ms, 3s, 12m, 5h, 2d; -3s for one to come."""
    if length_ms < 0:
        return f"-{age(-length_ms)}"
    size, unit = next((pair for pair in _AGES if length_ms >= pair[0]), _AGES[-1])
    return f"{length_ms // size}{unit}"


def size(count: int) -> str:
    """A number of bytes in its largest unit, about: 870 bytes, 1.2 KiB, 34 MiB."""
    if count < _UNIT:
        return counted(count, "byte")
    value, units = float(count), iter(_SIZES)
    while value >= _UNIT:
        value, unit = value / _UNIT, next(units)
    return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"


def loss(partitions: int, until_ms: int, sources: str) -> str:
    """What may be lost of so many partitions, and what to do about it."""
    return (
        f"writes up to {moment(until_ms)} may be lost in {counted(partitions, 'partition')}: recovered from "
        f"{sources} sources needed (basestore repair --accept-loss)"
    )


def stranded(name: str, standing: str, partitions: int) -> str:
    """A member that is to leave, and what it holds for which nothing is planned."""
    going = {"dead": "is dead", "draining": "is being drained"}.get(standing, standing)
    return (
        f"{name} {going}, and holds {counted(partitions, 'partition')}: nothing is planned; `basestore "
        f"rebalance` has others take its place"
    )


def compact(value: Any) -> str:
    """JSON on one line, for machines."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
