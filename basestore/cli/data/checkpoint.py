"""Checkpoint: how far an import has come, in a small file beside the one that is imported.

Written in one step after each batch that was answered, so that an import that was stopped, or in
which writes failed, goes on from it. A checkpoint belongs to one import: the same content of the
file, read in the same way, into the same bucket of the same cluster. One that belongs to another import is
refused. It reads no rows and writes none: `importing.py` does.
"""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from basestore.cli.data.rows import START, Position, Source
from basestore.cli.options import Target
from basestore.errors import ConfigurationError
from basestore.repair.version import COUNTER_BITS
from basestore.results.receipts import Receipt, Writes
from basestore.storage.durable_files import replace_file

if TYPE_CHECKING:
    from basestore.sync import SyncStore

FORMAT = 4
SAMPLE_BYTES = 64 << 10


class Failed(NamedTuple):
    """A row whose write failed. `identity` is the write's, by which it is repeated as itself unless nothing
    was done; `after_ms`: its stamp, if it has one, is not older than this, by the cluster's clocks."""

    position: Position
    identity: str | None
    definite: bool
    after_ms: int


@dataclass(slots=True)
class Progress:
    """What has become of the rows up to `position`; those in `failed` are still to be written. `newest_ms`:
    the newest that the cluster has told of its time, in ms since 1970. `written`, by partition: what rests
    on the stores that there were, to be held against what is lost later."""

    position: Position = START
    newest_ms: int = 0
    stored: int = 0
    superseded: int = 0
    lost: int = 0
    malformed: int = 0
    failed: list[Failed] = field(default_factory=list)
    written: dict[int, Writes] = field(default_factory=dict)

    def note(self, receipt: Receipt, after_ms: int) -> None:
        """A write has ended, later than this; with it, or what beat it, is gone what is counted of it."""
        # What beat it unstamped may be older than a loss that it outlived: only one from now on counts.
        stamp = receipt.version.stamp if receipt.version else after_ms << COUNTER_BITS
        if receipt.version is None and receipt.superseded_by is not None:
            stamp = max(stamp, receipt.superseded_by.stamp)
        writes = receipt.rests_on(stamp)
        known = self.written.get(receipt.partition, writes)
        self.written[receipt.partition] = Writes(
            min(known.stamp, writes.stamp),
            min(known.known_at, writes.known_at),
            max(known.replicas, writes.replicas),
            known.by_quorum and writes.by_quorum,
        )


def identity(source: BinaryIO, settings: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint must match: the file's size, samples of its start and end, the settings."""
    size = os.fstat(source.fileno()).st_size
    source.seek(0)
    head = source.read(SAMPLE_BYTES)
    source.seek(max(0, size - SAMPLE_BYTES))
    tail = source.read(SAMPLE_BYTES)
    source.seek(0)
    return {"size": size, "content": hashlib.blake2b(head + tail, digest_size=16).hexdigest(), **settings}


def checkpoint_of(
    source: Source, opened: BinaryIO, target: Target, store: "SyncStore", path: Path | None, ending: str,
    **settings: Any,
) -> "Checkpoint | None":  # fmt: skip
    """That of an import of this source; None where it cannot be read again. Kept at `path`, or else beside
    the file, under its name and this ending. `settings`: what it must match besides, or in place of what is
    usual."""
    if source.file is None or not source.resumable:
        return None
    usual = {
        "cluster": store.cluster_id(), "bucket": target.bucket, "format": source.format,
        "key column": source.key, "value column": source.value,
    }  # fmt: skip
    where = path or source.file.with_name(source.file.name + ending)
    return Checkpoint(where, identity(opened, usual | settings))


class Checkpoint:
    """The file at `path`, for the import with this identity."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self._identity = identity

    def load(self) -> Progress | None:
        """How far this import has come, or None when it is new; ConfigurationError when the file
        belongs to another import."""
        try:
            document = json.loads(self.path.read_bytes())
            known, version = document["import"], document["format"]
            progress = _revive(document["progress"]) if version == FORMAT else Progress()
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"the checkpoint {self.path} cannot be read: {error!r}. Begin anew with --restart"
            ) from error
        differing = [name for name, value in self._identity.items() if known.get(name) != value]
        if version != FORMAT or differing:
            raise ConfigurationError(
                f"the checkpoint {self.path} belongs to another import (of another "
                f"{', '.join(differing) or 'format'}). Begin anew with --restart, or keep this import's "
                f"progress elsewhere with --checkpoint"
            )
        return progress

    def save(self, progress: Progress) -> None:
        """Replace the file, durably; ConfigurationError when that is impossible."""
        document = {"format": FORMAT, "import": self._identity, "progress": dataclasses.asdict(progress)}
        try:
            replace_file(self.path, json.dumps(document), 0o666)  # as whoever runs it lets files be read
        except OSError as error:
            raise ConfigurationError(
                f"the checkpoint {self.path} cannot be written: {error}. Put it elsewhere with --checkpoint"
            ) from error

    def remove(self) -> None:
        """The import is complete: nothing is left to go on from."""
        self.path.unlink(missing_ok=True)


def _revive(fields: dict[str, Any]) -> Progress:
    fields = dict(fields)
    position = Position(*fields.pop("position"))
    failed = [Failed(Position(*start), *rest) for start, *rest in fields.pop("failed")]
    written = {int(partition): Writes(*least) for partition, least in fields.pop("written").items()}
    return Progress(position=position, failed=failed, written=written, **fields)
