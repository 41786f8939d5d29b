"""Settling: after all faults are mended, do the replicas agree, and does what they agree on stay?

Every key is read at ALL from every node, which goes into the history for the checkers; then at ONE
from every node, which must find the same; then all are scanned. What was settled is looked at again
at the very end, when many more nodes have died: it must be unchanged, and what was gone stays gone.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from basestore.consistency import Level
from basestore.errors import BasestoreError
from basestore.results.receipts import ReadResult
from tests.cluster.clients import Recorder
from tests.cluster.processes import Cluster, NodeProcess
from tests.simulation import history as h
from tests.simulation.history import Violation
from tests.simulation.workload import TTL_MS_MAX
from tests.worlds.patience import PATIENCE_S, POLL_S

READ_TIMEOUT_S = 2.4
OBSERVER = 1000  # the number of the first node's observer, as a client

Key = tuple[str, str]  # bucket, key
Found = dict[Key, "State"]


class State(NamedTuple):
    """What a read found. An expired value has no value."""

    version: bytes
    found: bool
    value: bytes

    def __str__(self) -> str:
        return f"{self.version.hex('-', 8)} {self.value[:24]!r}" if self.found else self.version.hex("-", 8)


class Unsettled(Exception):
    """The cluster, left in peace, does not do what it should."""


def keys_of(recorder: Recorder) -> list[Key]:
    """Every key that the clients named."""
    operations = recorder.history.operations
    return sorted({(op.bucket, op.key) for op in operations if op.kind != h.SCAN})


def settle(cluster: Cluster, recorder: Recorder) -> tuple[Found, list[Violation]]:
    """Read everything at ALL and compare. Returns what was found, and what is wrong."""
    keys = keys_of(recorder)
    violations = []
    expired_s = recorder.now_s + TTL_MS_MAX / 1e3
    patiently(lambda: recorder.now_s > expired_s, "something has not expired")
    patiently(partial(all_hints_delivered, cluster), "hints are left")
    finals = []
    for number, node in enumerate(cluster):
        begun_s = recorder.now_s
        finals.append(read(node, keys, Level.ALL))
        record(recorder, OBSERVER + number, finals[-1], begun_s)
    for node, found in zip(cluster, finals, strict=True):
        violations += compared("replicas", f"{node.name} at ALL", found, finals[0])
    for node in cluster:
        violations += compared("replicas", f"{node.name} at ONE", read(node, keys, Level.ONE), finals[0])
        violations += scanned(node, recorder.prefix, finals[0])
    return finals[0], violations


def look_again(node: NodeProcess, settled: Found) -> list[Violation]:
    """Whether what was settled long ago is as it was. The tombstone of what is gone may be purged."""
    found = read(node, list(settled), Level.QUORUM)
    gone = {key: state for key, state in settled.items() if not state.found}
    now = {key: gone[key] if key in gone and not state.found else state for key, state in found.items()}
    return compared("settled", f"{node.name} later", now, settled)


def compared(check: str, who: str, found: Found, expected: Found) -> list[Violation]:
    return [
        Violation(check, f"{bucket} {key}: {who} finds {found[bucket, key]}, others {state}")
        for (bucket, key), state in expected.items()
        if found[bucket, key] != state
    ]


def read(node: NodeProcess, keys: Sequence[Key], level: Level) -> Found:
    """Read keys at one node; those that fail again and again for PATIENCE_S are a failure."""
    found: Found = {}

    def rest() -> bool:
        with node.store(level, READ_TIMEOUT_S) as store:
            for bucket in sorted({bucket for bucket, _ in keys}):
                left = [key for where, key in keys if where == bucket and (bucket, key) not in found]
                for key, result in zip(left, store.get_many(left, bucket=bucket), strict=True):
                    if isinstance(result, ReadResult):
                        found[bucket, key] = state_of(result)
        return len(found) == len(keys)

    patiently(rest, f"{node.name} does not answer all reads at {level.name}")
    return found


def state_of(result: ReadResult) -> State:
    version = b"" if result.version is None else result.version.encode()
    return State(version, result.found, result.value or b"")


def record(recorder: Recorder, client: int, found: Found, begun_s: float) -> None:
    """The reads, as operations that lasted from then until now."""
    for (bucket, key), state in found.items():
        op = recorder.begin(client, h.GET, bucket, key, Level.ALL)
        op.start, op.node = begun_s, client - OBSERVER
        op.version, op.found, op.value = state
        recorder.end(op, h.FOUND)


def scanned(node: NodeProcess, prefix: str, settled: Found) -> Iterator[Violation]:
    """One scan of each bucket at ALL shows exactly what the reads found."""
    for bucket in sorted({bucket for bucket, _ in settled}):
        expected = {key: s.version for (where, key), s in settled.items() if where == bucket and s.found}
        shown: dict[str, bytes] = {}

        def scan(bucket: str = bucket, shown: dict[str, bytes] = shown) -> bool:
            with suppress(BasestoreError), node.store(Level.ALL, READ_TIMEOUT_S) as store:
                shown |= {
                    item.key.decode(): item.version.encode() for item in store.scan(prefix, bucket=bucket)
                }
                return True
            return False

        patiently(scan, f"{node.name} answers no scan at ALL")
        if shown != expected:
            every = sorted(shown.keys() | expected.keys())
            wrong = [key for key in every if shown.get(key) != expected.get(key)]
            yield Violation("scans", f"{node.name} in peace: reads and scan differ in {wrong[:5]}")


def all_hints_delivered(cluster: Cluster) -> bool:
    states = [node.status() for node in cluster]
    return all(state is not None and not sum(state.hints.values()) for state in states)


def patiently(condition: Callable[[], object], what: str) -> None:
    """Poll until it holds; Unsettled if that takes PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise Unsettled(f"after {PATIENCE_S} s of peace: {what}")
        time.sleep(POLL_S)
