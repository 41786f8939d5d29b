"""What clients ask about the cluster itself, and have changed in it: by every client, alike.

Covers the calls of `client/operator.py` and `client/blocking_operator.py` that are about the topology, and
what `client/channel.py` says where no answer comes.
"""

from typing import Any

import pytest

from basestore import InvalidRequest
from basestore.config import BucketOptions
from basestore.errors import ChangeUnknown, ConnectionLost, NoLeader
from basestore.protocol.client import Failed
from basestore.protocol.membership import CONSISTENT, STALE, ChangeTopology, ReadHistory, ReadTopology
from basestore.repair.rule import Rule
from basestore.results.answers import identity_of
from basestore.results.topology import Decided
from basestore.topology.changes import CreateBucket
from basestore.topology.entries import decode_entry
from tests.worlds.fakes import WELCOME, fake
from tests.worlds.flavours import FLAVOURS, run
from tests.worlds.told_topologies import Answers
from tests.worlds.topologies import founded

pytestmark = pytest.mark.parametrize("flavour", FLAVOURS)


def test_what_a_cluster_is_is_read_in_the_mode_that_was_asked_for(flavour: str) -> None:
    async def body(store: Any) -> None:
        assert (await store.topology()).mode == "default"
        view = await store.topology("stale", timeout=1.5)
        assert (view.mode, view.epoch, view.leader) == ("stale", 1, "n2")
        assert [bucket.name for bucket in await store.buckets("consistent")] == ["default", "once"]
        assert await store.settings(mode="stale") == {}

    answers = Answers(founded())
    with fake(answer=answers) as node:
        run(flavour, node.endpoint, body)
    assert all(isinstance(request, ReadTopology) for request in answers.asked)
    assert [request.mode for request in answers.asked[1:]] == [STALE, CONSISTENT, STALE]
    assert 0 < answers.asked[1].timeout_ms <= 1500


def test_the_history_is_read_from_an_entry_on_or_from_its_end(flavour: str) -> None:
    async def body(store: Any) -> None:
        told = await store.topology_history(1, limit=1)
        assert ([entry.epoch for entry in told.entries], told.more) == ([2], True)
        await store.topology_history()
        with pytest.raises(InvalidRequest, match="limit"):
            await store.topology_history(limit=0)

    answers = Answers(founded())
    with fake(answer=answers) as node:
        run(flavour, node.endpoint, body)
    assert [type(request) for request in answers.asked] == [ReadHistory] * 2
    assert [(request.after, request.limit) for request in answers.asked] == [(1, 1), (-1, 100)]


def test_changes_are_decided_and_the_epoch_says_from_when_on(flavour: str) -> None:
    async def body(store: Any) -> None:
        assert await store.create_bucket(
            "carts", rule=Rule.FIRST_WRITE_WINS, degrade_s=5, requests_per_s=9
        ) == Decided(2, 3)
        assert await store.set_setting("on", "yes") == Decided(3, None)
        (_, _, bucket) = await store.buckets()
        assert (bucket.number, bucket.rule) == (3, Rule.FIRST_WRITE_WINS)
        assert bucket.options == BucketOptions(5, False, 9, 0)
        assert await store.settings() == {"on": "yes"}
        assert await store.unset_setting("on") == Decided(4, None)
        assert (await store.drop_bucket("carts")).epoch == 5
        assert len(await store.buckets()) == 2

    with fake(answer=Answers(founded())) as node:
        run(flavour, node.endpoint, body)


def test_writes_of_a_bucket_may_be_agreed_on(flavour: str) -> None:
    async def body(store: Any) -> None:
        await store.create_bucket("leaders", rule="register")
        await store.create_bucket("owners", rule="first-write-wins", agreed=True)
        with pytest.raises(InvalidRequest, match="give up `agreed`"):
            await store.create_bucket("both", rule="register", agreed=True)
        rules = [bucket.rule for bucket in await store.buckets()]
        assert rules[2:] == [Rule.REGISTER, Rule.FIRST_WRITE_AGREED]

    with fake(answer=Answers(founded())) as node:
        run(flavour, node.endpoint, body)


def test_what_is_refused_says_why(flavour: str) -> None:
    async def body(store: Any) -> None:
        with pytest.raises(InvalidRequest, match=r"no bucket is called 'carts'.* \(decided at epoch 2\)"):
            await store.drop_bucket("carts")
        with pytest.raises(InvalidRequest, match="a bucket has 1 to"):
            await store.create_bucket("")

    answers = Answers(founded())
    with fake(answer=answers) as node:
        run(flavour, node.endpoint, body)
    assert len(answers.asked) == 1


def test_without_a_leader_nothing_was_done(flavour: str) -> None:
    async def body(store: Any) -> None:
        with pytest.raises(NoLeader, match="nobody leads") as refused:
            await store.create_bucket("carts")
        assert refused.value.definite

    def answer(request: Any) -> Any:
        return Failed(request.id, NoLeader.code, "nobody leads", b"", [])

    with fake(answer=answer) as node:
        run(flavour, node.endpoint, body)


def test_a_change_that_was_not_answered_is_repeated_as_itself(flavour: str) -> None:
    """It happens once, and both times the answer is the same."""

    async def body(store: Any) -> None:
        with pytest.raises(ChangeUnknown, match="topology history`, or repeat it as") as unknown:
            await store.create_bucket("carts", timeout=0.2)
        identity = unknown.value.identity
        assert identity is not None
        assert str(identity) in str(unknown.value)
        assert not unknown.value.definite
        silent.clear()
        assert await store.create_bucket("carts", repeat=identity) == Decided(2, 3)
        assert await store.create_bucket("carts", repeat=str(identity)) == Decided(2, 3)
        with pytest.raises(InvalidRequest, match="exists"):
            await store.create_bucket("carts")

    silent = [True]
    answers = Answers(founded())

    def answer(request: Any) -> Any:
        told = answers(request)
        return None if silent else told

    with fake(answer=answer) as node:
        run(flavour, node.endpoint, body)
    changes = [each for each in answers.asked if isinstance(each, ChangeTopology)]
    assert len({identity_of(each) for each in changes[:3]}) == 1
    assert identity_of(changes[3]) != identity_of(changes[0])
    assert all(isinstance(decode_entry(each.entry).change, CreateBucket) for each in changes)


def test_a_connection_that_breaks_leaves_the_outcome_open(flavour: str) -> None:
    async def body(store: Any) -> None:
        with pytest.raises(ConnectionLost, match="topology history") as lost:
            await store.set_setting("on", "yes")
        assert lost.value.identity is not None

    with fake(dies=True) as node:
        run(flavour, node.endpoint, body)


def test_the_identity_of_a_write_is_none_of_a_change(flavour: str) -> None:
    async def body(store: Any) -> None:
        with pytest.raises(InvalidRequest, match="malformed"):
            await store.drop_bucket("carts", repeat="nonsense")

    with fake(answer=Answers(founded())) as node:
        run(flavour, node.endpoint, body)


def test_a_node_of_an_older_release_is_not_asked(flavour: str) -> None:
    async def body(store: Any) -> None:
        for call in (store.topology(), store.topology_history(), store.create_bucket("carts")):
            with pytest.raises(InvalidRequest, match="needs 10; nothing was sent"):
                await call

    with fake(WELCOME._replace(version=9)) as node:
        run(flavour, node.endpoint, body)
        assert node.heard.empty()
