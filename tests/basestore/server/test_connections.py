"""Connections on real sockets, with a node that nobody lets step: who is let in, and who is closed."""

import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from zlib import crc32

import cbor2
import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from basestore.consistency import Level
from basestore.errors import Overloaded, ReadTimeout
from basestore.protocol.client import Failed, Get, Set
from basestore.protocol.codec import Message, encode
from basestore.protocol.envelopes import ADMIN, enveloped, seal
from basestore.protocol.handshake import (
    CLIENT_HELLO,
    Challenge,
    EarlyHello,
    Goodbye,
    Hello,
    Proof,
    Refused,
    Versions,
    Welcome,
)
from basestore.protocol.heartbeats import Ping, Pong, StoreClaim
from basestore.protocol.limits import WIRE_HIGHEST, WIRE_LOWEST
from basestore.protocol.operator import NodeStatus, Status
from basestore.protocol.proof import KEYLESS, Answer, Challenged, Facts, answer, answer_proof, hello, prove
from basestore.protocol.replication import Read
from basestore.server import connections, handshakes, link, slots
from basestore.server.clock import instant
from basestore.server.connections import Connections
from basestore.server.poller import Poller
from basestore.storage import keyspace
from basestore.transport.frames import FrameReader, pack
from tests.worlds.handshakes import NONCE, OTHER_NONCE, member_facts
from tests.worlds.patience import PATIENCE_S
from tests.worlds.world import World

pytestmark = pytest.mark.trio

CLIENT = CLIENT_HELLO
STATUS = Status(7)
SLOW = Get(8, "default", b"k", Level.ONE, 1000, b"", True)  # its own replica is not stepped


class Wire:
    """Whoever connects."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._frames = FrameReader()
        self._heard: list[Message] = []
        self.sealing = False

    async def say(self, *messages: Message) -> None:
        await self.stream.send_all(b"".join(seal(messages)) if self.sealing else pack(messages))

    async def hear(self) -> Message | None:
        """The next message; None when the connection has ended: reset, where not all was read."""
        with trio.fail_after(PATIENCE_S), suppress(trio.BrokenResourceError):
            while not self._heard and (data := await self.stream.receive_some()):
                self._heard += self._frames.feed(data)
        return self._heard.pop(0) if self._heard else None

    async def ends(self) -> bool:
        """Whether the connection ends, after whatever else is said."""
        while await self.hear():
            pass
        return True


class Listening:
    """The second of three nodes, whose connections are served on a port."""

    def __init__(self, world: World, port: int, served: Connections) -> None:
        self.node = world.node(1)
        self.served = served
        self.n1 = member_facts(world.cluster, "n1")
        self.wires: list[Wire] = []
        self._port = port

    async def connect(self) -> Wire:
        self.wires.append(Wire(await trio.open_tcp_stream("127.0.0.1", self._port)))
        return self.wires[-1]

    async def greeted(self) -> Wire:
        """A client that was let in."""
        wire = await self.connect()
        await wire.say(CLIENT)
        assert isinstance(await wire.hear(), Welcome)
        wire.sealing = True
        return wire

    async def challenged(self, said: Hello) -> tuple[Wire, Challenge]:
        """One that calls itself a node, and is to prove it."""
        wire = await self.connect()
        await wire.say(said)
        challenge = await wire.hear()
        assert isinstance(challenge, Challenge)
        return wire, challenge

    async def proven(self, own: Facts) -> Wire:
        """A node that has proven itself; it hears next what it is answered."""
        said = hello(own, NONCE)
        wire, challenge = await self.challenged(said)
        proof, _ = prove(challenge, said, own, "n2")
        assert isinstance(proof, Proof)
        await wire.say(proof)
        return wire

    async def parted(self, index: int) -> None:
        """Once the link of this peer has ended."""
        with trio.fail_after(PATIENCE_S):
            while self.node.peers.all[index].linked:
                await trio.lowlevel.checkpoint()

    def fall_silent(self, index: int) -> None:
        """Of this peer nothing has come for long."""
        self.node.peers.all[index].detector.heard_s = -math.inf

    async def peer(self) -> Wire:
        """n1, linked."""
        wire = await self.proven(self.n1)
        assert isinstance(await wire.hear(), Welcome)
        return wire


async def tick(served: Connections) -> None:
    while True:
        await trio.sleep(0.02)
        served.tick()


@asynccontextmanager
async def listening() -> AsyncIterator[Listening]:
    world, poller = World(3), Poller()
    node = world.node(1)

    def turn() -> None:
        """As much of the node's step as clients need."""
        node.intake.admit(instant())
        node.intake.settle()
        served.send()

    served = Connections(replace(node.config, wire_highest=WIRE_HIGHEST), node, poller, turn)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, served.accept, listeners))
        nursery.start_soon(poller.run, turn)
        nursery.start_soon(tick, served)
        at = Listening(world, listeners[0].socket.getsockname()[1], served)
        yield at
        for wire in at.wires:
            await wire.stream.aclose()
        nursery.cancel_scope.cancel()
    poller.close()


async def test_a_client_and_a_peer_are_let_in_and_served() -> None:
    async with listening() as at:
        await at.greeted()
        peer = await at.peer()
        assert isinstance(await peer.hear(), StoreClaim)


async def test_what_is_sent_to_members_is_counted_and_what_is_said_to_clients_is_not() -> None:
    async with listening() as at:
        counts = at.node.metrics.counts
        client = await at.greeted()
        await client.say(STATUS)
        assert isinstance(await client.hear(), NodeStatus)
        assert counts["member_bytes_sent"] == 0
        said = await (await at.peer()).hear()
        assert isinstance(said, StoreClaim)
        sent = counts["member_bytes_sent"]
        assert sent >= len(encode([said]))
        await client.say(STATUS)
        assert isinstance(await client.hear(), NodeStatus)
        assert counts["member_bytes_sent"] == sent


async def test_a_client_learns_how_long_a_request_may_last() -> None:
    async with listening() as at:
        wire = await at.connect()
        await wire.say(CLIENT)
        welcome = await wire.hear()
        assert isinstance(welcome, Welcome)
        assert welcome.timeout_ms_max == at.node.config.cluster.timeout_ms_max


async def test_a_client_that_is_idle_makes_room_for_another_and_one_too_many_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "slots_for", lambda members: (2, 2))
    async with listening() as at:
        first, second = await at.greeted(), await at.greeted()
        third = await at.connect()
        await third.say(CLIENT)
        refused = await third.hear()
        assert isinstance(refused, Refused)
        assert "too many clients are connected" in refused.reason
        monkeypatch.setattr(slots, "IDLE_S_MIN", 0.0)
        await second.say(STATUS)  # the other one is idle longer
        assert isinstance(await second.hear(), NodeStatus)
        await at.greeted()
        assert await first.hear() is None
        await second.say(STATUS)
        assert isinstance(await second.hear(), NodeStatus)
    assert len([each for each in caplog.records if "make room" in each.getMessage()]) == 1


async def test_strangers_and_clients_take_no_member_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "slots_for", lambda members: (2, 1))
    async with listening() as at:
        await at.greeted()
        strangers = [await at.connect() for _ in range(4)]  # they say nothing
        peer = await at.peer()
        assert isinstance(await peer.hear(), StoreClaim)
        assert await strangers[0].hear() is None


async def test_a_frame_that_was_begun_must_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "FRAME_S_MAX", 0.1)
    async with listening() as at:
        slow, idle = await at.greeted(), await at.greeted()
        await slow.stream.send_all(b"".join(seal([STATUS]))[:-1])
        assert await slow.hear() is None
        await idle.say(STATUS)
        assert await idle.hear()


async def test_of_clients_that_hold_too_much_together_the_one_that_holds_most_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "HELD_BYTES_MAX", 1 << 20)
    frame = b"".join(seal([Set(1, "default", b"k", bytes(1 << 20), 2, 1000, 0, b""), STATUS]))
    async with listening() as at:
        most, less = await at.greeted(), await at.greeted()
        await less.stream.send_all(frame[: 300 << 10])
        await most.stream.send_all(frame[: 900 << 10])
        assert await most.hear() is None
        await less.stream.send_all(frame[300 << 10 :])
        assert await less.hear()


async def test_what_waits_for_a_member_counts_too_and_a_client_goes_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "HELD_BYTES_MAX", 8 << 20)
    monkeypatch.setattr(slots, "FRAME_S_MAX", math.inf)
    frame = b"".join(seal([Set(1, "default", b"k", bytes(1 << 20), 2, 1000, 0, b"")]))
    async with listening() as at:
        peer, client = await at.peer(), await at.greeted()
        assert isinstance(await peer.hear(), StoreClaim)
        assert isinstance(await peer.hear(), Ping)
        await client.stream.send_all(frame[:-1])
        outbox = at.node.peers.all[0].outbox
        for number in range(7):  # more than its socket takes
            outbox.put(Read(number, bytes(4 << 20), 5000, True, False, True), 4 << 20)
        at.served.send()
        assert await client.hear() is None
        assert isinstance(await peer.hear(), Read)


async def test_who_is_told_goodbye_gets_its_answers_and_what_it_asks_later_is_refused_definitely() -> None:
    async with listening() as at:
        client, peer = await at.greeted(), await at.peer()
        assert isinstance(await peer.hear(), StoreClaim)
        assert isinstance(await peer.hear(), Ping)
        await client.say(SLOW, STATUS)
        assert isinstance(await client.hear(), NodeStatus)
        at.node.turn.begin(instant())  # so the other one is under way
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.served.say_goodbye)
            assert isinstance(await client.hear(), Goodbye)
            assert isinstance(await peer.hear(), Goodbye)
            await client.say(STATUS)
            refused = await client.hear()
            assert isinstance(refused, Failed)
            assert (refused.id, refused.code) == (STATUS.id, Overloaded.code)
            assert int(refused.details[0]) > 0  # elsewhere, for instance
            assert sum(at.node.intake.room.under_way) == 1  # the other one, which will be answered yet
            late = await at.connect()
            await late.say(CLIENT)
            assert isinstance(await late.hear(), Refused)
            now = instant()
            at.node.operations.tick(now._replace(monotonic=now.monotonic + 2))
            at.served.send()
            answer = await client.hear()
            assert isinstance(answer, Failed)
            assert (answer.id, answer.code) == (SLOW.id, ReadTimeout.code)


async def test_a_goodbye_waits_for_no_answer_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "GOODBYE_S_MAX", 0.3)
    async with listening() as at:
        client = await at.greeted()
        await client.say(SLOW)
        with trio.fail_after(PATIENCE_S):
            await at.served.say_goodbye()


async def test_a_goodbye_waits_for_what_is_under_way_for_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """A register that is written for another node's client, an acknowledgement that waits for the disk."""
    monkeypatch.setattr(connections, "GOODBYE_S_MAX", PATIENCE_S)
    monkeypatch.setattr(connections, "QUIET_S", 0.0)
    async with listening() as at:
        peer, parted = await at.peer(), trio.Event()

        async def part() -> None:
            await at.served.say_goodbye()
            parted.set()

        group_commit = at.node.group_commit
        group_commit.stage(keyspace.fact("owed"), b"1")
        group_commit.commit()
        assert group_commit.sequence != group_commit.durable_sequence
        async with trio.open_nursery() as nursery:
            nursery.start_soon(part)
            while not isinstance(await peer.hear(), Goodbye):
                pass
            at.served.tick()
            await wait_all_tasks_blocked()
            assert not parted.is_set()
            group_commit.durable(group_commit.sequence)
            with trio.fail_after(PATIENCE_S):
                await parted.wait()


async def test_a_peer_that_connects_anew_and_is_silent_on_its_old_link_has_lost_that() -> None:
    async with listening() as at:
        old = await at.peer()
        assert [type(await old.hear()) for _ in range(2)] == [StoreClaim, Ping]
        at.fall_silent(0)
        new = await at.peer()
        assert await old.ends()
        assert await new.hear()


async def test_a_link_that_stands_and_was_heard_is_not_replaced_and_who_comes_as_its_member_is_told_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening() as at:
        peer = await at.peer()
        assert [type(await peer.hear()) for _ in range(2)] == [StoreClaim, Ping]
        outbox = at.node.peers.all[0].outbox
        reasons = set()
        for _ in range(3):
            copy = await at.proven(replace(at.n1, address="10.6.6.6:7400"))
            said = await copy.hear()
            assert isinstance(said, Refused)
            reasons.add(said.reason)
            assert await copy.hear() is None
        assert at.node.peers.all[0].outbox is outbox
        outbox.put(Pong(1, 1))
        at.served.send()
        assert await peer.hear() == Pong(1, 1)
        assert await told_of(at, 0) == at.n1.address
        await peer.stream.aclose()  # as one that ends
        with trio.fail_after(PATIENCE_S):
            while at.node.peers.all[0].linked:
                await trio.lowlevel.checkpoint()
        assert isinstance(await (await at.peer()).hear(), StoreClaim)
    (reason,) = reasons
    assert reason == (
        "n1 is linked already, from 127.0.0.1, and this one says that it is at 10.6.6.6:7400; "
        "if two nodes run as n1, stop one"
    )
    assert [text for text in caplog.messages if "linked already" in text] == [
        f"n2: a connection was closed: n1 was refused: {reason}"
    ]


async def test_of_two_that_were_let_in_at_once_as_one_member_the_first_is_linked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with listening() as at:
        first = await at.peer()
        assert isinstance(await first.hear(), StoreClaim)
        outbox = at.node.peers.all[0].outbox
        # As where a welcome takes so long to send that another one is let in meanwhile.

        def unhindered(heard: object, asked: Challenged, own: Facts, hindered: object) -> Answer:
            return answer_proof(heard, asked, own, lambda name, address: "")

        monkeypatch.setattr(handshakes, "answer_proof", unhindered)
        second = await at.peer()
        assert await second.hear() is None
        assert at.node.peers.all[0].outbox is outbox


async def test_a_member_that_asks_tells_no_address_while_it_is_linked_nor_shortly_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """n3, which this node dials."""
    monkeypatch.setattr(connections, "FOUND_AGAIN_S", math.inf)
    async with listening() as at:
        n3 = member_facts(at.node.config.cluster, "n3")
        copy = replace(n3, address="10.6.6.6:7400")

        async def told() -> str:
            said = await (await at.proven(copy)).hear()
            assert isinstance(said, Refused)
            return said.reason

        async def lets_in(stream: trio.SocketStream) -> None:
            wire = Wire(stream)
            challenged = answer(await wire.hear(), n3, OTHER_NONCE)
            assert isinstance(challenged, Challenged)
            await wire.say(challenged.reply)
            await wire.say(answer_proof(await wire.hear(), challenged, n3, lambda name, address: "").reply)
            await trio.sleep_forever()

        before = at.node.peers.all[2].outbox  # of the world's link, which no socket carries
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
            monkeypatch.setattr(handshakes, "dial", lambda _: link.dial(address))
            nursery.start_soon(partial(trio.serve_listeners, lets_in, [listener]))
            nursery.start_soon(at.served.dial_forever, 2)
            with trio.fail_after(PATIENCE_S):
                while at.node.peers.all[2].outbox is before:
                    await trio.lowlevel.checkpoint()
            assert "n3 is linked already, from 127.0.0.1" in await told()
            lately = f"n3 was linked at {n3.address} a moment ago, and is looked for there first"
            at.node.peers.goodbye(2, instant())
            assert lately in await told()
            nursery.cancel_scope.cancel()
        await at.parted(2)
        assert lately in await told()
        assert await told_of(at, 2) == n3.address
        monkeypatch.setattr(connections, "FOUND_AGAIN_S", 0.0)
        assert "it tries 10.6.6.6:7400 now" in await told()


async def test_a_peer_that_links_while_the_node_says_goodbye_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "GOODBYE_S_MAX", PATIENCE_S)
    async with listening() as at:
        client = await at.greeted()
        await client.say(SLOW)
        async with trio.open_nursery() as nursery:
            while not sum(at.node.intake.room.under_way):
                await trio.lowlevel.checkpoint()
            nursery.start_soon(at.served.say_goodbye)
            assert isinstance(await client.hear(), Goodbye)
            peer = await at.peer()
            assert [type(await peer.hear()) for _ in range(3)] == [StoreClaim, Ping, Goodbye]
            nursery.cancel_scope.cancel()


async def test_however_often_a_stranger_says_something_else_that_is_wrong_the_log_has_one_line_of_a_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with listening() as at:
        for number in range(20):
            for said in (
                pack([Hello(100 + number, 100 + number, b"", f"x{number}", NONCE)]),
                pack([CLIENT._replace(cluster=number.to_bytes(8))]),
                (0x70000000 + number).to_bytes(4) + bytes(8),
            ):
                wire = await at.connect()
                await wire.stream.send_all(said)
                assert await wire.ends()
            client = await at.greeted()
            await client.stream.send_all((0x70000000 + number).to_bytes(4) + bytes(40))
            assert await client.ends()
    assert len(caplog.messages) == 4, caplog.messages


async def test_a_peer_whose_outbox_ran_over_loses_its_link() -> None:
    async with listening() as at:
        peer = await at.peer()
        assert await peer.hear()
        outbox = at.node.peers.all[0].outbox
        while outbox.put(Pong(1, 1), 1 << 20):
            pass
        at.served.send()
        while await peer.hear():
            pass  # what was in it; then the end


async def test_who_says_what_is_not_for_him_to_say_is_closed() -> None:
    async with listening() as at:
        client = await at.greeted()
        await client.stream.send_all(enveloped(encode([Pong(1, 1)]), 1, 1, 0, ADMIN))
        assert await client.hear() is None


async def test_the_same_refusal_is_not_logged_over_and_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with listening() as at:
        for name in ("n3", "n3", "n4", "n3"):
            own = replace(at.n1, welcome=at.n1.welcome._replace(sender=name))
            stranger = await at.proven(own)
            assert isinstance(await stranger.hear(), Refused)
            assert await stranger.hear() is None
    told = [record.getMessage() for record in caplog.records]
    assert [line.split(" was refused")[0] for line in told] == [
        "n2: a connection was closed: n3",
        "n2: a connection was closed: n4",
    ]


# --- strangers -------------------------------------------------------------------------------------


IMPOSTORS: dict[str, Callable[[Challenge, Facts], Message]] = {
    "a wrong proof": lambda challenge, n1: Proof(b"w" * 32, n1.digest, "127.0.0.1:1"),
    "the proof that it was given": lambda challenge, n1: Proof(challenge.proof, n1.digest, "127.0.0.1:1"),
    "a wrong digest, as if the right one came back": lambda challenge, n1: Proof(bytes(32), bytes(16), ""),
    "a request in place of a proof": lambda challenge, n1: Read(1, b"\0\0\7k", 5000, True, False, True),
    "a hello once more": lambda challenge, n1: hello(n1, OTHER_NONCE),
}


@pytest.mark.parametrize("how", IMPOSTORS)
async def test_who_calls_himself_a_member_and_has_no_key_is_told_nothing_and_disturbs_no_link(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening() as at:
        peer = await at.peer()
        assert [type(await peer.hear()) for _ in range(2)] == [StoreClaim, Ping]
        outbox = at.node.peers.all[0].outbox
        wire, challenge = await at.challenged(hello(at.n1, NONCE))
        assert at.node.peers.all[0].outbox is outbox
        await wire.say(IMPOSTORS[how](challenge, at.n1))
        assert await wire.hear() == Refused(KEYLESS, "")
        assert await wire.hear() is None
        assert at.node.peers.all[0].outbox is outbox
        assert at.node.peers.all[0].linked
        outbox.put(Pong(1, 1))
        at.served.send()
        assert await peer.hear() == Pong(1, 1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "who called itself n1 was refused: it has not proven" in line


async def test_a_recorded_proof_lets_nobody_in() -> None:
    async with listening() as at:
        said = hello(at.n1, NONCE)
        member, challenge = await at.challenged(said)
        recorded, _ = prove(challenge, said, at.n1, "n2")
        assert isinstance(recorded, Proof)
        await member.say(recorded)
        assert isinstance(await member.hear(), Welcome)
        outbox = at.node.peers.all[0].outbox
        replay, fresh = await at.challenged(said)
        assert fresh.nonce != challenge.nonce
        await replay.say(recorded)
        assert await replay.hear() == Refused(KEYLESS, "")
        assert at.node.peers.all[0].outbox is outbox


async def test_a_member_gets_in_however_many_say_nothing_or_call_themselves_by_its_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "slots_for", lambda members: (8, 2))
    async with listening() as at:
        for _ in range(3):
            for _ in range(40):
                await at.connect()  # and says nothing
                await at.challenged(hello(at.n1, NONCE))
            peer = await at.peer()
            assert isinstance(await peer.hear(), StoreClaim)
            await peer.stream.aclose()
            await at.parted(0)
    assert len(caplog.records) == 1  # that some had to go


async def test_a_stranger_that_has_said_something_outlasts_those_that_say_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "slots_for", lambda members: (4, 2))
    async with listening() as at:
        said = hello(at.n1, NONCE)
        member = await at.connect()  # its first words are slow
        silent = [await at.connect() for _ in range(3)]
        await member.say(said)
        challenge = await member.hear()
        silent += [await at.connect() for _ in range(3)]
        assert all([await wire.ends() for wire in silent[:3]])
        proof, _ = prove(challenge, said, at.n1, "n2")
        assert isinstance(proof, Proof)
        await member.say(proof)
        assert isinstance(await member.hear(), Welcome)


async def test_who_ran_what_was_before_is_refused_in_the_form_that_it_understands() -> None:
    async with listening() as at:
        for sender in ("", "n1"):
            early = await at.connect()
            await early.say(EarlyHello(7, b"", b"", sender))
            refused = await early.hear()
            assert isinstance(refused, Refused)
            assert "protocol version 7 is not spoken here, only" in refused.reason
            assert await early.hear() is None


async def test_who_closes_the_connection_at_the_first_word_may_run_an_older_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some(1 << 16)
        await stream.aclose()

    told: list[str] = []
    complained = trio.Event()

    def complain(level: int, text: str, kind: str) -> None:
        told.append(text)
        complained.set()

    async with listening() as at, trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        monkeypatch.setattr(handshakes, "dial", lambda _: link.dial(address))
        monkeypatch.setattr(at.served, "complain", complain)
        nursery.start_soon(partial(trio.serve_listeners, hang_up, listeners))
        nursery.start_soon(at.served.dial_forever, 2)
        with trio.fail_after(PATIENCE_S):
            await complained.wait()
        nursery.cancel_scope.cancel()
    assert "n3 closed the connection at the first word: it may run a release from before 0.2" in told[0]
    assert "cannot be in one cluster with this one: upgrade it" in told[0]


async def test_a_link_and_a_client_speak_the_highest_version_that_both_sides_do() -> None:
    async with listening() as at:
        client = await at.connect()
        await client.say(CLIENT._replace(highest=WIRE_HIGHEST + 4))
        newer = await at.proven(replace(at.n1, versions=Versions(WIRE_LOWEST, WIRE_HIGHEST + 4)))
        for wire in (client, newer):
            welcome = await wire.hear()
            assert isinstance(welcome, Welcome)
            assert welcome.version == WIRE_HIGHEST


def unknown(kind: int) -> bytes:
    """A frame that says something of a kind that there is none of."""
    payload = cbor2.dumps([[kind, 1]])
    length = len(payload).to_bytes(4)
    return length + crc32(length).to_bytes(4) + crc32(payload).to_bytes(4) + payload


async def test_what_may_be_left_unheard_is_named_once_and_the_link_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named: list[str] = []
    async with listening() as at:
        monkeypatch.setattr(at.served, "complain", lambda level, text: named.append(text.partition(";")[0]))
        peer = await at.peer()
        for kind in (1999, 1999, 2000):
            await peer.stream.send_all(unknown(kind))
        for wall_ms in (1000, 2000):  # a clock that was set: it is answered at once
            await peer.say(Ping(0, wall_ms, True, bytes(8), 1, [], False, 0, 0, 0, WIRE_HIGHEST))
            while not isinstance(await peer.hear(), Pong):
                pass
    assert named == [
        f"n1 says something of kind {kind}, which version {WIRE_HIGHEST} of the wire does not have"
        for kind in (1999, 2000)
    ]


async def test_a_member_that_speaks_less_than_the_feature_level_is_refused() -> None:
    async with listening() as at:
        older = await at.connect()
        await older.say(hello(replace(at.n1, versions=Versions(WIRE_LOWEST, WIRE_LOWEST)), NONCE))
        refused = await older.hear()
        assert isinstance(refused, Refused)
        level = at.node.feature_level.level
        assert level > WIRE_LOWEST
        told = f"only {Versions(level, WIRE_HIGHEST)}, for the cluster's feature level is {level}; upgrade it"
        assert told in refused.reason


async def test_what_is_not_known_and_must_be_heard_ends_the_link_and_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening() as at:
        peer = await at.peer()
        await peer.stream.send_all(unknown(999))
        assert await peer.ends()
    told = (
        f"n2: the link to n1 broke: version {WIRE_HIGHEST} of the wire has no message of kind 999, which it"
    )
    told += " has said"
    assert told in caplog.messages


# --- addresses -------------------------------------------------------------------------------------


async def told_of(at: Listening, index: int) -> str:
    """The address of a member as a client learns it."""
    client = await at.connect()
    await client.say(CLIENT)
    welcome = await client.hear()
    assert isinstance(welcome, Welcome)
    return welcome.members[index].address


async def test_clients_are_told_the_address_that_a_member_tells_itself() -> None:
    async with listening() as at:
        assert await told_of(at, 0) == at.n1.address
        assert isinstance(await (await at.proven(replace(at.n1, address="10.9.8.7:1"))).hear(), Welcome)
        assert await told_of(at, 0) == "10.9.8.7:1"


async def test_what_is_no_address_changes_nothing_and_the_log_says_whose_file_to_correct(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening() as at:
        assert isinstance(await (await at.proven(replace(at.n1, address="now\nhere"))).hear(), Welcome)
        assert await told_of(at, 0) == at.n1.address
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("n2: n1 tells an address that is none: 'now\\nhere' is not an address")
    assert line.endswith(f"Correct its file; meanwhile it is looked for at {at.n1.address}")


async def test_where_somebody_has_no_proof_nobody_is_looked_for() -> None:
    async with listening() as at:
        wire, _ = await at.challenged(hello(at.n1, NONCE))
        await wire.say(Proof(b"w" * 32, at.n1.digest, "6.6.6.6:6"))
        assert await wire.hear() == Refused(KEYLESS, "")
        assert await told_of(at, 0) == at.n1.address
