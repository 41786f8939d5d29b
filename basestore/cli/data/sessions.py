"""Session files: what several commands have seen, one after the other or at once.

A file holds the token of a session (`client/session.py`) and is replaced in one step, so that a
reader finds the old one or the new one. What a command has seen is merged with what others have put
there meanwhile; a lock beside it, FILE.lock, lets one command do that at a time. What one of them has
forgotten of what it found there, for it is everywhere or was told to be lost, no other puts back. A file that
makes no sense is left as it is.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from basestore.cli import exits
from basestore.errors import BasestoreError, InvalidRequest, SessionFull
from basestore.storage.durable_files import replace_file

if TYPE_CHECKING:
    from basestore.sync import SyncSession, SyncStore


KEYS_MAX = 100_000
TOKEN_BYTES_MAX = 64 << 20


class SessionNotKept(BasestoreError):
    """What a command has seen is not in its session file, though the command was carried out."""

    definite = False


@contextmanager
def open_session(store: "SyncStore", path: Path) -> Iterator["SyncSession"]:
    """A session that goes on from what the file holds, if there is one, and puts there what was seen,
    also when the block fails. InvalidRequest when the file is damaged or belongs to another cluster, or
    cannot be used: nothing was done then. SessionNotKept when it can no longer be written."""
    # To replace FILE would put a file in the place of a symbolic link, and leave its target as it was.
    path = Path(os.path.realpath(path))
    try:
        with _locked(path):  # so that a directory that cannot be written to is found out before
            held = _read(path)
    except OSError as error:
        raise InvalidRequest(
            f"the session file {path} cannot be used: {error.strerror}. Name one that can be written"
        ) from None
    with store.session(keys_max=KEYS_MAX) as session:
        _merge(session, path, held)
        try:
            yield session
        except BaseException:
            try:
                _keep(session, path, held)
            except SessionNotKept as not_kept:
                exits.say(f"Warning: {not_kept}")
            raise
        _keep(session, path, held)


def _merge(session: "SyncSession", path: Path, token: str | None, base: str | None = None) -> None:
    try:
        if token is not None:
            session.merge(token, base)
    except (InvalidRequest, SessionFull) as error:
        raise InvalidRequest(
            f"{path} was left as it is, for {error}. Put the right file there, or name another, which is "
            f"made if it does not exist"
        ) from None


def _keep(session: "SyncSession", path: Path, base: str | None) -> None:
    """`base`: what the file held when this command read it."""
    try:
        with _locked(path):
            held = _read(path)
            _merge(session, path, held, base)
            if session.token != held:
                replace_file(path, session.token + "\n")
    except (OSError, BasestoreError) as error:
        raise SessionNotKept(
            f"what was seen could not be kept in {path}: {error}. What this command did is done; what is "
            f"read later with this file may be older"
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """While this lasts, no other command reads or writes the file. The lock ends with the process."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file")
    # A file of its own, and never removed: FILE is replaced, and a lock would go with the old one.
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> str | None:
    """The token that the file holds; None when there is no file, or nothing in it."""
    try:
        with path.open("rb") as file:
            token = file.read(TOKEN_BYTES_MAX)
    except FileNotFoundError:
        return None
    return token.decode("ascii", errors="replace").removesuffix("\n") or None
