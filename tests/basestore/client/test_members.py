"""Members asked one by one: each at the address that is known by now, and no other in its place.

Covers what `client/operator.py` and `client/blocking_operator.py` ask of all members.
"""

from collections.abc import Iterator
from typing import Any

import pytest

import basestore.sync
from basestore.protocol.handshake import Meant, Welcome, welcomed
from basestore.protocol.limits import ProtocolError
from tests.worlds.fakes import WELCOME, Cluster, FakeNode, cluster, fake, placing
from tests.worlds.flavours import FLAVOURS, run


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


def welcome(running: Cluster, *addresses: str) -> Welcome:
    return placing(running.endpoints, *addresses)


def tell(node: FakeNode, greeting: Welcome) -> None:
    """From now on it says this to a hello."""
    node._greeting = greeting  # private: no other test changes its mind


@pytest.mark.parametrize("flavour", FLAVOURS)
class TestStatus:
    def test_who_answers_at_the_address_of_another_is_not_taken_for_it(
        self, running: Cluster, flavour: str
    ) -> None:
        n1, n2, _ = running.endpoints

        async def body(store: Any) -> None:
            for way in (store, store.retrying()):
                states = await way.status()
                assert [(state.node, state.endpoint) for state in states] == [
                    ("n1", n1),
                    ("n2", n2),
                    ("n3", n1),
                ]
                assert [state.state for state in states] == ["up", "up", "down"]
                assert states[2].facts["reason"].startswith(f"who answers at {n1} is n1")

        with fake(welcome(running, n1, n2, n1)) as node:
            run(flavour, node.endpoint, body)

    def test_a_client_that_has_been_connected_for_long_hears_where_members_are_by_now(
        self, running: Cluster, flavour: str
    ) -> None:
        n1, n2, n3 = running.endpoints

        async def body(store: Any) -> None:
            async with store.session() as session:
                assert [state.state for state in await session.status()] == ["up", "up", "down"]
                tell(node, welcome(running, n1, n2, n3))
                assert [state.state for state in await session.status()] == ["up"] * 3

        with fake(welcome(running, n1, n2, "127.0.0.1:1")) as node:
            run(flavour, node.endpoint, body)

    def test_where_the_node_says_nothing_any_more_what_it_said_first_holds(
        self, running: Cluster, flavour: str
    ) -> None:
        async def body(store: Any) -> None:
            await store.status()
            node.fall("stopped")
            assert [state.state for state in await store.status(timeout=2.0)] == ["up"] * 3

        with fake(welcome(running, *running.endpoints)) as node:
            run(flavour, node.endpoint, body)

    def test_a_node_of_another_cluster_is_none_of_the_members(self, running: Cluster, flavour: str) -> None:
        async def body(store: Any) -> None:
            states = await store.status()
            assert [state.state for state in states] == ["down"] * 3
            assert states[0].facts["reason"].startswith("this is a node of cluster")

        with fake(welcome(running, *running.endpoints)._replace(cluster=bytes(16))) as node:
            run(flavour, node.endpoint, body)


def test_nothing_is_done_at_a_node_that_was_not_meant(running: Cluster) -> None:
    _, n2, n3 = running.endpoints
    with fake() as n1, fake() as asked:
        tell(n1, welcome(running, n1.endpoint, n2, n3))
        tell(asked, welcome(running, n1.endpoint, n2, n1.endpoint))
        with basestore.sync.connect(asked.endpoint) as store:
            (hints,) = store.hints(replay=True, node="n3")
            taken = store.take_as_is("n3")
        for reason in (hints.reason, taken.facts["reason"]):
            assert reason.startswith(f"who answers at {n1.endpoint} is n1")
        assert n1.heard.empty()


def test_a_client_is_welcomed_by_whom_it_means() -> None:
    for meant in (Meant(), Meant(b"", "n1", "h:1")):
        assert welcomed(WELCOME, meant) == WELCOME
    with pytest.raises(
        ProtocolError, match="who answers at h:1 is n1; correct the address in the file of n2"
    ):
        welcomed(WELCOME, Meant(b"", "n2", "h:1"))
