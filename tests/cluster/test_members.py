"""Members of a real cluster that come and leave while it serves: whom it links, and whom it refuses."""

import re
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from basestore import sync
from basestore.config import parse_address
from basestore.consistency import Level
from basestore.errors import Unavailable
from basestore.protocol.handshake import Refused
from basestore.transport.frames import pack
from tests.cluster.members import ask, come, leave, numbers, wait_moved
from tests.cluster.processes import Cluster, reads_at
from tests.worlds.patience import PATIENCE_S, eventually
from tests.worlds.shell import ROOT, environment

ROWS = {b"key %d" % number: b"value %d" % number for number in range(50)}


@contextmanager
def growing(root: Path, nodes: int = 3) -> Iterator[Cluster]:
    """A cluster that holds ROWS, and takes members in."""
    with Cluster(root, nodes) as cluster:
        cluster.start()
        cluster.wait_founded()
        with cluster.nodes[0].store(Level.ALL) as store:
            store.set_many(list(ROWS.items()))
        yield cluster


def test_a_member_comes_is_given_its_share_leaves_and_comes_anew(tmp_path: Path) -> None:
    with growing(tmp_path) as cluster:
        n4 = come(cluster, "n4")
        cluster.wait_linked()
        eventually(lambda: (state := n4.status()) is not None and bool(state.records), "n4 is filled")
        wait_moved(n4)
        assert reads_at(n4, list(ROWS), Level.ALL) == ROWS
        with n4.store() as store:
            assert len(store.set(b"at n4", b"v").replicas) == 3
        # A client that has connected before learns of it, and where it is.
        with sync.connect(cluster.nodes[0].endpoint) as store:
            assert {state.node for state in store.status()} == {"n1", "n2", "n3", "n4"}

        with sync.connect([n4.endpoint, cluster.nodes[0].endpoint]) as store:
            assert store.get(b"at n4").value == b"v"
            leave(n4, cluster.nodes[1])
            eventually(lambda: n4.says("left"), "n4 knows that it has left")
            assert store.get(b"at n4").value == b"v"  # by n1: n4 has told its clients to go
        assert n4.log.count("n4: this node has left the cluster") == 1
        with n4.store() as store, pytest.raises(Unavailable, match=r"has left the cluster.* Ask n1 at 127"):
            store.get(b"at n4")
        n4.stop()
        cluster.nodes.remove(n4)
        cluster.wait_linked()
        n4.start()
        assert n4.wait() != 0
        assert "n4, number 4, has left the cluster, by epoch" in n4.log

        again = come(cluster, "n4")
        cluster.wait_linked()
        wait_moved(again)
        assert numbers(again)["n4"] == 5
        assert reads_at(again, list(ROWS), Level.ALL) == ROWS


@pytest.mark.parametrize("gone", [0, 3])  # one that dials the others, and one that they would dial
def test_who_was_removed_while_it_was_down_is_told_so_and_serves_nothing(tmp_path: Path, gone: int) -> None:
    with growing(tmp_path, 4) as cluster:
        removed, n2 = cluster.nodes[gone], cluster.nodes[1]
        name = removed.name
        removed.stop()
        ask(n2, lambda store: store.remove_dead(name))
        eventually(lambda: name not in numbers(n2), f"{name} has left")
        removed.start()
        eventually(lambda: removed.says("left"), f"{name} is told that it has left")
        assert re.search(
            rf"n\d refuses: {name} has left the cluster, and its store holds nothing", removed.log
        )
        words = r"n\d says that this node has left the cluster meanwhile: it serves nothing"
        assert re.match(
            rf"{words}.* Stop it, and remove its file and its directory; to come back", removed.reason
        )
        assert len(re.findall(rf"WARNING {name}: {words}", removed.log)) == 1
        with removed.store(Level.ONE) as store:
            with pytest.raises(Unavailable, match=rf"has left the cluster.* Ask (?!{name})n\d at 127"):
                store.get(b"key 1")
            with pytest.raises(Unavailable, match="has left the cluster"):
                store.set(b"key 1", b"at who has left")
        assert any(
            f"{name} was refused: {name} has left" in node.log for node in cluster if node is not removed
        )
        assert reads_at(n2, list(ROWS), Level.ALL) == ROWS
        removed.stop()
        removed.start()
        eventually(lambda: removed.says("left"), f"{name} is told again")


def test_who_does_not_prove_to_hold_the_key_dismisses_nobody(tmp_path: Path) -> None:
    with growing(tmp_path) as cluster:
        n1, *others = cluster.nodes
        addresses = [parse_address(node.endpoint) for node in others]
        for node in cluster:
            node.stop()
        with ExitStack() as stack:
            liars = [stack.enter_context(liar(address)) for address in addresses]
            n1.start()
            eventually(lambda: min(len(heard) for heard in liars) >= 3, "both have told n1 that it has left")
            assert "refuses: n1 has left the cluster" in n1.log
            assert n1.says("starting")
        for node in others:
            node.start()
        cluster.wait_linked()
        assert reads_at(n1, list(ROWS), Level.ALL) == ROWS


@contextmanager
def liar(address: tuple[str, int]) -> Iterator[list[bytes]]:
    """Answers whatever is said to it with the refusal that a member says to who has left. Yields what it has
    heard."""
    refusal, heard = pack([Refused("n1 has left the cluster", "")]), list[bytes]()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            heard.append(self.request.recv(4096))
            self.request.sendall(refusal)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True

    with Server(address, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield heard
        finally:
            server.shutdown()
            thread.join()


def test_who_is_another_under_the_name_of_a_member_is_refused(tmp_path: Path) -> None:
    with growing(tmp_path) as cluster:
        n1 = cluster.nodes[0]
        n4 = come(cluster, "n4", start=False)
        own = n4.config
        members = [replace(each, number=9) if each.name == "n4" else each for each in own.cluster.members]
        n4.configure(replace(own, cluster=replace(own.cluster, members=tuple(members))))
        n4.start()
        words = "it says that it is n4, number 9, and number 4 has that name in the cluster"
        eventually(lambda: words in n1.log, "n1 has seen that its number is another")
        n4.stop()
        n4.configure(replace(own, cluster=replace(own.cluster, id=bytes(16))))
        shutil.rmtree(n4.directory)
        n4.start()
        eventually(lambda: "has not proven that it holds this cluster's key" in n1.log, "n1 refuses it")
        assert n4.says("starting")
        n4.stop()
        n4.configure(own)
        shutil.rmtree(n4.directory)
        n4.start()
        cluster.wait_linked()
        wait_moved(n4)
        assert reads_at(n4, list(ROWS), Level.ALL) == ROWS


def test_one_node_grows_to_three_and_loses_the_first(tmp_path: Path) -> None:
    with growing(tmp_path, 1) as cluster:
        n1 = cluster.nodes[0]
        n2, n3 = come(cluster, "n2"), come(cluster, "n3")
        cluster.wait_linked()
        wait_moved(n1)
        ask(n1, lambda store: store.set_replication(3))
        wait_moved(n1)
        ask(n2, lambda store: store.set_replication(2))
        wait_moved(n2)
        leave(n1, n2)
        eventually(lambda: n1.says("left"), "n1 knows that it has left")
        n1.stop()
        cluster.nodes.remove(n1)
        cluster.wait_linked()
        assert reads_at(n3, list(ROWS), Level.ALL) == ROWS
        with n3.store(Level.ALL) as store:
            assert len(store.set(b"without the first", b"v").replicas) == 2


def test_what_the_readme_shows_of_it_runs(tmp_path: Path) -> None:
    (text,) = re.findall(r"<!-- run -->\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S,
        env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"n4 has joined: \[('127.0.0.1:\d+'(, )?){4}\]\nn2 has left\n", done.stdout)
