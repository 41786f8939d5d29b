"""Limits: the least that this machine needs for what a quorum write cannot do without.

Such a write crosses from the client to the coordinator and from there to a peer, and back, which is
two round trips; meanwhile it is synced once. So a round trip is a message of 128 bytes between two
processes with blocking sockets on loopback, and a sync is one fdatasync after 4 KiB were appended
to a growing file, in the very directory where the nodes keep their stores. Nothing of basestore is
in it. `python -m benchmarks.limits PORT` is the process at the other end.
"""

import os
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

MESSAGE = bytes(range(128))
APPEND = os.urandom(4096)
ROUND_TRIPS = 1000
SYNCS = 100
WARM_UPS = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Single measurements, in milliseconds; `two_round_trips_ms` are of two in a row."""

    two_round_trips_ms: list[float]
    fdatasync_ms: list[float]

    def __add__(self, other: "Limits") -> "Limits":
        return Limits(
            self.two_round_trips_ms + other.two_round_trips_ms, self.fdatasync_ms + other.fdatasync_ms
        )

    @property
    def round_trips_p50_ms(self) -> float:
        return statistics.median(self.two_round_trips_ms)

    @property
    def fdatasync_p50_ms(self) -> float:
        return statistics.median(self.fdatasync_ms)

    @property
    def total_ms(self) -> float:
        """What a durable quorum write cannot beat: two round trips and one sync."""
        return self.round_trips_p50_ms + self.fdatasync_p50_ms


def measure_limits(directory: Path) -> Limits:
    """Measure both, now; takes about a quarter of a second. The machine should be idle."""
    return Limits(_round_trips(), _syncs(directory / "limits.tmp"))


def _round_trips() -> list[float]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        echo = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.limits", str(port)], start_new_session=True
        )
        try:
            listener.settimeout(10.0)
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(None)  # plain blocking calls, without a poll before each
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return [_two_round_trips_ms(connection) for _ in range(WARM_UPS + ROUND_TRIPS)][WARM_UPS:]
        finally:
            echo.kill()
            echo.wait()


def _two_round_trips_ms(connection: socket.socket) -> float:
    began = time.perf_counter_ns()
    for _ in range(2):
        connection.sendall(MESSAGE)
        connection.recv(len(MESSAGE), socket.MSG_WAITALL)
    return (time.perf_counter_ns() - began) / 1e6


def _syncs(path: Path) -> list[float]:
    times_ms = []
    with path.open("wb", buffering=0) as file:
        for _ in range(WARM_UPS + SYNCS):
            file.write(APPEND)
            began = time.perf_counter_ns()
            os.fdatasync(file.fileno())
            times_ms.append((time.perf_counter_ns() - began) / 1e6)
    path.unlink()
    return times_ms[WARM_UPS:]


def echo(port: int) -> None:
    """Send back whatever comes, until the other side closes or ends this process."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(len(MESSAGE), socket.MSG_WAITALL):
            connection.sendall(data)


if __name__ == "__main__":
    echo(int(sys.argv[1]))
