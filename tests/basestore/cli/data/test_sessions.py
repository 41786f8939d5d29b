"""Sessions across nodes: in every client and in the shell, while writes have not come everywhere.

The cluster keeps what is written at n1 from the others, so that without a session a read at ONE
elsewhere shows what was there before.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from basestore import InvalidRequest, ReadTimeout
from tests.worlds.flavours import FLAVOURS, run
from tests.worlds.patience import PATIENCE_S, eventually
from tests.worlds.shell import COMMAND, Cluster, cluster, environment


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("sessions") / "data", "--durability", "memory") as started:
        yield started


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_a_session_wrote_it_reads_at_every_node_and_level(three: Cluster, flavour: str) -> None:
    tokens: list[str] = []

    async def write(store: Any) -> None:
        async with store.session() as session:
            await session.set(f"{flavour} key", "v", consistency="one")
            tokens.append(session.token)

    async def read(store: Any) -> None:
        async with store.session(*tokens) as session:
            for level in ("one", "quorum", "all"):
                assert (await session.get(f"{flavour} key", consistency=level)).value == b"v"
            items = [item.key async for item in session.scan(flavour)]
            assert items == [f"{flavour} key".encode()]

    run(flavour, three.endpoint(1), write)
    for node in (2, 3):
        run(flavour, three.endpoint(node), read)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_token_that_was_altered_is_refused(three: Cluster, flavour: str) -> None:
    async def body(store: Any) -> None:
        async with store.session() as session:
            await session.set("k", "v")
            token = session.token
        for bad in (token[:-4], token.replace("s1.", "s9."), token[:10] + "A" + token[11:], ""):
            if bad != token:
                with pytest.raises(InvalidRequest, match="token"):
                    async with store.session(bad):
                        pass

    run(flavour, three.endpoint(1), body)


def test_a_session_in_the_shell_goes_from_command_to_command(three: Cluster, tmp_path: Path) -> None:
    file = str(tmp_path / "seen")
    assert three.invoke("set", "shell", "1", "-c", "one", "--session", file).code == 0
    for node in (2, 3):
        assert three.invoke("get", "shell", "-c", "one", "--session", file, node=node).text == "1\n"
    assert Path(file).stat().st_mode & 0o777 == 0o600


def test_a_damaged_session_file_is_named_and_left_as_it_is(three: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "seen"
    file.write_text("s1.not a token\n")
    done = three.invoke("get", "shell", "--session", str(file))
    assert done.code == 2
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
    assert file.read_text() == "s1.not a token\n"


def test_an_empty_file_is_a_new_session_and_a_pipe_is_refused(three: Cluster, tmp_path: Path) -> None:
    empty, pipe = tmp_path / "empty", tmp_path / "pipe"
    empty.touch()
    os.mkfifo(pipe)
    assert three.invoke("set", "shell", "2", "--session", str(empty)).code == 0
    assert empty.read_text().startswith("s1.")
    done = three.invoke("get", "shell", "--session", str(pipe))
    assert done.code == 2
    assert "regular file" in done.stderr


def test_what_cannot_be_kept_is_told_and_so_is_what_went_wrong_before(three: Cluster, tmp_path: Path) -> None:
    """A file that can no longer be written once the command is under way."""
    file = tmp_path / "seen"
    (tmp_path / "seen.new").mkdir()
    done = three.invoke("set", "shell", "3", "--session", str(file))
    assert done.code == 4
    assert done.text.startswith("stored")
    assert f"Error: what was seen could not be kept in {file}" in done.stderr
    done = three.invoke("get", "shell", "--bucket", "no such", "--session", str(file))
    assert done.code == 2
    kept, wrong = done.stderr.splitlines()
    assert kept.startswith(f"Warning: what was seen could not be kept in {file}")
    assert wrong.startswith("Error: ")
    assert "no such" in wrong


def test_commands_at_once_lose_nothing_that_another_has_seen(three: Cluster, tmp_path: Path) -> None:
    file = str(tmp_path / "seen")
    target = ("-e", three.endpoint(1), "--session", file)
    writers = [
        subprocess.Popen(
            [*COMMAND, "set", f"at once {number}", "v", *target], env=environment(), stdout=subprocess.DEVNULL
        )
        for number in range(4)
    ]
    assert [writer.wait(PATIENCE_S) for writer in writers] == [0] * 4
    for number in range(4):
        done = three.invoke("get", f"at once {number}", "-c", "one", "--session", file, "-o", "json", node=3)
        assert json.loads(done.stdout)["found"]


def test_a_weak_read_is_at_one_and_other_levels_are_refused(three: Cluster) -> None:
    three.invoke("set", "weak", "v", "-c", "all")
    assert three.invoke("get", "weak", "--weak").text == "v\n"
    done = three.invoke("get", "weak", "--weak", "-c", "quorum")
    assert done.code == 2
    assert "a read at level quorum cannot leave" in done.stderr
    assert "read at level one" in done.stderr


def test_nobody_who_answers_has_what_was_seen(three: Cluster) -> None:
    """Runs last, for it ends a node: with n1 gone nobody, or nobody yet, has what only n1 took."""
    outcomes: list[object] = []

    async def write(store: Any) -> None:
        async with store.session() as session:
            await session.set("only there", "v", consistency="one")
            outcomes.append(session.token)

    async def read(store: Any) -> None:
        async with store.session(*outcomes) as session:
            try:
                outcomes.append((await session.get("only there", consistency="one")).value)
            except ReadTimeout as error:
                outcomes.append(str(error))

    others = [three.up.pids[name] for name in ("n2", "n3")]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        run("trio", three.endpoint(1), write)
        os.kill(three.up.pids["n1"], signal.SIGKILL)
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)
    eventually(lambda: three.states()["n1"]["state"] == "down", "n1 is down")
    run("trio", three.endpoint(2), read)
    assert outcomes[-1] == b"v" or "session has seen" in str(outcomes[-1])
