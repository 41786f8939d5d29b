"""`basestore join`: what it writes, what it refuses, that nothing is half done then, and that it can be given
again. Covers `cli/running/join.py`."""

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from basestore import sync
from basestore.cli import group
from basestore.cli.running import join
from basestore.config import NodeConfig
from basestore.config_file import dump, load
from basestore.errors import ChangeUnknown, NoLeader
from basestore.protocol.client import Failed
from basestore.protocol.codec import Message
from basestore.protocol.membership import ChangeTopology
from basestore.results.topology import ClusterTopology
from basestore.server.local_cluster import plan_cluster
from tests.worlds.fakes import fake
from tests.worlds.patience import eventually
from tests.worlds.ports import free_ports
from tests.worlds.shell import Cluster, Finished, cluster, invoke, running
from tests.worlds.told_topologies import Answers
from tests.worlds.topologies import founded

Options = list[str]


def topology(three: Cluster) -> ClusterTopology:
    with sync.connect(three.endpoint(1)) as store:
        return store.topology("consistent")


def wait_founded(three: Cluster) -> None:
    def decides() -> bool:
        try:
            return len(topology(three).voters) == 3
        except NoLeader:
            return False

    eventually(decides, "the metadata group is founded")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("three")) as started:
        wait_founded(started)
        yield started


def key(three: Cluster) -> bytes:
    return load(three.directory / "n1.toml").cluster.key


def command(three: Cluster, directory: Path, name: str, *more: str, address: str = "") -> Options:
    source = [] if "--from" in more or "--key-file" in more else ["--from", f"{three.directory}/n1.toml"]
    address = address or f"127.0.0.1:{free_ports(1)}"
    words = ["join", three.endpoint(1), "--name", name, "--address", address, "--dir", str(directory)]
    return [*words, *source, *more]


def added(three: Cluster) -> list[str]:
    """The lines of the log in which members were added, or refused."""
    with sync.connect(three.endpoint(1)) as store:
        return [each.text for each in store.topology_history().entries if each.text.startswith("add member")]


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in directory.rglob("*")}


# --- what it writes ----------------------------------------------------------------------------------


def test_its_file_names_all_members_and_only_its_owner_reads_it(three: Cluster, tmp_path: Path) -> None:
    directory, port = tmp_path / "new" / "data", free_ports(1)
    more = ("--zone", "east", "--weight", "3", "--durability", "interval", "--listen", f"0.0.0.0:{port}")
    address = f"localhost:{port}"
    done = invoke(*command(three, directory, "written", "--no-serve", *more, address=address))
    path = directory / "written.toml"
    (number,) = [each.number for each in topology(three).members if each.name == "written"]
    assert (done.code, done.stderr) == (0, "")
    assert done.text == f"written has joined under number {number}; its file is {path}\n"
    assert path.stat().st_mode & 0o077 == directory.stat().st_mode & 0o077 == 0
    node, first = load(path), load(three.directory / "n1.toml")
    assert (node.name, node.member.number, node.member.address) == ("written", number, address)
    assert (node.member.zone, node.durability, node.listen) == ("east", "interval", f"0.0.0.0:{port}")
    assert node.directory == directory / "written"
    assert node.cluster.members[:3] == first.cluster.members
    assert (node.cluster.id, node.cluster.key, node.cluster.partitions) == (
        first.cluster.id, first.cluster.key, first.cluster.partitions,
    )  # fmt: skip
    (told,) = [each for each in topology(three).members if each.name == "written"]
    assert (told.zone, told.weight, told.standing) == ("east", 3, "joining")


def test_the_key_may_stand_in_a_file_of_its_own(three: Cluster, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{key(three).hex()}\n")
    done = invoke(*command(three, tmp_path, "keyed", "--no-serve", "--key-file", f"{tmp_path}/key"))
    assert done.code == 0, done.stderr
    assert load(tmp_path / "keyed.toml").cluster.key == key(three)


def test_given_again_it_finds_what_is_done(three: Cluster, tmp_path: Path) -> None:
    words = command(three, tmp_path, "again", "--no-serve")
    address = words[words.index("--address") + 1]
    with sync.connect(three.endpoint(1)) as store:  # it was interrupted behind that
        number = store.add_member("again", address).number
    log = added(three)
    assert f"again has joined under number {number}" in invoke(*words).text
    written = tree(tmp_path)
    again = invoke(*words)
    assert (again.code, again.stdout, again.stderr) == (0, b"", "")
    assert tree(tmp_path) == written
    assert added(three) == log
    other = invoke(*command(three, tmp_path / "b", "again", "--no-serve", "--weight", "2", address=address))
    assert other.code == 2
    assert "again was added already, in zone '' with weight 1: give these, or have it removed" in other.stderr


def test_where_its_file_cannot_be_written_it_is_a_member_and_the_command_can_be_given_again(
    three: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "unwritten.toml.new").mkdir()  # of the draft
    words = command(three, tmp_path, "unwritten", "--no-serve")
    refused = invoke(*words)
    assert refused.code == 2
    assert "unwritten.toml cannot be written" in refused.stderr
    assert "unwritten is a member already, and is found to be" in refused.stderr
    log = added(three)
    (tmp_path / "unwritten.toml.new").rmdir()
    assert invoke(*words).code == 0
    assert added(three) == log


# --- what it refuses -----------------------------------------------------------------------------------


def _name_taken(three: Cluster, at: Path) -> Options:
    return command(three, at, "n2")


def _address_taken(three: Cluster, at: Path) -> Options:
    # Of a member that does not listen on this machine, as far as that can be told.
    return command(three, at, "n4", "--listen", f"127.0.0.1:{free_ports(1)}", address=three.endpoint(2))


def _own_address(three: Cluster, at: Path) -> Options:
    return command(three, at, "n4", address=three.endpoint(2))


def _data_there(three: Cluster, at: Path) -> Options:
    (at / "n4").mkdir()
    (at / "n4" / "CURRENT").write_text("a store")
    return command(three, at, "n4")


def _data_is_a_file(three: Cluster, at: Path) -> Options:
    (at / "n4").write_text("no store")
    return command(three, at, "n4")


def _directory_is_a_file(three: Cluster, at: Path) -> Options:
    (at / "file").write_text("no directory")
    return command(three, at / "file" / "data", "n4")


def _other(at: Path) -> NodeConfig:
    """A node of another cluster, at an address of its own."""
    return plan_cluster(at, 1, free_ports(1), "sync")[0]


def _file_of_another_node(three: Cluster, at: Path) -> Options:
    (at / "n1.toml").write_text(dump(_other(at)))
    return command(three, at, "n1")


def _file_of_another_cluster(three: Cluster, at: Path) -> Options:
    other = _other(at)
    (at / "n1.toml").write_text(dump(other))
    return command(three, at, "n1", address=other.member.address)


def _from_another_cluster(three: Cluster, at: Path) -> Options:
    (at / "source.toml").write_text(dump(_other(at)))
    return command(three, at, "n4", "--from", f"{at}/source.toml")


def _another_key(three: Cluster, at: Path) -> Options:
    (at / "key").write_text("ab" * 32)
    return command(three, at, "n4", "--key-file", f"{at}/key")


def _no_key(three: Cluster, at: Path) -> Options:
    (at / "key").write_text("ab" * 31)
    return command(three, at, "n4", "--key-file", f"{at}/key")


def _two_keys(three: Cluster, at: Path) -> Options:
    (at / "key").write_text("ab" * 32)
    return command(three, at, "n4", "--key-file", f"{at}/key", "--from", f"{three.directory}/n1.toml")


def _nobody_there(three: Cluster, at: Path) -> Options:
    join_, _, *rest = command(three, at, "n4")
    return [join_, f"127.0.0.1:{free_ports(1)}", *rest]


def _words(name: str, *more: str, address: str = "") -> Callable[[Cluster, Path], Options]:
    return lambda three, at: command(three, at, name, *more, address=address)


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (_name_taken, 2, "a member is called 'n2' already: choose another name"),
        (_address_taken, 2, "a member is at 127.0.0.1:{port2} already: give the new one an address"),
        (_own_address, 2, "n4 could not listen on 127.0.0.1:{port2}: something listens there already"),
        (_data_there, 2, "n4 is there already, and not empty: it may be the store of another node"),
        (_data_is_a_file, 2, "n4 is there already, and not empty"),
        (_directory_is_a_file, 2, "file is no directory in which you may write: take another --dir"),
        (_file_of_another_node, 2, "n1.toml is there already, of n1 at 127.0.0.1:"),
        (_file_of_another_cluster, 2, "n1.toml is there already, of a node of another cluster"),
        (_from_another_cluster, 2, "source.toml is of another, "),
        (_another_key, 2, "does not hold the key that you name"),
        (_no_key, 2, "key has no key: 64 hexadecimal digits, and nothing else"),
        (_two_keys, 2, "the cluster's key is needed"),
        (_nobody_there, 6, "no node could be reached"),
        (_words("../n4"), 2, "'../n4' cannot be the name of a file and a directory"),
        (_words("n 4"), 2, "the name of a member has 1 to 64 bytes that print, without spaces"),
        (_words("n4", "--zone", "z" * 65), 2, "a zone has at most 64 bytes that print"),
        (_words("n4", address="0.0.0.0:7403"), 2, "no address at which others reach a member"),
        (_words("n4", address="host"), 2, "is not an address; write host:port"),
        (_words("n4", "--listen", "7403"), 2, "is not an address; write host:port"),
        (_words("n4", "--weight", "0"), 2, "0 is not in the range"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_half_done(
    three: Cluster, tmp_path: Path, make: Callable[[Cluster, Path], Options], code: int, words: str
) -> None:
    options = make(three, tmp_path)
    before, log = tree(tmp_path), added(three)
    refused = invoke(*options)
    assert refused.code == code, refused.stderr
    assert words.format(port2=three.port + 1) in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stdout == b""
    assert tree(tmp_path) == before
    assert "n4" not in {each.name for each in topology(three).members}
    # What only the log can tell stands there as refused.
    assert all(": refused: " in text for text in added(three)[len(log) :])


def test_a_port_that_is_taken_is_said_before_it_is_a_member(three: Cluster, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_ports(1))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = invoke(*command(three, tmp_path, "n4", address=address))
    assert refused.code == 2
    assert f"n4 could not listen on {address}: something listens there already" in refused.stderr
    assert tree(tmp_path) == {}
    assert "n4" not in {each.name for each in topology(three).members}


def test_without_a_quorum_of_voters_nothing_is_done_and_later_it_is(tmp_path: Path) -> None:
    with cluster(tmp_path / "data") as three:
        wait_founded(three)
        pids = [three.up.pids[name] for name in ("n2", "n3")]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            words = command(three, tmp_path / "new", "n4", "--no-serve")
            refused = invoke(*words)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert refused.code == 3
        assert "so nothing can be read by its word" in refused.stderr
        assert not (tmp_path / "new").exists()

        def joins() -> bool:
            done: Finished = invoke(*words)
            return done.code == 0

        eventually(joins, "the same command is taken")
        assert [each.name for each in topology(three).members] == ["n1", "n2", "n3", "n4"]


def test_an_outcome_that_is_not_known_says_to_give_the_same_command_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unsure(Answers):
        def __call__(self, request: object) -> Message | None:
            if isinstance(request, ChangeTopology):
                return Failed(request.id, ChangeUnknown.code, "timeout", b"", [])
            return super().__call__(request)

    monkeypatch.setattr(join, "check_key", lambda *_: None)
    (tmp_path / "key").write_text("ab" * 32)
    with fake(answer=Unsure(founded())) as node:
        words = ["--name", "n4", "--address", f"127.0.0.1:{free_ports(1)}", "--dir", str(tmp_path / "new")]
        asked = ["join", node.endpoint, *words, "--key-file", str(tmp_path / "key"), "--no-serve"]
        unsure = CliRunner().invoke(group, asked, standalone_mode=False)
    told = unsure.stderr + str(unsure.exception)
    assert "whether n4 was added is not known here" in told
    assert "Give the same command again" in told
    assert "--repeat" not in told
    assert not (tmp_path / "new").exists()


# --- and then -----------------------------------------------------------------------------------------


def test_it_serves_what_it_was_given_and_up_starts_it_with_the_others(tmp_path: Path) -> None:
    with cluster(tmp_path) as three:
        wait_founded(three)
        assert three.invoke("set", "kept", "x").code == 0
        for setting in ("moves.at_once_to", "moves.at_once_from"):  # in one go
            assert three.invoke("settings", "set", setting, "64").code == 0
        address = f"127.0.0.1:{free_ports(1)}"
        with running(*command(three, tmp_path, "n4", address=address)) as joined:
            joined.wait_for(f"^n4 listens on {re.escape(address)}", joined.stdout)
            assert re.fullmatch(r"n4 has joined under number 3; its file is .*/n4.toml", joined.stdout[0])
            eventually(lambda: _held(three, "n4"), "n4 is given its share")
            assert three.invoke("node", "drain", "n1", "--plan").code == 0
            assert joined.end(signal.SIGTERM) == 0
        assert not any("Traceback" in line for line in joined.stderr)
    with running("up", "--dir", str(tmp_path)) as again:
        again.wait_for("^ready$", again.stdout)
        assert again.pids.keys() == {"n1", "n2", "n3", "n4"}
        assert invoke("get", "kept", "-c", "all", "-e", address).stdout == b"x\n"
        # One that is drained is not started any more, and nobody waits for it.
        drained = three.invoke("node", "drain", "n2", "--wait", "--timeout", "2m")
        assert drained.code == 0, drained.stderr  # which may say that it waits for a leader to be elected
        assert drained.stderr.splitlines()[-1] == f"all is done, at epoch {topology(three).epoch}"
        assert three.states()["n4"]["state"] == "up"
    with running("up", "--dir", str(tmp_path)) as once_more:
        once_more.wait_for("^ready$", once_more.stdout)
        told = once_more.wait_for("^n2 did not start", once_more.stderr).string
        assert re.match(
            r"n2 did not start: n2, number 1, has left the cluster, by epoch \d+ of its log", told
        )
        assert invoke("get", "kept", "-c", "all", "-e", address).stdout == b"x\n"


def _held(three: Cluster, name: str) -> int:
    return sum(name in seats.replicas for seats in topology(three).partitions)
