"""The load in C asks what it should of a server that speaks RESP, and believes no answer that is none."""

import os
import shutil
import socketserver
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from threading import Thread
from typing import cast

import pytest

from benchmarks.resp import CannotMeasure, RespMeasured, RespRun, ask, compiled, run, words_of

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")

KEYS = 50
CONNECTIONS = 5
WINDOW_S = 0.2


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    with compiled() as path:
        yield path


class TinyServer(socketserver.ThreadingTCPServer):
    """SET, GET and WAIT, as far as the load needs them.

    replicas  how many acknowledge, by WAIT's answer
    instead   what is answered to a command of this name; nothing: the connection is closed
    piece     bytes that are sent at once
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, replicas: int = 1, piece: int = 65536, instead: dict[bytes, bytes] | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.replicas = replicas
        self.piece = piece
        self.instead = instead or {}
        self.kept: dict[bytes, bytes] = {}
        self.asked: list[bytes] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def answer(self, words: Sequence[bytes]) -> bytes:
        self.asked.append(words[0])
        if words[0] in self.instead:
            return self.instead[words[0]]
        if words[0] == b"SET":
            self.kept[words[1]] = words[2]
            return b"+OK\r\n"
        if words[0] == b"WAIT":
            assert words[1] == b"1"
            return b":%d\r\n" % self.replicas
        value = self.kept.get(words[1])
        return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


class Conversation(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        server = cast(TinyServer, self.server)
        try:
            while (words := read_words(self.rfile)) and (answer := server.answer(words)):
                for start in range(0, len(answer), server.piece):
                    self.wfile.write(answer[start : start + server.piece])
        except ConnectionError:
            pass


def read_words(stream: BufferedIOBase) -> list[bytes]:
    count = stream.readline()
    words = []
    for _ in range(int(count[1:] or b"0")):
        length = int(stream.readline()[1:])
        words.append(stream.read(length + 2)[:-2])
    return words


@contextmanager
def serving(server: TinyServer) -> Iterator[TinyServer]:
    with server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def fill(program: Path, *servers: TinyServer) -> RespMeasured:
    return run(program, RespRun("fill", [server.port for server in servers], (), CONNECTIONS, KEYS))


def drive(program: Path, server: TinyServer, operation: str, wait_ms: int | None = None) -> RespMeasured:
    assert operation in ("set", "get")
    order = RespRun(
        "set" if operation == "set" else "get", [server.port], [os.getpid()], CONNECTIONS, KEYS,
        window_s=WINDOW_S, wait_ms=wait_ms,
    )  # fmt: skip
    return run(program, order)


def test_a_fill_writes_every_key_once_spread_over_the_servers(program: Path) -> None:
    with serving(TinyServer()) as one, serving(TinyServer()) as two:
        filled = fill(program, one, two)
    assert (filled.operations, filled.errors) == (KEYS, 0)
    assert sorted([*one.kept, *two.kept]) == [b"key-%08d" % number for number in range(KEYS)]
    assert one.kept
    assert two.kept
    assert {len(value) for value in one.kept.values()} == {100}
    assert len(set(one.kept.values())) > 1


@pytest.mark.parametrize("piece", [65536, 1])
def test_reads_find_what_was_written_however_answers_are_cut(program: Path, piece: int) -> None:
    with serving(TinyServer(piece=piece)) as server:
        fill(program, server)
        measured = drive(program, server, "get")
    assert measured.operations > 0
    assert (measured.errors, measured.first_error) == (0, "")
    assert 0 < measured.p50_us <= measured.p99_us <= measured.window_ns / 1e3
    assert measured.window_ns >= WINDOW_S * 1e9
    assert measured.server_cpu_ns > 0
    assert measured.client_cpu_ns > 0


def test_a_write_is_done_when_both_the_write_and_its_wait_are_answered(program: Path) -> None:
    with serving(TinyServer()) as server:
        measured = drive(program, server, "set", wait_ms=500)
    assert measured.errors == 0
    assert measured.operations <= server.asked.count(b"SET") == server.asked.count(b"WAIT")
    assert set(server.asked) == {b"SET", b"WAIT"}


def test_a_wait_that_no_replica_answered_is_an_error(program: Path) -> None:
    with serving(TinyServer(replicas=0)) as server:
        measured = drive(program, server, "set", wait_ms=500)
    assert measured.operations == 0
    assert measured.errors > 0
    assert measured.first_error == "no replica acknowledged in time"
    assert measured.p50_us == 0


def test_a_key_that_is_not_found_and_a_refusal_are_errors(program: Path) -> None:
    with serving(TinyServer()) as server:
        lost = drive(program, server, "get")
    assert (lost.operations, lost.first_error) == (0, "a key that was written was not found")
    with serving(TinyServer(instead={b"SET": b'-OOM "full"\r\n'})) as server:
        refused = drive(program, server, "set")
    assert (refused.operations, refused.first_error) == (0, "OOM ?full?")
    assert min(lost.errors, refused.errors) > 0


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"HTTP/1.1 400\r\n", "none to what was asked: HTTP/1.1 400"),
        (b":1\r\n", "none to what was asked: :1"),
        (b"+OK\r\n+OK\r\n", "more answers than questions"),
        (b"$5000\r\n", "5000 bytes is too long"),
        (bytes(5000), "longer than 4096 bytes"),
        (b"", "closed its connection"),
    ],
)
def test_a_stream_that_does_not_answer_the_question_ends_the_run(
    program: Path, said: bytes, why: str
) -> None:
    with serving(TinyServer(instead={b"SET": said})) as server, pytest.raises(CannotMeasure, match=why):
        drive(program, server, "set")


def test_a_server_that_is_not_there_ends_the_run(program: Path) -> None:
    with serving(TinyServer()) as server:
        port = server.port
    with pytest.raises(CannotMeasure, match=f"no connection to port {port}"):
        drive(program, server, "set")


def test_a_process_that_is_gone_cannot_be_charged(program: Path) -> None:
    with serving(TinyServer()) as server, pytest.raises(CannotMeasure, match="process gone"):
        run(program, RespRun("set", [server.port], [2**22 + 1], 1, KEYS, window_s=WINDOW_S))


def test_one_command_is_answered_by_a_line_or_a_string() -> None:
    with serving(TinyServer()) as server:
        assert ask(server.port, b"GET", b"name") == b"$-1"
        assert ask(server.port, b"SET", b"name", b"a\r\nb") == b"+OK"
        assert ask(server.port, b"GET", b"name") == b"a\r\nb"


def test_the_generator_is_told_everything_and_what_is_none_is_left_out() -> None:
    order = RespRun("set", [1, 2], [3, 4], 64, 1000, 7, 0.5, 2.0, 5000)
    words = words_of(order)
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        "-o": "set", "-p": "1,2", "-P": "3,4", "-c": "64", "-k": "1000", "-s": "7", "-w": "0.5", "-t": "2.0",
        "-W": "5000",
    }  # fmt: skip
    assert {"-P", "-W"}.isdisjoint(words_of(RespRun("get", [1], (), 1, 1)))


def test_without_a_compiler_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotMeasure, match="apt-get install"), compiled():
        pass
