"""Requests: the commands set, get, delete and scan, one connection each, through the blocking client.

Owns what they print: a value as it is, remarks on stderr; how a receipt looks is `receipts.py`'s. It tries
nothing again unless --retry is given: whoever repeats a write later names its identity. What `increment.py`
shares with these stands here.
"""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from basestore.cli import exits, streams, text
from basestore.cli.data.receipts import show_receipt
from basestore.cli.options import Target, command, data, duration, share
from basestore.cli.stores import open_store

if TYPE_CHECKING:
    from basestore.results.receipts import Item, ReadResult
    from basestore.sync import SyncStore

REPEAT = click.option(
    "--repeat",
    metavar="IDENTITY",
    help="Repeat a write whose outcome is not known, as itself: the identity that its error named. All else "
    "must be as it was.",
)
_DEFER = click.option(
    "--defer",
    is_flag=True,
    help="At any: if the node is overloaded, have it keep the write, and deliver it later.",
)
SESSION = click.option(
    "--session",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep in FILE what was seen, and be shown nothing older than what other commands with this FILE "
    "have seen or written, at any level and node. It is made if it does not exist.",
)
RETRY = click.option(
    "--retry",
    is_flag=True,
    help="Within --timeout, ask again if the node is overloaded, when it says, or if it does not answer. A "
    "write happens once.",
)
_IF_VERSION = click.option(
    "--if-version",
    metavar="VERSION",
    help="In a bucket of registers: only if the key holds this version, by a receipt or by `get -o json`.",
)
_FENCE = click.option(
    "--fence",
    metavar="LOCK:TOKEN",
    help="In a bucket of registers: only while this lock is held under this token (basestore lock).",
)
SHARED = ("endpoint", "consistency", "bucket", "timeout", "output")


@contextmanager
def opened(target: Target, session: Path | None, retry: bool) -> Iterator["SyncStore"]:
    """A store on the target's cluster, in the session of a file if one is named."""
    with open_store(target) as store:
        if session is None:
            yield store.retrying() if retry else store
        else:
            from basestore.cli.data.sessions import open_session

            with open_session(store, session) as within:
                yield within.retrying() if retry else within


@contextmanager
def writing() -> Iterator[None]:
    """Who interrupts a write should know that it may have happened."""
    try:
        yield
    except KeyboardInterrupt:
        exits.say("The write may have happened: read the key to find out.")
        raise


@command("set")
@share(*SHARED)
@click.argument("key", type=data)
@click.argument("value", type=data, required=False)
@click.option("--file", type=click.File("rb"), help="Take the value from a file.")
@click.option("--ttl", type=duration, help="How long the value lives, as 90s or 7d. [default: forever]")
@click.option(
    "--if-absent", is_flag=True, help="In a bucket of registers, as cas: only if the key holds nothing."
)
@_IF_VERSION
@click.option(
    "--if-value", metavar="VALUE", type=data, help="In a bucket of registers: only if the key holds this."
)
@_FENCE
@REPEAT
@_DEFER
@RETRY
@SESSION
def set_command(
    target: Target,
    key: bytes,
    value: bytes | None,
    file: BinaryIO | None,
    ttl: float | None,
    if_absent: bool,
    if_version: str | None,
    if_value: bytes | None,
    fence: str | None,
    repeat: str | None,
    defer: bool,
    retry: bool,
    session: Path | None,
) -> int:
    """Write VALUE under KEY, and print the receipt.

    VALUE is stored as it is. With - it is read from stdin, all bytes, a final newline included.
    Put -- before a key or value that begins with a dash.

    In a bucket of registers (`basestore bucket list` shows the rules) a write may depend on what the key
    holds, on one thing. If it holds something else, nothing is written: the receipt says `lost`, and what the
    key holds instead (in JSON `superseded_by`, its version, and `value`), and the exit code is 5.

    With --fence it is written only while a lock is held under that token: so what `basestore lock` runs
    cannot write any more once another has the lock. Otherwise nothing is written, and the exit code is 5.

    \b
    Example:
        basestore set greeting hello
        basestore set leader n1 --bucket cas --if-absent
        basestore set leader n2 --bucket cas --if-version 0199e1c2a3b40000-0001a2b3c4d5e6f7-2a
    """
    if if_absent + (if_version is not None) + (if_value is not None) > 1:
        raise click.UsageError("Give one condition: --if-absent, --if-version or --if-value.")
    content = _content(value, file)
    with writing(), opened(target, session, retry) as store:
        receipt = store.set(
            key, content, bucket=target.bucket, ttl=ttl, repeat=repeat, defer=defer, if_absent=if_absent,
            **_given(if_version=if_version, if_value=if_value, fence=fence),
        )  # fmt: skip
        return show_receipt(target, key, receipt, "stored")


def _given(**options: Any) -> dict[str, Any]:
    """Those that were."""
    return {name: each for name, each in options.items() if each is not None}


def _content(value: bytes | None, file: BinaryIO | None) -> bytes:
    """The value from where the caller says it is."""
    from basestore.protocol.limits import VALUE_BYTES_MAX

    if (value is None) == (file is None):
        raise click.UsageError("Give one value: VALUE, - for stdin, or --file FILE.")
    if value is not None and value != b"-":
        return value
    source: BinaryIO = file or sys.stdin.buffer
    content = source.read(VALUE_BYTES_MAX + 1)
    if len(content) > VALUE_BYTES_MAX:
        raise click.UsageError(
            f"The value has more than {VALUE_BYTES_MAX} bytes. Store it in parts, or elsewhere."
        )
    return content


@command("delete")
@share(*SHARED)
@click.argument("key", type=data)
@_IF_VERSION
@_FENCE
@REPEAT
@_DEFER
@RETRY
@SESSION
def delete_command(
    target: Target,
    key: bytes,
    if_version: str | None,
    fence: str | None,
    repeat: str | None,
    defer: bool,
    retry: bool,
    session: Path | None,
) -> int:
    """Delete KEY, and print the receipt. That the key is not there is no error.

    With --if-version, if it holds another version, nothing is done: see `basestore set --help`.

    \b
    Example:
        basestore delete greeting
        basestore delete leader --bucket cas --if-version 0199e1c2a3b40000-0001a2b3c4d5e6f7-2a
    """
    with writing(), opened(target, session, retry) as store:
        receipt = store.delete(
            key, bucket=target.bucket, repeat=repeat, defer=defer,
            **_given(if_version=if_version, fence=fence),
        )  # fmt: skip
        return show_receipt(target, key, receipt, "deleted")


@command("get")
@share(*SHARED)
@click.argument("key", type=data)
@click.option("--raw", is_flag=True, help="Print the value's bytes alone, without a newline after them.")
@click.option(
    "--weak", is_flag=True, help="Read at one, and leave replicas that are found to differ as they are."
)
@click.option("--staleness", is_flag=True, help="Say on stderr how stale the answer may be at most.")
@click.option(
    "--max-staleness",
    type=duration,
    help="Read at one; if the answer may be staler than this, as 2s, read at quorum.",
)
@click.option(
    "--degrade",
    type=duration,
    help="If so many replicas do not answer, read at one, unless that may be staler than this, as 60s; 0 for "
    "never, where a node does so for the bucket.",
)
@RETRY
@SESSION
def get_command(
    target: Target,
    key: bytes,
    raw: bool,
    weak: bool,
    staleness: bool,
    max_staleness: float | None,
    degrade: float | None,
    retry: bool,
    session: Path | None,
) -> int:
    """Print the value of KEY.

    The value's bytes are printed as they are, and a newline after them; --raw leaves it out, so
    that `basestore get --raw KEY > FILE` makes an exact copy. On a terminal what does not print is
    escaped, unless --raw is given. In a bucket in which the first write wins,
    stderr says whether that is final.
    """
    from basestore.client.arguments import level_of
    from basestore.consistency import Level

    level = level_of(target.consistency) if target.chosen else Level.ONE if weak else None
    with opened(target, session, retry) as store:
        result = store.get(
            key, bucket=target.bucket, consistency=level, repair=not weak, staleness=staleness,
            max_staleness=max_staleness, degrade=degrade,
        )  # fmt: skip
    if not target.json:
        _say_remarks(result, staleness)
    if target.json:
        click.echo(json.dumps(result.as_json()))
    elif result.value is not None:
        _show_value(target, result.value, raw)
    if result.found:
        return exits.DONE
    target.remark(_absence(target, key, result))
    return exits.NOT_FOUND


def _show_value(target: Target, value: bytes, raw: bool) -> None:
    shown = streams.for_terminal(value) if sys.stdout.isatty() and not raw else None
    click.echo(value if shown is None else shown, nl=not raw)
    if shown is not None:
        target.remark("The value has bytes that do not print: they are shown escaped; --raw prints them.")


def _say_remarks(result: "ReadResult", staleness: bool) -> None:
    """On stderr: whether a first write's win is final, how stale the answer may be, why it is degraded."""
    if result.final is not None:
        exits.say("final" if result.final else "provisional: an earlier write may still turn up")
    if result.escalated:
        exits.say("read at quorum, for the answer of one replica may have been staler")
    if result.degraded and result.stale_by_at_most is not None:
        stale_s = math.ceil(result.stale_by_at_most * 10) / 10  # never less than it may be
        exits.say(f"degraded: read at one, stale by at most {stale_s:.1f} s, because {result.because}")
    elif staleness and result.stale_by_at_most is None:
        exits.say("how stale this may be is not known: no proof yet, or clocks too far apart")
    elif staleness:
        exits.say(f"stale by at most {result.stale_by_at_most:.3g} s")


def _absence(target: Target, key: bytes, result: "ReadResult") -> str:
    what = f"Not found: {text.printable(key)} in bucket {target.bucket}"
    if result.version is not None:
        return f"{what}; it was deleted or has expired (version {result.version}). Set it to use it again."
    return f"{what}. Check the key and --bucket; `basestore scan` lists what is there."


@command("scan")
@share(*SHARED)
@click.argument("prefix", type=data, default="")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many keys.")
@click.option("--after", type=data, default="", help="Go on behind this key, where a scan broke off.")
@click.option("--keys-only", is_flag=True, help="Leave the values out.")
@RETRY
@SESSION
def scan_command(
    target: Target,
    prefix: bytes,
    limit: int | None,
    after: bytes,
    keys_only: bool,
    retry: bool,
    session: Path | None,
) -> int:
    """Print keys and values, ordered by key.

    All keys, or those that begin with PREFIX, in bytewise order. Text: a line a key, KEY, a tab,
    VALUE; what does not print, and each backslash, is escaped (\\n, \\t, \\xff). JSON: an object a
    line, with key, key_encoding, value, encoding, version and expires_ms, of which `basestore import`
    reads back keys and values; what it writes expires only by its own --ttl.
    """
    with opened(target, session, retry) as store:
        for item in store.scan(prefix, bucket=target.bucket, limit=limit, after=after):
            line = _json_line(item, keys_only) if target.json else _text_line(item, keys_only)
            sys.stdout.write(line + "\n")
    return exits.DONE


def _text_line(item: "Item", keys_only: bool) -> str:
    key = text.printable(item.key)
    return key if keys_only else f"{key}\t{text.printable(item.value)}"


def _json_line(item: "Item", keys_only: bool) -> str:
    from basestore.results.answers import encode_text

    key, key_encoding = encode_text(item.key)
    fields: dict[str, str | None] = {"key": key, "key_encoding": key_encoding}
    if not keys_only:
        fields["value"], fields["encoding"] = encode_text(item.value)
    return json.dumps({**fields, "version": str(item.version), "expires_ms": item.expires_ms})
