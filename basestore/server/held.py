"""Held: the file beside a store that says how many batches the store held when it was opened or closed last.

A log that is cut between two of its records, or is gone, looks whole; so does a directory of which nothing
is left but such files: a store that never was. The file tells them apart. It is written once all that it
counts is durable, so a store that holds fewer has lost them:

    opened       sequence 3     HELD says 3
    killed       sequence 90    HELD says 3     a log that is cut between 3 and 90 is found by peers only
    closed       sequence 120   HELD says 120   a log that is cut anywhere is found by the store itself

Draws no conclusion: `replica/identity.py` does.
"""

import sys
from contextlib import suppress
from pathlib import Path

from basestore.errors import StorageError
from basestore.storage.durable_files import replace_file

_NAME = "HELD"


def held_in(directory: Path) -> int:
    """How many batches it was at least; 0 of a store that is new. More than any store has where the file is
    damaged: that is no new store, and nobody knows. StorageError."""
    try:
        return int((directory / _NAME).read_bytes())
    except FileNotFoundError:
        return 0
    except ValueError:
        return sys.maxsize
    except OSError as error:
        raise StorageError(f"the store in {directory} cannot be read: {error}") from error


def note_held(directory: Path, sequence: int) -> None:
    """All batches up to this one are durable."""
    # A disk without room takes no file; what the old one says is true all the same.
    with suppress(OSError):
        replace_file(directory / _NAME, str(sequence))
