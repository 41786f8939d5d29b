"""The benchmark of compare-and-set says what it should, whatever the figures are."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.closed_loop import Answer, LoopFailed, Refused, Window, comparing, contending
from benchmarks.etcd import etcd_command
from benchmarks.machine import interpreter
from benchmarks.register_systems import (
    ADDS,
    COMPARE,
    COMPARE_OLD,
    ETCDS_OWN,
    GET_SERIAL,
    LOOPS,
    OURS_OWN,
    RANGE,
    SET,
    SET_ALONE,
    TXN,
    TXN_LOOPS,
)
from benchmarks.register_wires import EtcdWire
from benchmarks.serial_report import ETCD, OURS, Found, Sample, Samples, as_text, make_row
from benchmarks.serial_traffic import TrafficRow, relayed_cluster, traffic_of
from tests.benchmarks.running import run_benchmark

QUICK = (
    "--rounds", "1", "--seconds", "0.1", "--clients", "2", "--contenders", "2", "--records", "60",
    "--no-traffic", "-o", "json",
)  # fmt: skip
NEEDS_ETCD = pytest.mark.skipif(shutil.which("etcd") is None, reason="needs etcd")


def sample(server_us: float | None, errors: int = 0) -> Sample:
    return Sample(1000.0, 1.25, 9.0, server_us, 5.0, 1.5, errors, 2.0)


def test_without_etcd_ours_is_measured_alone_and_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    result = run_benchmark("serial", "--etcd", "no-such-server", "--directory", str(tmp_path), *QUICK)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    rows = found["rows"]
    assert [(row["asked"], row["shared"], row["clients"]) for row in rows] == [
        *((asked, False, 2) for asked in OURS_OWN),
        (ADDS, True, 2),
        (LOOPS, True, 2),
    ]
    for row in rows:
        assert (row["system"], row["rounds"], row["to_etcd"]) == ("basestore", 1, None)
        assert row["errors"] == 0, result.stderr
    rows = [row for row in rows if row["ops_per_s"]]  # on a busy machine a tenth of a second may pass idly
    assert rows
    for row in rows:
        assert min(row["ops_per_s"], row["server_cpu_us"], row["client_cpu_us"]) > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["shared"] or row["to_set"] > 0
    assert all(row["attempts"] == 1 for row in rows if row["asked"] in (ADDS, SET_ALONE, COMPARE))
    assert all(row["attempts"] >= 1 for row in rows if row["asked"] == LOOPS)
    assert found["traffic"] == []
    assert set(found["idle_ms"]) == {"basestore"}
    assert "no-such-server is not found; `apt-get install etcd-server`" in result.stderr
    assert list(tmp_path.iterdir()) == []


@NEEDS_ETCD
def test_etcd_is_measured_beside_ours_and_ends_with_the_run(tmp_path: Path) -> None:
    result = run_benchmark("serial", "--directory", str(tmp_path), *QUICK, "--rounds", "2", "-o", "text")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    for asked in (*OURS_OWN, ADDS, LOOPS):
        assert any(f"2 basestore {asked}" in line for line in lines), asked
    for asked in (*ETCDS_OWN, TXN_LOOPS):
        (line,) = (line for line in lines if f"2 etcd      {asked}" in line)
        assert line.endswith(" 0"), "no errors"
    for other in ("set alone", "etcd's txn"):
        assert any(line.startswith("2 clients: a compare's") and other in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_measured_is_refused() -> None:
    for options in (["--clients", "0"], ["--contenders", "x"], ["--rounds", "0"], ["--records", "1"]):
        result = run_benchmark("serial", *options)
        assert result.returncode == 2
        assert "Error" in result.stderr
        assert result.stdout == ""


def test_what_nodes_say_for_a_request_is_counted_between_them(tmp_path: Path) -> None:
    with relayed_cluster(tmp_path) as relayed:
        relayed.system.fill()
        compare, read = traffic_of(relayed, COMPARE), traffic_of(relayed, GET_SERIAL)
    assert (compare.kinds["Accept"], compare.kinds["Learn"], compare.errors) == (2, 2, 0)
    assert compare.messages == round(sum(compare.kinds.values()), 2)
    assert set(read.kinds) == {"Peek", "Promised"}
    assert compare.bytes > read.bytes > 0
    assert compare.syncs >= 1, "what a quorum has accepted is durable, and one client shares no sync"
    assert compare.round_trips is not None
    assert list(tmp_path.iterdir()) == []


# --- clients -------------------------------------------------------------------------------------


class Words:
    """A wire whose requests can be read."""

    def compare(self, key: bytes, version: bytes, value: bytes) -> bytes:
        return b"compare %b to %b, write %b" % (key, version, value)

    def read(self, key: bytes) -> bytes:
        return b"read %b" % key

    def heard(self, data: bytes) -> list[Answer]:
        raise AssertionError


def test_a_lost_compare_is_repeated_with_the_version_that_it_was_told() -> None:
    operation = contending(Words(), b"k", b"v")
    assert next(operation) == b"read k"
    assert operation.send(Answer(version=b"1")) == b"compare k to 1, write v"
    assert operation.send(Answer(lost=True, version=b"4")) == b"compare k to 4, write v"
    with pytest.raises(StopIteration):
        operation.send(Answer(version=b"5"))


def test_a_compare_is_on_the_version_that_the_one_before_returned() -> None:
    held = {b"k": Answer(version=b"1")}
    for version in (b"2", b"3"):
        operation = comparing(Words(), b"k", held, b"v")
        assert next(operation) == b"compare k to %b, write v" % held[b"k"].version
        with pytest.raises(StopIteration):
            operation.send(Answer(version=version))
    operation = comparing(Words(), b"k", held, b"v")
    assert next(operation) == b"compare k to 3, write v"
    with pytest.raises(Refused, match="nobody else writes"):
        operation.send(Answer(lost=True, version=b"9"))
    assert held[b"k"].version == b"9", "from there it goes on"


# --- etcd's wire ---------------------------------------------------------------------------------


def framed(kind: int, flags: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + (1).to_bytes(4) + payload


def answered(message: bytes) -> bytes:
    """As a call is: headers, a message, trailers."""
    data = b"\0" + len(message).to_bytes(4) + message
    return framed(1, 4, b"\x88") + framed(0, 0, data) + framed(1, 5, b"\x88")


HEADER = b"\x0a\x03\x18\xac\x02"  # revision 300
PAIR = b"\x12\x08\x0a\x01k\x18\x07\x2a\x01v"  # key k, changed by revision 7, value v


@pytest.mark.parametrize(
    ("compares", "message", "answer"),
    [
        (False, HEADER + PAIR + b"\x20\x01", Answer(False, b"\x07", b"v")),
        (False, HEADER, Answer(False, b"")),
        (True, HEADER + b"\x10\x01\x1a\x02\x12\x00", Answer(False, b"\xac\x02")),
        (True, HEADER + b"\x1a\x0c\x0a\x0a" + PAIR, Answer(True, b"\x07", b"v")),
        (True, HEADER + b"\x1a\x02\x0a\x00", Answer(True, b"")),
    ],
    ids=["read", "read-nothing", "compared", "lost", "lost-to-nothing"],
)
def test_answers_of_etcd_are_told_apart_however_they_come(
    compares: bool, message: bytes, answer: Answer
) -> None:
    wire = EtcdWire("127.0.0.1:1")
    (wire.compare(b"k", b"\x06", b"w") if compares else wire.read(b"k"))
    data = answered(message)
    assert [list(wire.heard(data[at : at + 1])) for at in range(len(data) - 1)] == [[]] * (len(data) - 1)
    assert list(wire.heard(data[-1:])) == [answer]


def test_a_call_of_etcd_that_fails_has_no_message() -> None:
    wire = EtcdWire("127.0.0.1:1")
    wire.read(b"k")
    (answer,) = wire.heard(framed(1, 5, b"\x88"))
    assert answer.error == "etcd has refused Range"
    with pytest.raises(LoopFailed, match="too many pings"):
        list(wire.heard(framed(7, 0, bytes(8) + b"too many pings")))


def test_what_etcd_is_to_confirm_goes_out_with_the_next_request() -> None:
    wire = EtcdWire("127.0.0.1:1")
    wire.read(b"k")
    assert list(wire.heard(framed(4, 0, b"") + framed(6, 0, b"12345678") + framed(6, 1, b"mine"))) == []
    settings, ping = bytes((0, 0, 0, 4, 1, 0, 0, 0, 0)), bytes((0, 0, 8, 6, 1, 0, 0, 0, 0)) + b"12345678"
    second = wire.read(b"k")
    assert second.startswith(settings + ping)
    third = wire.read(b"k")
    assert settings not in third


def test_fields_are_sent_to_etcd_once_and_named_by_their_numbers_then() -> None:
    wire = EtcdWire("127.0.0.1:1")
    assert b"/etcdserverpb.KV/Range" in wire.read(b"k")
    # Of the table: path 65, authority 64, content type 63, te 62.
    assert wire.read(b"k")[9:15] == bytes((0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62))
    txn = wire.compare(b"k", b"", b"v")
    assert b"/etcdserverpb.KV/Txn" in txn
    assert b"127.0.0.1" not in txn
    # The new path has put all others back by one.
    assert wire.read(b"k")[9:15] == bytes((0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63))
    assert wire.compare(b"k", b"", b"v")[11] == 0x80 | 62


def test_a_member_of_etcd_is_dialled_where_it_is_said_to_be_and_syncs_as_by_default() -> None:
    words = etcd_command("etcd", 1, 7002, ["a:1", "b:2", "c:3"], ["x:1", "y:2", "z:3"])
    assert words[words.index("--listen-peer-urls") + 1] == "http://b:2"
    assert words[words.index("--initial-advertise-peer-urls") + 1] == "http://y:2"
    assert words[words.index("--initial-cluster") + 1] == (
        "etcd-1=http://x:1,etcd-2=http://y:2,etcd-3=http://z:3"
    )
    assert not any("fsync" in word for word in words)


# --- the report ----------------------------------------------------------------------------------


def test_a_ratio_is_of_the_same_round_and_of_as_many_clients() -> None:
    samples: Samples = {
        (OURS, SET_ALONE, 8): [sample(100), sample(200), sample(None)],
        (OURS, COMPARE, 8): [sample(150), sample(400), sample(80, errors=2)],
        (OURS, COMPARE, 1): [sample(150)],
        (OURS, SET, 1): [sample(100)],
        (OURS, SET_ALONE, 1): [sample(120)],
        (OURS, LOOPS, 4): [sample(300)],
        (ETCD, TXN, 8): [sample(300), sample(400), sample(40)],
        (ETCD, TXN_LOOPS, 4): [sample(100)],
    }
    row = make_row(samples, (OURS, COMPARE, 8))
    assert (row.to_set, row.to_etcd, row.errors, row.rounds) == (1.75, 1.0, 2, 3)
    assert (row.server_cpu_us, row.server_cpu_us_range, row.attempts) == (150, (80, 400), 1.5)
    alone = make_row(samples, (OURS, COMPARE, 1))
    assert (alone.to_set, alone.to_etcd) == (1.5, None), "one client's write comes alone"
    shared = make_row(samples, (OURS, LOOPS, 4))
    assert (shared.shared, shared.to_set, shared.to_etcd) == (True, None, 3.0)
    assert make_row(samples, (ETCD, TXN, 8)).to_etcd is None


def test_a_window_is_counted_by_operations_and_lost_compares_by_successes() -> None:
    window = Window(2_000_000_000, [1_000_000] * 10, 5, 50_000_000, 20_000_000, {"lost": 2})
    made = Sample.of(window, 1.5)
    assert (made.ops_per_s, made.server_cpu_us, made.client_cpu_us) == (5, 5000, 2000)
    assert (made.attempts, made.errors, made.load) == (1.5, 2, 1.5)
    nothing = Sample.of(Window(2_000_000_000, [], 5, 50_000_000, 20_000_000, {}), 1.5)
    assert (nothing.ops_per_s, nothing.server_cpu_us, nothing.attempts, nothing.p50_ms) == (
        0,
        None,
        None,
        None,
    )


def test_the_largest_figures_and_none_at_all_are_printed_within_110_columns() -> None:
    big = Sample(199_999.0, 9_999.0, 99_999.0, 999_999.0, 5.0, 999.0, 99_999, 99.9)
    nothing = Sample(0.0, None, None, None, None, None, 9, 2.0)
    ours, etcds = (SET_ALONE, COMPARE_OLD, COMPARE, LOOPS), (TXN, RANGE, TXN_LOOPS)
    cells = [*((OURS, asked) for asked in ours), *((ETCD, asked) for asked in etcds)]
    samples: Samples = {
        (*cell, clients): [each] for clients, each in ((64, big), (2000, nothing)) for cell in cells
    }
    rows = [make_row(samples, cell) for cell in samples]
    kinds = {"Accept": 2.0, "Applied": 2.0, "Learn": 2.0}
    traffic = [
        TrafficRow(OURS, COMPARE, 1.0, 6.0, kinds, 771.0, 5.3, 0),
        TrafficRow(ETCD, TXN, None, None, {}, 1e5, 2.7, 9),
    ]
    versions, idle_ms = {OURS: "1", ETCD: "3.4.23"}, {OURS: 30.0, ETCD: 31.0}
    text = as_text(Found(rows, traffic, versions, idle_ms, 0.25), "5 rounds")
    lines = text.splitlines()
    assert all(len(line) <= 110 for line in lines if interpreter() not in line), max(lines, key=len)
    own = [line for line in lines if line.startswith(("clients ", "     64 ", "   2000 "))]
    assert len(own) == 2 + len(rows)
    assert len({len(line) for line in own}) == 1, "columns stand below their headings"
    assert "64 clients: a compare's server us are 1.00 times those of set alone" in text
    assert text.count("a compare's server us") == 2, "nothing is said of what did not end well"
