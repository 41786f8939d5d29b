"""Transaction: the command transaction, which reads and writes several keys of registers at once.

All lines are read before anything is asked, so a file in which one is wrong does nothing. What it does then
is `client/coordination/transaction.py`'s; here what was to be expected is compared, and all of it shown.
"""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import click

from basestore.cli import exits, text
from basestore.cli.data.requests import writing
from basestore.cli.options import Target, command, share
from basestore.cli.stores import open_store

if TYPE_CHECKING:
    from basestore.client.coordination.transaction import SyncTransaction
    from basestore.results.receipts import ReadResult

BUCKET: Final = "cas"
LINE_BYTES_MAX: Final = 8 << 20
LINES_MAX: Final = 1000
EXAMPLE: Final = (
    '{"read": "k"}, {"expect": "k", "value": "v"}, {"write": "k", "value": "v"} or {"delete": "k"}'
)
_SHOWN: Final = frozenset(("found", "value", "encoding", "version", "expires_ms"))
_WHAT: Final = ("read", "expect", "write", "delete")
_FIELDS: Final = {
    "read": {"bucket", "key_encoding"},
    "expect": {"bucket", "key_encoding", "value", "encoding", "version", "absent"},
    "write": {"bucket", "key_encoding", "value", "encoding", "ttl"},
    "delete": {"bucket", "key_encoding"},
}


class Line(NamedTuple):
    """One of them. `fields`: as they were written; `value`: to write, or to expect."""

    number: int
    what: str
    bucket: str
    key: bytes
    fields: dict[str, Any]
    value: bytes | None
    ttl_s: float | None


@command("transaction")
@share("endpoint", "timeout", "output", bucket="Of lines that name none, one of registers. [default: cas]")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
def transaction_command(target: Target, file: Path) -> int:
    """Read and write several keys of registers at once: all that FILE says (- is stdin), or nothing.

    A JSON object a line, in their order:

    \b
        {"read": KEY}                         show what it holds
        {"expect": KEY, "value": VALUE}       only if it holds this value; or "version": VERSION,
                                              or "absent": true
        {"write": KEY, "value": VALUE}        with "ttl": SECONDS, if it is not to live for ever
        {"delete": KEY}

    Each may name its "bucket". Values are as of `import`: a string, base64 where "encoding" says so, or any
    other JSON. What is shown was there at the moment at which all was done. At most 100 keys, of 1 MiB with
    their values. Exit code: 0 committed, 5 in conflict with others, or something else was there than
    expected, and nothing was done; 4 not known: all or nothing was done.

    \b
    Example:
        basestore transaction - <<END
        {"expect": "stock/7", "value": "3"}
        {"write": "stock/7", "value": "2"}
        {"write": "order/1", "value": "stock/7"}
        END
    """
    lines = _lines_of(file, target.bucket if target.in_bucket else BUCKET)
    reads = list[tuple[Line, "ReadResult"]]()
    with writing(), open_store(target) as store, store.transaction() as transaction:
        for line in lines:
            _apply(transaction, line, reads)
    return _show(target, transaction, lines, reads)


def _lines_of(file: Path, bucket: str) -> list[Line]:
    """All lines; click.UsageError names the first that is wrong."""
    from basestore.cli.data.rows import reason_of

    opened: Any = nullcontext(sys.stdin.buffer)
    if str(file) != "-":
        try:
            opened = file.open("rb")
        except OSError as error:
            raise click.UsageError(f"{file} cannot be read: {error}. Name a file that can.") from error
    lines = list[Line]()
    with opened as source:
        for number, raw in enumerate(_raw_lines(source), 1):
            try:
                if raw.strip():
                    lines.append(_line_of(number, raw, bucket))
            except (ValueError, RecursionError) as error:
                raise click.UsageError(
                    f"Line {number}: {reason_of(error)}. Nothing was done; correct it."
                ) from error
    if not lines:
        raise click.UsageError(f"There is nothing to do: write a JSON object a line, as {EXAMPLE}.")
    return lines


def _raw_lines(source: BinaryIO) -> list[bytes]:
    raw = list[bytes]()
    while line := source.readline(LINE_BYTES_MAX):
        raw.append(line)
        if len(raw) > LINES_MAX:
            raise click.UsageError(
                f"There are more than {LINES_MAX} lines. Nothing was done; share the work among several."
            )
    return raw


def _line_of(number: int, raw: bytes, bucket: str) -> Line:
    """ValueError says what is wrong with it."""
    from basestore.cli.data.rows import key_of, object_of, value_of
    from basestore.client.arguments import bucket_of

    fields = object_of(raw, EXAMPLE)
    named = [what for what in _WHAT if what in fields]
    if len(named) != 1:
        raise ValueError(f"it says {' and '.join(named) or 'nothing'} to do; write one of {EXAMPLE}")
    what = named[0]
    unknown = fields.keys() - _FIELDS[what] - {what}
    if unknown:
        raise ValueError(f'"{min(unknown)}" says nothing beside "{what}"; leave it out')
    value = value_of(fields) if "value" in fields else None
    if what == "write" and value is None:
        raise ValueError('it has no "value" to write')
    if what == "expect":
        _check_expected(fields)
    ttl = fields.get("ttl")
    if ttl is not None and (not isinstance(ttl, int | float) or isinstance(ttl, bool)):
        raise ValueError('its "ttl" is no number of seconds')
    return Line(
        number, what, bucket_of(fields.get("bucket", bucket)), key_of(fields, what), fields, value, ttl
    )


def _check_expected(fields: dict[str, Any]) -> None:
    from basestore.repair.version import Version

    if sum(name in fields for name in ("value", "version", "absent")) != 1:
        raise ValueError('what it expects is one of "value", "version" and "absent": true')
    if "absent" in fields and fields["absent"] is not True:
        raise ValueError('"absent" is true, or left out')
    if "version" in fields:
        if not isinstance(fields["version"], str):
            raise ValueError('its "version" is not a string; write it in double quotes')
        Version.parse(fields["version"])


def _apply(transaction: "SyncTransaction", line: Line, reads: "list[tuple[Line, ReadResult]]") -> None:
    if line.what == "write":
        transaction.set(line.key, line.value or b"", bucket=line.bucket, ttl=line.ttl_s)
    elif line.what == "delete":
        transaction.delete(line.key, bucket=line.bucket)
    else:
        found = transaction.get(line.key, bucket=line.bucket)
        if line.what == "read":
            reads.append((line, found))
        elif not _is_as_expected(line, found):
            from basestore.errors import Conflict

            holds = (
                f"version {found.version}" if found.version and found else "a value" if found else "nothing"
            )
            raise Conflict(
                f"conflict: line {line.number}: key {text.printable(line.key)} in bucket {line.bucket!r} "
                f"holds {holds}, and not what is expected; nothing of the transaction was done. Read again, "
                f"and decide anew"
            )


def _is_as_expected(line: Line, found: "ReadResult") -> bool:
    if "absent" in line.fields:
        return not found
    if "version" in line.fields:
        return found.found and str(found.version) == line.fields["version"]
    return found.found and found.value == line.value


def _show(
    target: Target, transaction: "SyncTransaction", lines: list[Line], reads: "list[tuple[Line, ReadResult]]"
) -> int:
    written = dict.fromkeys((line.bucket, line.key) for line in lines if line.what in ("write", "delete"))
    if target.json:
        told = [_place(line.bucket, line.key) | _found(found) for line, found in reads]
        versions = [
            _place(*place) | {"version": str(transaction.version(place[1], bucket=place[0]))}
            for place in written
        ]
        click.echo(json.dumps({"outcome": "committed", "read": told, "written": versions}))
        return exits.DONE
    for line, found in reads:
        shown = text.printable(found.value) if found.value is not None else "(nothing)"
        click.echo(f"{text.printable(line.key)}  {shown}")
    click.echo(f"committed  {text.counted(len(written), 'key')} written")
    return exits.DONE


def _place(bucket: str, key: bytes) -> dict[str, Any]:
    from basestore.results.answers import encode_text

    shown, encoding = encode_text(key)
    return {"bucket": bucket, "key": shown, "key_encoding": encoding}


def _found(found: "ReadResult") -> dict[str, Any]:
    return {name: value for name, value in found.as_json().items() if name in _SHOWN}
