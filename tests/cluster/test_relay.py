"""The relay, with plain sockets at both ends: each thing that it can do to a connection."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.cluster.relay import CHUNK_BYTES, DROP, GARBLE, HOLD, QUEUE_CHUNKS, Shape
from tests.cluster.relayed import Relay, Route
from tests.worlds.patience import PATIENCE_S, eventually
from tests.worlds.ports import free_ports

SILENCE_S = 0.2
SENT_BYTES = 64 << 20


class Ends:
    """A caller `a`, a server `b`, and the relay between them."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(PATIENCE_S)
        self.port = free_ports(1)
        self.relay = Relay([Route("a", "b", self.port, f"127.0.0.1:{self.server.getsockname()[1]}")])
        self.sockets = [self.server]
        self._connected = 0

    def connect(self) -> tuple[socket.socket, socket.socket]:
        a = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        b, _ = self.server.accept()
        b.settimeout(PATIENCE_S)
        self.sockets += [a, b]
        self._connected += 1
        eventually(lambda: self.relay.counts().get("connections", 0) >= self._connected, "it is set up")
        return a, b

    def close(self) -> None:
        self.relay.end()
        for each in self.sockets:
            each.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()


def is_silent(end: socket.socket) -> bool:
    """Nothing comes for a while: neither bytes nor an end."""
    end.settimeout(SILENCE_S)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(PATIENCE_S)
    return False


def test_bytes_pass_both_ways_and_so_does_the_end(ends: Ends) -> None:
    a, b = ends.connect()
    a.sendall(b"ping")
    assert b.recv(9) == b"ping"
    a.shutdown(socket.SHUT_WR)
    assert b.recv(9) == b""
    b.sendall(b"pong")
    assert a.recv(9) == b"pong"
    b.close()
    assert a.recv(9) == b""
    assert ends.relay.counts()["bytes passed"] == 8


def test_who_dies_is_heard_as_a_reset_on_the_other_side(ends: Ends) -> None:
    a, b = ends.connect()
    b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    b.close()
    with pytest.raises(ConnectionResetError):
        a.recv(1)


def test_a_one_way_cut_swallows_there_and_carries_back_and_mending_it_resets(ends: Ends) -> None:
    a, b = ends.connect()
    cut = Shape(DROP)
    ends.relay.impose("a", "b", cut)
    a.sendall(b"lost")
    assert is_silent(b)
    b.sendall(b"arrives")
    assert a.recv(9) == b"arrives"
    a.close()
    assert is_silent(b), "behind the cut nobody learns that the other side is gone"
    ends.relay.lift("a", "b", cut)
    with pytest.raises(ConnectionResetError):
        b.recv(1)
    assert ends.relay.counts()["bytes swallowed"] == 4
    a, b = ends.connect()
    a.sendall(b"whole")
    assert b.recv(9) == b"whole"


def test_a_cut_that_met_no_bytes_leaves_the_connection_as_it_was(ends: Ends) -> None:
    a, b = ends.connect()
    ends.relay.impose("a", "b", Shape(DROP))
    ends.relay.lift("a", "b", Shape(DROP))
    a.sendall(b"whole")
    assert b.recv(9) == b"whole"


def test_what_is_held_arrives_later_in_order_and_the_end_after_it(ends: Ends) -> None:
    a, b = ends.connect()
    ends.relay.impose("a", "b", Shape(HOLD))
    a.sendall(b"one ")
    a.sendall(b"two")
    a.close()
    assert is_silent(b)
    ends.relay.lift("a", "b", Shape(HOLD))
    received = b""
    while data := b.recv(99):
        received += data
    assert received == b"one two"


def test_a_garbled_way_changes_one_bit_of_a_chunk(ends: Ends) -> None:
    a, b = ends.connect()
    ends.relay.impose("a", "b", Shape(GARBLE))
    a.sendall(bytes(100))
    received = b""
    while len(received) < 100:
        received += b.recv(100)
    assert sum(byte.bit_count() for byte in received) == ends.relay.counts()["bits garbled"] > 0
    b.sendall(bytes(9))
    assert a.recv(9) == bytes(9)


def test_the_worst_of_two_shapes_counts_until_it_is_lifted(ends: Ends) -> None:
    a, b = ends.connect()
    ends.relay.impose("a", "b", Shape(HOLD))
    ends.relay.impose("a", "b", Shape(delay_s=0.05))
    a.sendall(b"late")
    assert is_silent(b)
    ends.relay.lift("a", "b", Shape(HOLD))
    assert b.recv(9) == b"late"


def test_a_delay_is_kept_and_reorders_nothing(ends: Ends) -> None:
    a, b = ends.connect()
    ends.relay.impose("a", "b", Shape(delay_s=0.2, jitter_s=0.1))
    begun = time.monotonic()
    sent = b"".join(b"%6d" % number for number in range(100))
    for start in range(0, len(sent), 6):
        a.sendall(sent[start : start + 6])
    received = b""
    while len(received) < len(sent):
        received += b.recv(999)
    assert received == sent
    assert time.monotonic() - begun >= 0.2
    ends.relay.impose("a", "b", Shape(delay_s=PATIENCE_S))
    a.sendall(b"late")
    b.sendall(b"back")
    assert a.recv(9) == b"back"  # the way back has no delay
    assert is_silent(b)


def test_a_slow_way_keeps_its_rate(ends: Ends) -> None:
    a, b = ends.connect()
    ends.relay.impose("a", "b", Shape(bytes_per_s=2 * CHUNK_BYTES))
    begun = time.monotonic()
    a.sendall(bytes(2 * CHUNK_BYTES))
    left = 2 * CHUNK_BYTES
    while left:
        left -= len(b.recv(left))
    assert time.monotonic() - begun >= 0.4


def test_a_way_that_is_held_takes_only_so_many_bytes(ends: Ends) -> None:
    a, b = ends.connect()
    ends.relay.impose("a", "b", Shape(HOLD))
    a.settimeout(SILENCE_S)
    taken = 0

    def has_enough() -> bool:
        """Nothing more is taken, and a full queue was."""
        nonlocal taken
        with suppress(TimeoutError):
            while taken < SENT_BYTES:
                taken += a.send(bytes(1 << 16))
        return taken > CHUNK_BYTES * QUEUE_CHUNKS

    eventually(has_enough, "the queue is full")
    assert taken < SENT_BYTES
    ends.relay.lift("a", "b", Shape(HOLD))
    left = taken
    while left:
        left -= len(b.recv(left))


def test_half_a_connection_can_be_closed(ends: Ends) -> None:
    a, b = ends.connect()
    ends.relay.half_close("a", "b")
    assert b.recv(9) == b""
    a.sendall(b"swallowed")
    b.sendall(b"arrives")
    assert a.recv(9) == b"arrives"


def test_a_reset_is_heard_on_both_sides(ends: Ends) -> None:
    a, b = ends.connect()
    ends.relay.reset("b", "a")  # whichever way it is named
    for end in (a, b):
        with pytest.raises(ConnectionResetError):
            end.recv(1)


def test_new_connections_are_refused_and_old_ones_go_on(ends: Ends) -> None:
    a, b = ends.connect()
    ends.relay.refuse("a", "b", True)

    def refused() -> bool:
        try:
            socket.create_connection(("127.0.0.1", ends.port), PATIENCE_S).close()
        except ConnectionRefusedError:
            return True
        return False

    eventually(refused, "a new connection is refused")
    a.sendall(b"old")
    assert b.recv(9) == b"old"
    ends.relay.refuse("a", "b", False)
    eventually(lambda: not refused(), "connections are taken again")


def test_who_calls_a_server_that_is_down_is_reset(ends: Ends) -> None:
    """He hears it while he connects, or when he reads: the relay has to connect itself to find out."""
    ends.server.close()

    def call() -> None:
        with socket.create_connection(("127.0.0.1", ends.port), PATIENCE_S) as a:
            a.recv(1)

    with pytest.raises(ConnectionResetError):
        call()
    eventually(lambda: ends.relay.counts().get("connections to nobody"), "it is counted")
