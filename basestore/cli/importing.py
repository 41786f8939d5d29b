"""Importing: the course of `basestore import`.

    begin    open the file, see what it is, find the checkpoint of an import that was stopped
    retry    the rows whose write failed last time, each as itself. Where what became of it cannot be known,
             and the key holds nothing, or a write older than it can be, it is written anew; what is newer
             stays, and the row is counted as superseded by it
    go on    batch after batch; after each, the checkpoint
    end      the counts; the checkpoint goes if there is nothing to come back for

It neither goes on nor ends behind rows that may be gone with a disk (`losses.py`).
What a row becomes is counted, never dropped: stored, superseded, lost, failed or malformed. A row
that failed is written later than those behind it: of rows with one key, another than the last may
then be the one that stays. How a file is read is `rows.py`, how a checkpoint is kept `checkpoint.py`.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from basestore.cli import exits
from basestore.cli.losses import say_missing, wait_for_moment
from basestore.cli.options import Target, duration, share
from basestore.cli.requests import open_store

if TYPE_CHECKING:
    from basestore.cli.checkpoint import Checkpoint
    from basestore.cli.rows import Malformed, Position, Row
    from basestore.errors import RequestFailed
    from basestore.results.cluster_view import Obstacle
    from basestore.results.receipts import Receipt
    from basestore.sync import SyncStore

BATCH_ROWS = 256
BATCH_BYTES = 1 << 20
FAILED_MAX = 10_000
SHOWN_MAX = 10
_FORMATS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson"}


@dataclass(frozen=True, slots=True)
class _Options:
    """What the caller said beside the target."""

    file: Path | None
    format: str
    key: str | None
    value: str | None
    ttl_s: float | None
    checkpoint: Path | None
    restart: bool

    @property
    def resumable(self) -> bool:
        """Whether the file can be read again; stdin and named pipes cannot."""
        return self.file is not None and self.file.is_file()

    def read(self, source: BinaryIO, position: "Position") -> "Iterator[Row | Malformed]":
        """The rows of the file from a position on, or all that a pipe still has."""
        from basestore.cli.rows import Columns, read_csv, read_ndjson

        start = position if self.resumable else None
        if self.key is None:
            return read_ndjson(source, start)
        return read_csv(source, Columns(self.key, self.value), start)


@click.command("import")
@share("endpoint", "consistency", "bucket", "timeout", "output")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["ndjson", "csv"]),
    help="What FILE holds. [default: by its extension; ndjson for stdin]",
)
@click.option("--key", metavar="COLUMN", help="CSV: the column with the key.")
@click.option("--value", metavar="COLUMN", help="CSV: the column with the value. [default: the row as JSON]")
@click.option("--ttl", type=duration, help="How long the values live, as 7d. [default: forever]")
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to keep the progress. [default: FILE.basestore-progress]",
)
@click.option("--restart", is_flag=True, help="Begin anew, whatever the checkpoint says.")
def import_command(
    target: Target,
    file: Path,
    form: str | None,
    key: str | None,
    value: str | None,
    ttl: float | None,
    checkpoint: Path | None,
    restart: bool,
) -> int:
    """Write the rows of FILE (- is stdin).

    NDJSON: a JSON object a line, with "key" (a string) and "value": a string, base64 where
    "encoding" says so, or any other JSON, which is stored as compact JSON text. CSV: a header, then
    rows; --key names the key's column.

    An import that was stopped, or in which writes failed, goes on when the same command is given
    again. Malformed lines are counted and passed over. Exit code: that of the worst row.
    """
    path = None if str(file) == "-" else file
    options = _Options(path, _format(path, form), key, value, ttl, checkpoint, restart)
    _check(options)
    with open_store(target, bulk=True) as store, _open(options.file) as source:
        return _Import(target, options, store, source).run()


def _format(file: Path | None, form: str | None) -> str:
    if form is not None:
        return form
    known = "ndjson" if file is None else _FORMATS.get(file.suffix.lower())
    if known is None:
        raise click.UsageError(f"What {file} holds is not clear from its name. Say --format ndjson or csv.")
    return known


def _check(options: _Options) -> None:
    if options.format == "csv" and options.key is None:
        raise click.UsageError("Which column is the key? Say --key COLUMN.")
    if options.format == "ndjson" and (options.key or options.value):
        raise click.UsageError("--key and --value are for CSV; NDJSON names its keys. Leave them out.")
    if not options.resumable and (options.checkpoint or options.restart):
        raise click.UsageError("A pipe cannot be read again: --checkpoint and --restart need a FILE.")


@contextmanager
def _open(file: Path | None) -> Iterator[BinaryIO]:
    if file is None:
        yield sys.stdin.buffer
        return
    try:
        source = file.open("rb")
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error}. Name a file that can.") from error
    with source:
        yield source


class _Import:
    """One run of an import: the progress so far, and what becomes of the rows behind it."""

    def __init__(self, target: Target, options: _Options, store: "SyncStore", source: BinaryIO) -> None:
        """Begin: find out where to go on."""
        from basestore.cli.checkpoint import Progress

        self._target = target
        self._options = options
        self._store = store
        self._source = source
        self._shown = 0
        self._checkpoint = self._find_checkpoint()
        self._progress: Progress = (self._checkpoint and self._checkpoint.load()) or Progress()
        self._resumed = self._progress.position.line if self._progress.position.offset else None

    def _find_checkpoint(self) -> "Checkpoint | None":
        from basestore.cli.checkpoint import Checkpoint, identity

        options = self._options
        if options.file is None or not options.resumable:
            return None
        settings = {
            "cluster": self._store.cluster_id(),
            "bucket": self._target.bucket,
            "format": options.format,
            "key column": options.key,
            "value column": options.value,
        }
        path = options.checkpoint or options.file.with_name(options.file.name + ".basestore-progress")
        checkpoint = Checkpoint(path, identity(self._source, settings))
        if options.restart:
            checkpoint.remove()
        return checkpoint

    def run(self) -> int:
        """Write all rows that can be written; returns the exit code of the worst."""
        if self._resumed is not None:
            if missing := self._store.missing(self._progress.written):
                return self._give_up(missing)
            exits.say(f"Going on at line {self._resumed}, where this import stopped.")
        # What fails before any receipt has come is stamped after this, too.
        self._hear_time(self._store.node_hints().asked_ms or 0)
        wait_for_moment(self._store, self._progress.newest_ms)
        try:
            self._retry()
            self._go_on()
            missing = self._store.missing(self._progress.written)
        except BaseException:
            if self._progress.position.offset:
                self._show_counts(complete=False)
            raise
        if missing:
            return self._give_up(missing)
        complete = not self._progress.failed
        if complete and self._checkpoint is not None:
            self._checkpoint.remove()
        self._show_counts(complete)
        return self._exit_code()

    def _give_up(self, missing: "Sequence[Obstacle]") -> int:
        """Leaves the checkpoint: the same command is refused again."""
        self._show_counts(complete=False, goes_on=False)
        say_missing(missing)
        return exits.UNKNOWN

    def _retry(self) -> None:
        """Write the rows that failed before."""
        from basestore.cli.rows import Row
        from basestore.errors import OutcomeUnknown

        progress = self._progress
        for count, failed in enumerate(list(progress.failed), 1):
            row = next(self._options.read(self._source, failed.position))
            assert isinstance(row, Row)  # it was one before, and the file is the same
            after_ms, result = failed.after_ms, self._set(row, failed.identity)
            # Removed first, for `_count` puts it back if it fails again.
            progress.failed.remove(failed)
            if not isinstance(result, OutcomeUnknown):
                self._count([row], [result], after_ms)
            elif result.found is not None and result.found.wall_ms > after_ms:
                progress.superseded += 1  # wherever its own write came to lie, this one is later
            else:
                after_ms = progress.newest_ms
                self._count([row], [self._set(row, None)], after_ms)
            if count % BATCH_ROWS == 0:
                self._save()
        if self._resumed is not None:
            self._save()

    def _set(self, row: "Row", repeat: str | None) -> "Receipt | RequestFailed":
        from basestore.errors import RequestFailed

        bucket, ttl_s = self._target.bucket, self._options.ttl_s
        try:
            return self._store.set(row.key, row.value, bucket=bucket, ttl=ttl_s, repeat=repeat)
        except RequestFailed as error:
            return error

    def _hear_time(self, wall_ms: int) -> None:
        self._progress.newest_ms = max(self._progress.newest_ms, wall_ms)

    def _go_on(self) -> None:
        """Write the rows behind the progress, a batch at a time."""
        with self._bar() as bar:
            done = 0
            for batch in self._batches():
                self._write(batch)
                if bar is not None:
                    bar.update(self._progress.position.offset - done)
                    done = self._progress.position.offset
                if len(self._progress.failed) >= FAILED_MAX:
                    exits.say(
                        f"{FAILED_MAX} writes have failed: the import stops. Look at `basestore status`."
                    )
                    return

    def _bar(self) -> Any:
        """A progress bar over the bytes of the file, where someone watches."""
        file = self._options.file
        if file is None or not self._options.resumable or not sys.stderr.isatty():
            return nullcontext()
        size = file.stat().st_size
        return click.progressbar(length=size, label="importing", file=sys.stderr)

    def _batches(self) -> "Iterator[list[Row | Malformed]]":
        from basestore.cli.rows import Row

        batch: list[Row | Malformed] = []
        size = 0
        for row in self._options.read(self._source, self._progress.position):
            batch.append(row)
            size += len(row.key) + len(row.value) if isinstance(row, Row) else 0
            if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _write(self, batch: "Sequence[Row | Malformed]") -> None:
        from basestore.cli.rows import Malformed, Row
        from basestore.errors import RequestFailed

        rows = [row for row in batch if isinstance(row, Row)]
        results = []
        for result in self._store.set_many(
            ((row.key, row.value) for row in rows), bucket=self._target.bucket, ttl=self._options.ttl_s
        ):
            if isinstance(result, Exception) and not isinstance(result, RequestFailed):
                # The batch is not counted, nor its position kept: the same rows are written again, as far as
                # they were.
                raise result  # no node, or a wrong request: so would be all others
            results.append(result)
        for row in batch:
            if isinstance(row, Malformed):
                self._progress.malformed += 1
                self._show(row.start, row.end, row.reason)
        self._count(rows, results, self._progress.newest_ms)
        # Last, and saved at once: a stop before it repeats the batch, one after it leaves nothing out.
        self._progress.position = batch[-1].end
        self._save()

    def _count(
        self, rows: "Sequence[Row]", results: "Sequence[Receipt | RequestFailed]", after_ms: int
    ) -> None:
        """Add what became of these rows to the progress. `after_ms`: as in `Failed`, of those that failed."""
        from basestore.cli.checkpoint import Failed
        from basestore.consistency import Outcome
        from basestore.errors import RequestFailed

        progress, heard_ms = self._progress, self._progress.newest_ms
        lost = []
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, RequestFailed):
                identity = None if result.definite or not result.identity else str(result.identity)
                progress.failed.append(Failed(row.start, identity, result.definite, after_ms))
                self._show(row.start, row.end, str(result))
                continue
            if result.version is not None:
                self._hear_time(result.version.wall_ms)
            progress.note(result, heard_ms)
            if result.outcome in (Outcome.STORED, Outcome.DEFERRED):
                progress.stored += 1
            elif result.outcome is Outcome.SUPERSEDED:
                progress.superseded += 1
            else:
                lost.append(row)
        same = self._already_there(lost)
        progress.stored += same
        progress.lost += len(lost) - same

    def _already_there(self, rows: "Sequence[Row]") -> int:
        """How many of these rows, lost to earlier writes, lost to their own value: an import into a
        first-write bucket that was stopped meets what it wrote itself."""
        from basestore.client.arguments import level_of
        from basestore.consistency import Level
        from basestore.results.receipts import ReadResult

        level = max(level_of(self._target.consistency), Level.ONE)
        found = self._store.get_many([row.key for row in rows], bucket=self._target.bucket, consistency=level)
        return sum(
            isinstance(result, ReadResult) and result.value == row.value
            for row, result in zip(rows, found, strict=True)
        )

    def _save(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.save(self._progress)

    def _show(self, start: "Position", end: "Position", reason: str) -> None:
        self._shown += 1
        if self._shown <= SHOWN_MAX:
            last = end.line - 1
            where = f"line {start.line}" if last <= start.line else f"lines {start.line} to {last}"
            exits.say(f"{where}: {reason}")
        elif self._shown == SHOWN_MAX + 1:
            exits.say("(further lines are counted, not shown)")

    def _show_counts(self, complete: bool, goes_on: bool = True) -> None:
        progress = self._progress
        counts = {
            "stored": progress.stored,
            "superseded": progress.superseded,
            "lost": progress.lost,
            "failed": len(progress.failed),
            "malformed": progress.malformed,
        }
        if self._target.json:
            click.echo(json.dumps({**counts, "complete": complete, "resumed_at_line": self._resumed}))
        else:
            click.echo(", ".join(f"{count} {name}" for name, count in counts.items()))
        if not complete and goes_on and self._checkpoint is not None:
            exits.say(
                f"The import is not complete. Give the same command again: it goes on behind line "
                f"{progress.position.line - 1} and repeats what failed."
            )
        if progress.superseded or progress.lost:
            exits.say(
                "Superseded and lost rows met other writes to their keys, which hold: get a key to see."
            )

    def _exit_code(self) -> int:
        progress = self._progress
        if not all(failed.definite for failed in progress.failed):
            return exits.UNKNOWN
        if progress.failed or progress.malformed:
            return exits.REFUSED
        return exits.BEATEN if progress.superseded or progress.lost else exits.DONE
