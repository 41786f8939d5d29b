"""Atomic import: the course of `basestore import --atomic`, which writes a whole file as one batch.

All rows are read first: a malformed one is an error, and nothing is written. Where the outcome is not known
it is kept beside the file by what the batch is known: the same command follows that one then, and writes none
anew. Such a checkpoint is another one than that of an import row by row. One that was stopped before it heard
of the outcome has kept nothing: given again it writes the same rows, as a new batch.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from basestore.cli import exits
from basestore.cli.data.checkpoint import Failed, Progress, checkpoint_of
from basestore.cli.data.rows import START, Malformed, Row, Source
from basestore.cli.options import Target
from basestore.errors import InvalidRequest, RequestFailed
from basestore.protocol.limits import BATCH_KEYS_MAX

if TYPE_CHECKING:
    from basestore.sync import SyncStore

LEFT = ".basestore-batch"


class AtomicImport:
    """One run of it."""

    def __init__(
        self, target: Target, source: Source, store: "SyncStore", opened: BinaryIO, ttl_s: float | None,
        checkpoint: Path | None,
    ) -> None:  # fmt: skip
        self._target, self._source, self._store, self._opened = target, source, store, opened
        self._ttl_s = ttl_s
        self._checkpoint = checkpoint_of(
            source, opened, target, store, checkpoint, LEFT, format=f"{source.format}, atomic", ttl=ttl_s
        )

    def restart(self) -> None:
        """What became of an earlier batch is not asked."""
        if self._checkpoint is not None:
            self._checkpoint.remove()

    def run(self) -> int:
        """The exit code."""
        rows = self._rows()
        before = self._checkpoint.load() if self._checkpoint is not None else None
        repeat = before.failed[0].identity if before is not None and before.failed else None
        if repeat is not None:
            exits.say("An earlier attempt may have written this batch: it is followed to its end.")
        batch = self._store.batch(atomic=True, repeat=repeat)
        try:
            with batch:
                for row in rows:
                    batch.set(row.key, row.value, bucket=self._target.bucket, ttl=self._ttl_s)
        except RequestFailed as error:
            if error.definite:
                self.restart()
                raise
            return self._not_known(error, len(rows))
        self.restart()
        self._show(len(rows), 0)
        return exits.DONE

    def _rows(self) -> list[Row]:
        """All of them, or InvalidRequest."""
        rows = list[Row]()
        for row in self._source.read(self._opened, START):
            if isinstance(row, Malformed):
                raise InvalidRequest(
                    f"line {row.start.line}: {row.reason}. A batch is all or nothing: nothing was written. "
                    f"Correct the line"
                )
            rows.append(row)
            if len(rows) > BATCH_KEYS_MAX:
                raise InvalidRequest(
                    f"the file has more than {BATCH_KEYS_MAX} rows, and a batch no more than that; nothing "
                    f"was written. Share them among several files, or leave --atomic out"
                )
        if not rows:
            raise InvalidRequest("the file has no rows: nothing was written")
        return rows

    def _not_known(self, error: RequestFailed, count: int) -> int:
        """Keep what it is known by."""
        told = str(error).partition(f". Repeat it as {error.identity}")[0]
        told = told.partition(f": repeat it as {error.identity}")[0]
        if self._checkpoint is None or error.identity is None:
            exits.say_error(f"{told}. Read its keys to find out")
        else:
            self._checkpoint.save(Progress(failed=[Failed(START, str(error.identity), False, 0)]))
            exits.say_error(
                f"{told}. Give the same command again: it follows this batch to its end (--restart writes "
                f"the rows as a new one)"
            )
        self._show(0, count)
        return exits.UNKNOWN

    def _show(self, stored: int, failed: int) -> None:
        if self._target.json:
            click.echo(json.dumps({"stored": stored, "failed": failed, "complete": not failed}))
        else:
            click.echo(f"{stored} stored, {failed} failed")
