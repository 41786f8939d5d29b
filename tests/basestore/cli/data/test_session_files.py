"""Session files by themselves: what one command has forgotten, no other puts back.

Covers `cli/data/sessions.py`, and `Session.merge` with a base.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from basestore.cli.data.sessions import open_session
from basestore.client.session import Session
from basestore.config import BUILT_IN
from basestore.errors import VersionLost
from basestore.protocol.client import Get, Got
from basestore.repair.version import Version

KEY = b"k"
SEEN, NEWER, OLDER = Version(7 << 16, 1, 1), Version(9 << 16, 1, 1), Version(5 << 16, 1, 1)


class Store:
    """As much of one as a session file needs."""

    @contextmanager
    def session(self, keys_max: int) -> Iterator[Session]:
        yield Session(bytes(16), BUILT_IN, keys_max)


@contextmanager
def command(path: Path) -> Iterator[Session]:
    with open_session(Store(), path) as session:  # type: ignore[arg-type]
        yield session  # type: ignore[misc]


def see(session: Session, version: Version, key: bytes = KEY) -> None:
    session.show("default", key, version.encode())


def told_that_it_is_lost(session: Session) -> None:
    read = session.begin(Get(1, "default", KEY, 1, 1000, b"", True))
    session.end(read, VersionLost("lost", SEEN))


def held(path: Path) -> bytes:
    with command(path) as session:
        return session.floor("default", KEY)


def test_what_a_command_was_told_to_be_lost_is_not_in_its_file_any_more(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    with command(path) as session:
        see(session, SEEN)
    with command(path) as session:
        told_that_it_is_lost(session)
    assert held(path) == b""


def test_what_one_command_has_forgotten_another_that_knew_it_from_the_file_does_not_put_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "seen"
    with command(path) as session:
        see(session, SEEN)
    with command(path) as other:
        see(other, SEEN, b"another")
        with command(path) as session:
            told_that_it_is_lost(session)
    assert held(path) == b""
    with command(path) as session:
        assert session.floor("default", b"another")


def test_what_is_everywhere_goes_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    with command(path) as session:
        see(session, SEEN)
    with command(path) as session:
        read = session.begin(Get(1, "default", KEY, 1, 1000, b"", True))
        session.end(read, Got(1, True, b"v", SEEN.encode(), 0, 1, 1, False, 0, 0, SEEN.stamp))
    assert held(path) == b""


def test_what_is_older_is_kept_once_what_was_seen_before_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    with command(path) as session:
        see(session, SEEN)
    with command(path) as session:
        told_that_it_is_lost(session)
        see(session, OLDER)
    assert held(path) == OLDER.encode()


def test_what_another_command_has_seen_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    with command(path) as session:
        see(session, SEEN)
    with command(path) as session:
        told_that_it_is_lost(session)
        with command(path) as other:
            see(other, NEWER)
    assert held(path) == NEWER.encode()
