"""A service whose store fails: what failed first is told, not what the broken store says afterwards."""

import logging
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from basestore.config import ClusterConfig, Durability, Member, NodeConfig, parse_address
from basestore.consistency import Level
from basestore.errors import ConfigurationError, StorageError
from basestore.intake.brownout import Brownout
from basestore.observe.group_watch import GroupWatch, Line
from basestore.protocol.client import Set
from basestore.protocol.limits import WIRE_HIGHEST, WIRE_LOWEST
from basestore.repair.rule import Rule
from basestore.server import service
from basestore.server.clock import instant
from basestore.server.poller import Poller
from basestore.server.service import Service
from basestore.storage.engine import Batch
from basestore.storage.memory import MemoryEngine
from tests.worlds.ports import free_ports


class Failing(MemoryEngine):
    """Fails from some call on, and then whatever is asked of it, its closing included."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.broken = False
        self.closed = 0

    def _call(self, name: str) -> None:
        if self.broken:
            raise StorageError(f"{name}: it is broken already")
        if name == self.name:
            self.broken = True
            raise StorageError(f"{name}: this broke it")

    def get(self, key: bytes) -> bytes | None:
        self._call("get")
        return super().get(key)

    def apply(self, batch: Batch) -> None:
        self._call("apply")
        super().apply(batch)

    def sync(self) -> None:
        self._call("sync")
        super().sync()

    def close(self) -> None:
        self.closed += 1
        self._call("close")


@pytest.fixture
def config(tmp_path: Path) -> NodeConfig:
    member = Member(0, "n1", f"127.0.0.1:{free_ports(1)}")
    return NodeConfig(ClusterConfig(bytes(16), bytes(32), (member,), 1, 4), "n1", tmp_path / "n1")


def on(engine: Failing, config: NodeConfig, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service that was given this engine for its store."""
    monkeypatch.setattr(service, "open_engine", lambda _: engine)
    return Service(config)


@pytest.mark.parametrize("call", ["get", "apply", "sync"])
def test_a_store_that_fails_at_the_start_is_closed_and_the_first_error_told(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    engine = Failing(call)
    with pytest.raises(StorageError, match=f"^{call}: this broke it$"):
        on(engine, config, monkeypatch)
    assert engine.closed == 1


async def run_and_stop(running: Service, engine: Failing, call: str) -> None:
    """Run it, and stop it as soon as it listens and no sync is under way; from then on that call fails."""
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run)
        commit = running.node.group_commit
        while commit.durable_sequence < commit.sequence:
            await trio.lowlevel.checkpoint()
        engine.name = call
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("call", ["apply", "sync", "close"])
def test_a_store_that_fails_at_the_end_is_closed_and_the_first_error_told(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    engine = Failing("")
    running = on(engine, config, monkeypatch)
    with pytest.raises(BaseExceptionGroup) as ended:
        trio.run(run_and_stop, running, engine, call)
    assert [str(error) for error in leaves(ended.value)] == [f"{call}: this broke it"]
    assert engine.closed == 1


class Echoing(Failing):
    """Its sync fails, and a write that is under way meanwhile says only that something has failed before."""

    def __init__(self) -> None:
        super().__init__("")
        self.hangs = threading.Event()
        self.failed = threading.Event()

    def sync(self) -> None:
        if self.name == "sync":
            self.hangs.set()
            self.failed.wait()
        super().sync()

    def apply(self, batch: Batch) -> None:
        if self.hangs.is_set():
            self.failed.set()
            raise StorageError("apply: it is broken already")
        super().apply(batch)


async def write_beside_a_sync(running: Service, engine: Echoing) -> None:
    """One write begins the sync that is to fail; the next finds a broken store before that is told."""
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run)
        engine.name = "sync"
        client = running.node.open_client()
        for number in range(2):
            write = Set(number, "default", b"key", b"value", Level.ONE, 1000, 0, b"")
            running.node.receive_client(client, [write], instant())
            running.wake()
            await trio.to_thread.run_sync(engine.hangs.wait)


def test_a_sync_that_failed_beside_the_write_that_stopped_the_node_is_told_too(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Echoing()
    running = on(engine, config, monkeypatch)
    with pytest.raises(BaseExceptionGroup) as ended:
        trio.run(write_beside_a_sync, running, engine)
    assert [str(error) for error in leaves(ended.value)] == ["apply: it is broken already"]
    assert "n1: the sync under way has failed: sync: this broke it" in caplog.text


async def write_until_answered(running: Service) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run)
        await running.wait_linked()
        client = running.node.open_client()
        running.node.receive_client(
            client, [Set(1, "default", b"key", b"value", Level.ONE, 1000, 0, b"")], instant()
        )
        running.wake()
        while not client.messages:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("durability", ["memory", "sync"])
def test_no_turn_is_asked_for_at_a_time_that_was_over_before_it_began(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch, durability: Durability
) -> None:
    """In a turn for which it was time nothing is read: one after the other, and a node would be deaf."""
    begun, asked = time.monotonic(), list[float]()
    wake_at = Poller.wake_at

    def noted(poller: Poller, due_s: float) -> None:
        asked.append(due_s)
        wake_at(poller, due_s)

    monkeypatch.setattr(Poller, "wake_at", noted)
    trio.run(write_until_answered, Service(replace(config, durability=durability)))
    assert min(asked) >= begun


async def brown_out(running: Service, caplog: pytest.LogCaptureFixture) -> None:
    """To each level in turn, as soon as the one before is told."""
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run)
        for number, level in enumerate((1, 2, 1, 0), 1):
            running.node.intake.brownout.level = level
            while sum("brownout" in text for text in caplog.messages) < number:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


def test_each_change_of_the_brownout_is_logged_once_that_it_rises_as_a_warning(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(Brownout, "tick", lambda brownout, now_s: None)
    engine = Failing("")
    trio.run(brown_out, on(engine, config, monkeypatch), caplog)
    told = [(each.levelname, each.getMessage()) for each in caplog.records if "brownout" in each.message]
    assert [(level, text.partition("; it ")[0]) for level, text in told] == [
        ("WARNING", "n1: brownout 1: more is asked of this node than it can do"),
        ("WARNING", "n1: brownout 2: more is asked of this node than it can do"),
        ("INFO", "n1: brownout 1: less is asked of it again"),
        ("INFO", "n1: brownout 0: less is asked of it again"),
    ]
    assert told[0][1].endswith("it leaves out speculation, read repair by lot (basestore status)")
    assert told[-1][1].endswith("it leaves out nothing (basestore status)")


async def found_group(
    running: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until all is written that comes of it, and then what is worth a warning."""
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run)
        while not any("is complete" in text for text in caplog.messages):
            await trio.lowlevel.checkpoint()
        monkeypatch.setattr(GroupWatch, "look", lambda watch, now: [Line("nobody leads", warns=True)])
        while "n1: nobody leads" not in caplog.messages:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


def test_what_is_new_of_the_metadata_group_is_logged(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trio.run(found_group, on(Failing(""), config, monkeypatch), monkeypatch, caplog)
    told = [(each.levelname, each.getMessage()) for each in caplog.records]
    assert ("INFO", "n1: n1 leads the metadata group, in term 1") in told
    assert ("WARNING", "n1: nobody leads") in told


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a tree of groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


def test_that_a_port_is_taken_is_told_though_the_store_fails_too(
    config: NodeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Failing("close")
    running = on(engine, config, monkeypatch)
    address = parse_address(config.member.address)
    with socket.create_server(address), pytest.raises(ConfigurationError, match="cannot listen"):
        trio.run(running.run)
    assert engine.closed == 1


async def run_briefly(running: Service) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(running.run)
        nursery.cancel_scope.cancel()


def test_that_a_bucket_is_let_go_is_told(config: NodeConfig, caplog: pytest.LogCaptureFixture) -> None:
    """Of a store on a disk, as a process would."""
    caplog.set_level(logging.INFO)
    for cluster in (replace(config.cluster, buckets={"typo": Rule.LAST_WRITE_WINS}), config.cluster):
        trio.run(run_briefly, Service(replace(config, cluster=cluster)))
    told = [text for text in caplog.messages if "typo" in text]
    bound = "bound to its rule, last-write-wins, no more"
    assert told == [f"n1: the store holds nothing of bucket typo, and is {bound}"]


@pytest.mark.parametrize(
    ("highest", "told"), [(WIRE_LOWEST, f"{WIRE_LOWEST} to {WIRE_HIGHEST}"), (WIRE_HIGHEST, None)]
)
def test_what_its_release_speaks_is_told_where_the_file_allows_less(
    config: NodeConfig, highest: int, told: str | None
) -> None:
    opened = Service(replace(config, wire_highest=highest))
    trio.run(run_briefly, opened)
    assert opened.node.report.facts().get("release wire") == told
