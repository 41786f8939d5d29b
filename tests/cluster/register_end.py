"""What registers hold at last, and whether all of their replicas count again, and hold the same."""

import re
from collections.abc import Sequence
from contextlib import suppress

from basestore.consistency import Level
from basestore.errors import RequestFailed, Unreachable
from basestore.results.topology import HISTORY_MAX, HistoryEntry
from tests.cluster.changing import NOTHING_DONE
from tests.cluster.processes import Cluster, NodeProcess
from tests.cluster.register_load import BUCKET
from tests.worlds.patience import PATIENCE_S, eventually

TAKEN_IN = re.compile(r"partition \d+: taken in as acceptors again: ([^;]*?)(?=, through|;|$)")
MORE = re.compile(r"and (\d+) more")


def finals(node: NodeProcess, keys: Sequence[str], level: Level = Level.QUORUM) -> dict[str, bytes]:
    """What a node reads."""
    found: dict[str, bytes] = {}

    def rest() -> bool:
        with node.store(level) as store:
            left = [key for key in keys if key not in found]
            for key, result in zip(left, store.get_many(left, bucket=BUCKET), strict=True):
                if not isinstance(result, Exception):
                    found[key] = result.value or b""
        return len(found) == len(keys)

    eventually(rest, f"{node.name} answers all reads")
    return found


def wait_same(cluster: Cluster, keys: Sequence[str]) -> None:
    """Until all is proven to be everywhere; then each replica of its own holds the same."""
    with cluster.nodes[0].store() as store:
        found = store.converged(timeout=PATIENCE_S, bucket=BUCKET)
    assert found.proven, found.obstacles
    held = finals(cluster.nodes[0], keys)
    for node in cluster:
        assert finals(node, keys, Level.ONE) == held, node.name


def entries(node: NodeProcess, after: int = 0) -> list[HistoryEntry]:
    """What a node knows to have been decided since that epoch; nothing while it does not answer."""
    with suppress(RequestFailed, Unreachable), node.store() as store:
        return list(store.topology_history(after or None, limit=HISTORY_MAX).entries)
    return []


def epoch_of(node: NodeProcess) -> int:
    """That a node knows."""
    with node.store() as store:
        return store.topology("stale").epoch


def wait_bound(node: NodeProcess, members: Sequence[NodeProcess]) -> None:
    """Until each member is bound to a store."""

    def bound() -> bool:
        texts = [entry.text for entry in entries(node)]
        return all(any(is_binding(text, member) for text in texts) for member in members)

    eventually(bound, "all members are bound to stores")


def is_binding(text: str, member: NodeProcess) -> bool:
    return text.startswith(f"member {member.name}: ") and " store " in text


def seats_of(node: NodeProcess, member: NodeProcess) -> int:
    """Of how many partitions this member is a replica, as a node knows."""
    with node.store() as store:
        return sum(member.name in each.replicas for each in store.topology("stale").partitions)


def wait_taken_in(node: NodeProcess, member: NodeProcess, after: int) -> None:
    """Until a member was bound to another store since that epoch, and was taken in wherever it has a seat."""
    seats = seats_of(node, member)
    eventually(lambda: is_taken_in(entries(node, after), member, seats), f"{member.name} is taken in")


def is_taken_in(told: Sequence[HistoryEntry], member: NodeProcess, seats: int) -> bool:
    """Whether these say that it was, in so many partitions, since it was bound last."""
    bound = [entry.epoch for entry in told if is_binding(entry.text, member)]
    if not bound:
        return False
    count = 0
    for entry in told:
        if entry.epoch > bound[-1] and not any(words in entry.text for words in NOTHING_DONE):
            shown = TAKEN_IN.findall(entry.text)
            if any(member.name in names.split(", ") for names in shown):
                more = MORE.search(entry.text)
                count += len(shown) + (int(more[1]) if more else 0)
    return count >= seats
