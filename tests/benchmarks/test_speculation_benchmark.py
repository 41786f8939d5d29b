"""The benchmark of speculative retries says what it should, whatever the figures are."""

import json
import socket
import threading
import time
from pathlib import Path

from basestore.config import parse_address
from benchmarks.relay import RelayProcess
from tests.benchmarks.running import run_benchmark
from tests.worlds.patience import PATIENCE_S

CASE_FIELDS = {"reads", "p50_ms", "p99_ms", "p999_ms", "extra_share", "errors"}


def test_every_case_is_measured_and_printed_as_json(tmp_path: Path) -> None:
    options = "--seconds 0.4 --rounds 1 --warm-up 0.3 --keys 100 --rate 100 -o json"
    result = run_benchmark("speculation", *options.split(), "--directory", str(tmp_path))
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    cases = {f"{case}_{field}" for case in ("healthy", "off", "on") for field in CASE_FIELDS}
    assert set(found) == cases | {"delay_ms", "rate_per_s", "p99_on_to_off"}
    for case in ("healthy", "off", "on"):
        assert found[f"{case}_reads"] > 0
        assert 0 < found[f"{case}_p50_ms"] <= found[f"{case}_p99_ms"] <= found[f"{case}_p999_ms"]
        assert found[f"{case}_errors"] == 0
    assert found["off_extra_share"] == 0
    assert list(tmp_path.iterdir()) == []


def test_the_relay_keeps_back_what_the_slow_side_says_and_keeps_its_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, RelayProcess() as relay:
        relay.lead_to(f"127.0.0.1:{listener.getsockname()[1]}", 0.2)
        threading.Thread(target=_echo_two, args=(listener,), daemon=True).start()
        with socket.create_connection(parse_address(relay.address), PATIENCE_S) as caller:
            began = time.monotonic()
            caller.sendall(b"first ")
            caller.sendall(b"second")
            assert caller.recv(12, socket.MSG_WAITALL) == b"first second"
            assert time.monotonic() - began >= 0.2
            assert caller.recv(1) == b""


def _echo_two(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(connection.recv(12, socket.MSG_WAITALL))
