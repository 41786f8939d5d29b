"""The metadata group of real nodes: killed, frozen, cut down to a minority, wiped, and upgraded to.

What the cluster is may be changed while a majority of the voters is there, and no longer; data are served all
the while, as far as their levels reach.
"""

import itertools
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from basestore.consensus.leadership import QUORUM_S
from basestore.consistency import Level
from basestore.errors import ChangeUnknown, InvalidRequest, NoLeader, RequestFailed, Unavailable, Unreachable
from basestore.protocol.limits import WIRE_HIGHEST
from basestore.results.topology import HISTORY_MAX, MODES, ClusterTopology
from tests.cluster.changing import Changing
from tests.cluster.load import Load
from tests.cluster.processes import Cluster, NodeProcess
from tests.worlds.patience import eventually
from tests.worlds.shell import Finished, invoke

BEFORE_THE_LOG = 9  # the last version of the wire that has none
REST_S = 0.02  # of each writer
ASKED_S = 0.3  # of a change that nobody can decide
VOTERS = "the voters are "


def told(node: NodeProcess) -> ClusterTopology | None:
    """What a node knows of the cluster, or None while it knows nothing, or does not answer."""
    try:
        with node.store() as store:
            return store.topology("stale")
    except (RequestFailed, Unreachable):
        return None


def wait_complete(nodes: Sequence[NodeProcess], voters: int) -> None:
    for node in nodes:

        def complete(node: NodeProcess = node) -> bool:
            topology = told(node)
            return topology is not None and len(topology.voters) == voters and topology.leader is not None

        eventually(complete, f"{node.name} knows {voters} voters, and who leads them")


def leader_of(nodes: Sequence[NodeProcess], but: str = "", above: int = 0) -> NodeProcess:
    """Whom all of these know to lead, in a term above that."""
    found: list[str] = []

    def known() -> bool:
        answers = [told(node) for node in nodes]
        leaders = {each.leader for each in answers if each is not None and each.term > above}
        found[:] = [name for name in leaders if name is not None]
        return len(leaders) == 1 == len(found) and None not in answers and but not in found

    eventually(known, f"one leads, and it is not {but or 'nobody'}")
    return next(node for node in nodes if node.name == found[0])


def shell(node: NodeProcess, *arguments: str) -> Finished:
    return invoke(*arguments, env={"BASESTORE_ENDPOINTS": node.endpoint})


def others(cluster: Cluster, *gone: NodeProcess) -> list[NodeProcess]:
    return [node for node in cluster if node not in gone]


def changes_are_refused(node: NodeProcess, key: str) -> str:
    """With the sentence for a group that has no majority, once it is noticed; under which key."""
    said: list[str] = []

    def refused() -> bool:
        said.append("")
        with node.store() as store:
            try:
                store.set_setting(f"{key} {len(said)}", "yes", timeout=ASKED_S)
            except NoLeader as error:
                said[-1] = str(error)
            except ChangeUnknown:  # the leader was believed to be there, and may yet hear of it
                pass
        return bool(said[-1])

    eventually(refused, f"{node.name} refuses a change")
    assert "nobody leads the metadata group, for no majority of its voters is reached" in said[-1]
    assert "so nothing was changed; data are served all the same" in said[-1]
    return f"{key} {len(said)}"


def changes_go_on(nodes: Sequence[NodeProcess], value: str) -> None:
    for node in nodes:

        def decided(node: NodeProcess = node) -> bool:
            with node.store() as store:
                try:
                    return store.set_setting(f"by {node.name}", value).epoch > 0
                except RequestFailed:
                    return False

        eventually(decided, f"a change through {node.name} is decided")


def test_leaders_are_killed_under_changes_and_writes_one_with_its_store_and_all_members_at_last(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start()
        wait_complete(cluster.nodes, 3)
        first = leader_of(cluster.nodes)
        steady = others(cluster, first)
        with Changing(cluster.nodes) as changing, Load(cluster, steady, seed=5, rest_s=REST_S) as load:
            changing.wait_for(10)
            first.kill()
            shutil.rmtree(first.directory)
            second = leader_of(steady, but=first.name)
            load.wait_for(50)
            changing.wait_for(10)
            first.start()  # another store, and so another voter
            cluster.wait_linked()
            wait_taken_in(second, first)
            second.kill()
            leader_of(others(cluster, second), but=second.name)  # with the vote of that store
            changing.wait_for(10)
            second.start()
            cluster.wait_linked()
        term = max(each.term for node in cluster if (each := told(node)) is not None)
        cluster.kill_all()
        cluster.start()
        leader_of(cluster.nodes, above=term)
        changes_go_on([second], "after all were killed")
        last = max(each.epoch for each in changing.ledger.decided.values())
        for node in cluster:
            wait_epoch(node, last + 1)
            changing.ledger.repeat(node)
            assert changing.ledger.complaints(node) == []
        assert load.ledger.complaints(first, Level.QUORUM) == []


def wait_epoch(node: NodeProcess, epoch: int) -> None:
    eventually(
        lambda: (now := told(node)) is not None and now.epoch >= epoch, f"{node.name} comes to {epoch}"
    )


def wait_taken_in(leader: NodeProcess, node: NodeProcess) -> None:
    """The store that was lost is no voter any more, and the one in its place is."""

    def replaced() -> bool:
        with leader.store() as store:
            entries = store.topology_history(limit=HISTORY_MAX).entries
        told = [
            each.text.removeprefix(VOTERS).split(", ") for each in entries if each.text.startswith(VOTERS)
        ]
        both = f"{node.name} (on two stores)"
        return any(both in these and node.name in then for these, then in itertools.pairwise(told))

    eventually(replaced, f"{node.name} votes again")


def test_without_a_majority_data_are_served_and_nothing_is_changed_and_then_all_goes_on(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start()
        wait_complete(cluster.nodes, 3)
        leader = leader_of(cluster.nodes)
        rest, other = others(cluster, leader)
        with rest.store() as store:
            store.set("key", "v0", consistency="all")

        leader.pause()  # alone: the others elect one of them
        leader_of([rest, other], but=leader.name)
        changes_go_on([rest, other], "the leader is frozen")
        with rest.store() as store:
            for mode in ("default", "consistent"):
                shown = store.topology(mode)
                assert shown.mode == mode
                assert shown.lag[leader.name] != 0
        asked = shell(leader, "topology", "--mode", "stale", "--timeout", "0.5")
        assert asked.code == 6
        assert "says nothing in time" in asked.stderr

        other.pause()
        refused = {changes_are_refused(rest, "frozen")}
        data_are_served(rest, "v1")
        a_minority_reads(rest)
        the_shell_says_so(rest)
        for node in (leader, other):
            node.resume()
        cluster.wait_linked()
        changes_go_on(cluster.nodes, "all are there")
        leader_of(cluster.nodes)

        for node in (leader, other):
            node.kill()
        refused.add(changes_are_refused(rest, "killed"))
        data_are_served(rest, "v2")
        a_minority_reads(rest)
        cluster.start()
        changes_go_on(cluster.nodes, "all are there again")
        for node in cluster:
            with node.store() as store:
                assert store.get("key").value == b"v2"
                assert not refused & store.settings("consistent").keys()


def data_are_served(node: NodeProcess, value: str) -> None:
    """By one replica of three."""
    eventually(lambda: node.alive() == {node.name}, f"{node.name} counts nobody else")
    with node.store() as store:
        store.set("key", value, consistency="one")
        assert store.get("key", consistency="one").value == value.encode()
        with pytest.raises(Unavailable):
            store.set("key", "refused")
        with pytest.raises(Unavailable):
            store.get("key")


def a_minority_reads(node: NodeProcess) -> None:
    """In each mode: what is known here, and for how long nobody was heard; or that nobody can say."""
    before = told(node)
    assert before is not None
    assert before.heard_ms is not None
    for mode in ("default", "consistent"):
        began_s = time.monotonic()
        with node.store() as store, pytest.raises(NoLeader, match="so nothing can be read by its word"):
            store.topology(mode, timeout=ASKED_S)
        assert time.monotonic() - began_s >= ASKED_S  # a leader may yet come
    after = told(node)
    assert after is not None
    assert after.heard_ms is not None
    assert after.heard_ms >= before.heard_ms + 2 * ASKED_S * 1000
    assert after.epoch == before.epoch


def the_shell_says_so(node: NodeProcess) -> None:
    stale = shell(node, "topology", "--mode", "stale")
    assert stale.code == 0
    said = re.search(r"may be old: the node that was asked heard of the leader (\d+\.\d) s ago", stale.text)
    assert said is not None, stale
    assert float(said[1]) > QUORUM_S
    consistent = shell(node, "topology", "--mode", "consistent", "--timeout", f"{ASKED_S}")
    assert consistent.code == 3
    away = ", ".join(f"n{number}" for number in (1, 2, 3) if f"n{number}" != node.name)
    assert f"no majority of its voters is reached: {away} of 3 are missing" in consistent.stderr
    assert f"See `basestore topology --mode stale`, start {away}, and try again" in consistent.stderr
    history = shell(node, "topology", "history")
    assert history.code == 0
    assert f"set setting 'by {node.name}' to 'the leader is frozen', through {node.name}" in history.text


def test_a_cluster_of_one_decides_alone_and_goes_on_where_it_was(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1) as cluster:
        (node,) = cluster
        cluster.start()
        wait_complete([node], 1)
        with node.store() as store:
            number = store.create_bucket("carts").number
            store.set("key", "old", bucket="carts")
            store.drop_bucket("carts")
            with pytest.raises(InvalidRequest):
                store.get("key", bucket="carts")
            again = store.create_bucket("carts")
            assert again.number is not None
            assert number is not None
            assert again.number > number
            assert store.get("key", bucket="carts").value is None
            store.set("key", "new", bucket="carts")
        cluster.kill_all()
        cluster.start()
        wait_complete([node], 1)
        with node.store() as store:
            shown = store.topology("consistent")
            assert shown.leader == "n1"
            assert [each.name for each in shown.buckets] == ["default", "once", "carts"]
            assert shown.epoch >= again.epoch
            assert store.get("key", bucket="carts").value == b"new"
        changes_go_on([node], "after it was killed")


def test_a_cluster_without_a_log_founds_one_once_its_upgrade_is_finished(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        for node in cluster:
            node.configure(replace(node.config, wire_highest=BEFORE_THE_LOG))
        cluster.start()
        n1, n2, n3 = cluster
        keys = [(f"key {at}", bucket) for at in range(20) for bucket in ("default", "once")]
        with n1.store() as store:
            for key, bucket in keys:
                store.set(key, f"{key} of {bucket}", bucket=bucket)
        for node in cluster:
            node.stop()
            node.configure(replace(node.config, wire_highest=WIRE_HIGHEST))
        cluster.start()
        with n2.store() as store:
            for mode in MODES:
                with pytest.raises(NoLeader, match="See `basestore status`"):
                    store.topology(mode, timeout=ASKED_S)
            with pytest.raises(NoLeader, match=r"nothing was changed.* See `basestore status`"):
                store.create_bucket("carts", timeout=ASKED_S)
        assert shell(n3, "upgrade", "finish").code == 0
        wait_complete(cluster.nodes, 3)
        changes_go_on([n2], "the log is there")
        with n3.store() as store:
            made = store.create_bucket("carts")
            store.set("key", "value", bucket="carts")
        for node in cluster:
            wait_epoch(node, made.epoch)
            with node.store() as store:
                for key, bucket in keys:
                    assert store.get(key, bucket=bucket).value == f"{key} of {bucket}".encode()
                assert store.get("key", bucket="carts").value == b"value"
