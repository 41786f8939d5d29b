"""Importing: the course of `basestore import`.

    begin    open the file, see what it is, find the checkpoint of an import that was stopped
    retry    the rows whose write failed last time, each as itself. Where what became of it cannot be known,
             and the key holds nothing, or a write older than it can be, it is written anew; what is newer
             stays, and the row is counted as superseded by it
    go on    batch after batch; after each, the checkpoint. What is refused as overloaded waits, and is asked
             for again when the node says (`pacing.py`); meanwhile it stands in the checkpoint as failed
    end      the counts; the checkpoint goes if there is nothing to come back for

It neither goes on nor ends behind rows that may be gone with a disk (`losses.py`).
What a row becomes is counted, never dropped: stored, superseded, lost, failed or malformed. A row
that failed is written later than those behind it: of rows with one key, another than the last may
then be the one that stays. How a file is read is `rows.py`, how a checkpoint is kept `checkpoint.py`.
"""

import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from basestore.cli import exits
from basestore.cli.data.losses import say_missing, wait_for_moment
from basestore.cli.options import Target, command, duration, share
from basestore.cli.stores import open_store

if TYPE_CHECKING:
    from basestore.cli.data.checkpoint import Checkpoint, Failed
    from basestore.cli.data.pacing import Round
    from basestore.cli.data.rows import Malformed, Position, Row, Source
    from basestore.errors import RequestFailed
    from basestore.results.cluster_view import Obstacle
    from basestore.results.receipts import Receipt
    from basestore.sync import SyncStore

PROGRESS = ".basestore-progress"
FAILED_MAX = 10_000
SHOWN_MAX = 10
SAID_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class _Options:
    """What the caller said beside the target."""

    source: "Source"
    ttl_s: float | None
    checkpoint: Path | None
    restart: bool


@command("import")
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
@click.option("--atomic", is_flag=True, help="All of FILE is one batch, of 100 rows and 1 MiB at most.")
def import_command(
    target: Target, file: Path, form: str | None, key: str | None, value: str | None, ttl: float | None,
    checkpoint: Path | None, restart: bool, atomic: bool,
) -> int:  # fmt: skip
    """Write the rows of FILE (- is stdin).

    NDJSON: a JSON object a line, with "key" (a string) and "value": a string, base64 where
    "encoding" says so, or any other JSON, which is stored as compact JSON text. CSV: a header, then
    rows; --key names the key's column.

    An import that was stopped, or in which writes failed, goes on when the same command is given
    again. Rows that are refused as overloaded, as over a limit, wait and are asked for again when
    the node says; when for a minute none is let in, it stops. Malformed lines are counted and passed
    over. Exit code: that of the worst row.

    --atomic: all rows are written or, in the end, none, into a bucket where the last write wins; readers
    may see a part for a moment. Where the outcome is not known, the same command follows the batch.
    """
    from basestore.cli.data.atomic_import import AtomicImport
    from basestore.cli.data.rows import Source

    source = Source.of(file, form, key, value)
    if not source.resumable and (checkpoint or restart):
        raise click.UsageError("A pipe cannot be read again: --checkpoint and --restart need a FILE.")
    with open_store(target, bulk=True) as store, source.open() as opened:
        if atomic:
            whole = AtomicImport(target, source, store, opened, ttl, checkpoint)
            if restart:
                whole.restart()
            return whole.run()
        return _Import(target, _Options(source, ttl, checkpoint, restart), store, opened).run()


class _Import:
    """One run of an import: the progress so far, and what becomes of the rows behind it."""

    def __init__(self, target: Target, options: _Options, store: "SyncStore", source: BinaryIO) -> None:
        """Begin: find out where to go on."""
        from basestore.cli.data.checkpoint import Progress
        from basestore.cli.data.pacing import Pace

        self._target = target
        self._options = options
        self._store = store
        self._source = source
        self._shown = 0
        self._pace = Pace(store, target.bucket, options.ttl_s)
        self._waiting: list[Failed] = []  # of the rows that are being written, those to be asked for again
        self._said_s: float | None = None  # when it was last said that rows wait
        self._bar: Any = None
        self._reached = 0  # bytes of the file, as the bar shows
        self._checkpoint = self._find_checkpoint()
        self._progress: Progress = (self._checkpoint and self._checkpoint.load()) or Progress()
        self._resumed = self._progress.position.line if self._progress.position.offset else None

    def _find_checkpoint(self) -> "Checkpoint | None":
        from basestore.cli.data.checkpoint import checkpoint_of

        options = self._options
        checkpoint = checkpoint_of(
            options.source, self._source, self._target, self._store, options.checkpoint, PROGRESS
        )
        if options.restart and checkpoint is not None:
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
        from basestore.cli.data.rows import batches

        for nothing_done, together in groupby(
            list(self._progress.failed), lambda each: each.identity is None
        ):
            if not nothing_done:
                for failed in together:
                    self._repeat(failed)
                continue
            for batch in batches(map(self._row_of, together)):
                starts = {row.start for row in batch}
                failed_before, self._progress.failed = self._progress.failed, []
                for failed in failed_before:
                    (self._waiting if failed.position in starts else self._progress.failed).append(failed)
                self._write(batch, self._progress.position)
        if self._resumed is not None:
            self._save()

    def _row_of(self, failed: "Failed") -> "Row":
        from basestore.cli.data.rows import Row

        row = next(self._options.source.read(self._source, failed.position))
        assert isinstance(row, Row)  # it was one before, and the file is the same
        return row

    def _repeat(self, failed: "Failed") -> None:
        """Write a row as the write whose outcome is not known."""
        from basestore.errors import OutcomeUnknown, RequestFailed

        progress, row, after_ms = self._progress, self._row_of(failed), failed.after_ms
        result = self._set(row, failed.identity)
        if isinstance(result, OutcomeUnknown):
            if result.found is not None and result.found.wall_ms > after_ms:
                progress.failed.remove(failed)
                progress.superseded += 1  # wherever its own write came to lie, this one is later
                return
            after_ms = progress.newest_ms
            result = self._set(row, None)
        elif isinstance(result, RequestFailed) and result.definite:
            self._show(row.start, row.end, str(result))
            return  # this attempt did nothing: what is not known of the one before stays so
        # Removed only now, for a pause may be interrupted; `_count` puts it back if it has failed again.
        progress.failed.remove(failed)
        self._count([row], [result], after_ms)

    def _set(self, row: "Row", repeat: str | None) -> "Receipt | RequestFailed":
        result: Receipt | RequestFailed
        for told in self._pace.set(row, repeat):
            if told.waiting:
                self._save()
                self._report(told)
            else:
                (result,) = told.results
        return result

    def _hear_time(self, wall_ms: int) -> None:
        self._progress.newest_ms = max(self._progress.newest_ms, wall_ms)

    def _go_on(self) -> None:
        """Write the rows behind the progress, a batch at a time."""
        from basestore.cli.data.pacing import PATIENCE_S
        from basestore.cli.data.rows import batches

        with self._watched() as self._bar:
            for batch in batches(self._options.source.read(self._source, self._progress.position)):
                self._write(batch, batch[-1].end)
                if len(self._progress.failed) >= FAILED_MAX:
                    exits.say(
                        f"{FAILED_MAX} writes have failed: the import stops. Look at `basestore status`."
                    )
                    return
                if self._pace.stalled:
                    exits.say(
                        f"For {PATIENCE_S:.0f} s all was refused as overloaded: the import stops. Look at "
                        f"`basestore status`."
                    )
                    return

    def _watched(self) -> Any:
        """A progress bar over the bytes of the file, where someone watches."""
        file = self._options.source.file
        if file is None or not self._options.source.resumable or not sys.stderr.isatty():
            return nullcontext()
        size = file.stat().st_size
        return click.progressbar(length=size, label="importing", file=sys.stderr)

    def _write(self, batch: "Sequence[Row | Malformed]", end: "Position") -> None:
        """Write these rows; behind them the progress is at `end`."""
        from basestore.cli.data.checkpoint import Failed
        from basestore.cli.data.rows import Malformed, Row

        progress = self._progress
        malformed = [row for row in batch if isinstance(row, Malformed)]
        for told in self._pace.set_many([row for row in batch if isinstance(row, Row)]):
            progress.malformed += len(malformed)
            while malformed:
                wrong = malformed.pop(0)
                self._show(wrong.start, wrong.end, wrong.reason)
            self._waiting = [Failed(row.start, None, True, progress.newest_ms) for row in told.waiting]
            progress.superseded += told.overtaken
            self._count(told.rows, told.results, progress.newest_ms)
            # Last, and saved at once: a stop before it repeats the rows, one after it leaves nothing out.
            progress.position = end
            self._save()
            self._report(told)

    def _report(self, told: "Round") -> None:
        """Say how far it is: on the bar, or now and then where rows wait and there is none; why, at first."""
        if self._bar is not None:
            waiting = sum(row.end.offset - row.start.offset for row in told.waiting)
            reached = self._progress.position.offset - waiting
            self._bar.update(reached - self._reached)
            self._reached = reached
        now_s = time.monotonic()
        if told.waiting and self._said_s is None:
            why = str(told.why).partition(". Try again")[0]  # which it does
            exits.say(f"Not all is taken at once. What is refused is asked for again in time: {why}.")
            self._said_s = now_s
        elif told.waiting and self._bar is None and now_s >= (self._said_s or 0.0) + SAID_EVERY_S:
            exits.say(f"At line {self._progress.position.line}: {self._progress.stored} stored so far.")
            self._said_s = now_s

    def _count(
        self, rows: "Sequence[Row]", results: "Sequence[Receipt | RequestFailed]", after_ms: int
    ) -> None:
        """Add what became of these rows to the progress. `after_ms`: as in `Failed`, of those that failed."""
        from basestore.cli.data.checkpoint import Failed
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
        same = self._already_there(lost) if lost else 0
        progress.stored += same
        progress.lost += len(lost) - same

    def _already_there(self, rows: "Sequence[Row]") -> int:
        """How many of these rows, lost to earlier writes, lost to their own value: an import into a
        first-write bucket that was stopped meets what it wrote itself."""
        from basestore.client.arguments import level_of
        from basestore.consistency import Level
        from basestore.results.receipts import ReadResult

        level = max(level_of(self._target.consistency), Level.ONE)
        return sum(
            isinstance(result, ReadResult) and result.value == row.value
            for told in self._pace.get_many(rows, level)
            for row, result in zip(told.rows, told.results, strict=True)
        )

    def _save(self) -> None:
        if self._checkpoint is not None:
            failed = self._progress.failed + self._waiting
            self._checkpoint.save(replace(self._progress, failed=failed))

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
            "failed": len(progress.failed) + len(self._waiting),
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
        if progress.malformed:
            exits.say(
                "Malformed lines were passed over. Correct them, and import them from a file of their own."
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
