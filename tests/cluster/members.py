"""Members of a cluster of processes that come and leave while it serves."""

from collections.abc import Callable
from dataclasses import replace

from basestore import sync
from basestore.config import Member
from basestore.errors import NoLeader
from basestore.results.topology import Decided
from tests.cluster.processes import Cluster, NodeProcess
from tests.worlds.patience import eventually
from tests.worlds.ports import free_ports


def numbers(node: NodeProcess) -> dict[str, int]:
    with node.store() as store:
        return {each.name: each.number for each in store.topology("stale").members if each.standing != "left"}


def come(cluster: Cluster, name: str, *, start: bool = True) -> NodeProcess:
    """Add a member, and start it with a file that names all of them."""
    first, address = cluster.nodes[0], f"127.0.0.1:{free_ports(1)}"
    ask(first, lambda store: store.add_member(name, address))
    eventually(lambda: name in numbers(first), f"{name} is a member")
    known = numbers(first)
    members = [node.config.member for node in cluster if node.name in known]
    config = replace(first.config.cluster, members=(*members, Member(known[name], name, address)))
    root = first.path.parent
    node = NodeProcess(
        root, replace(first.config, cluster=config, name=name, directory=root / f"{name} {known[name]}")
    )
    cluster.nodes.append(node)
    if start:
        node.start()
    return node


def wait_moved(node: NodeProcess) -> None:
    def done() -> bool:
        with node.store() as store:
            return store.moves().done

    eventually(done, "all is where it is planned to be")


def ask(at: NodeProcess, change: Callable[[sync.SyncStore], Decided]) -> None:
    """Have it decided, once there is a leader."""

    def is_decided() -> bool:
        try:
            with at.store() as store:
                change(store)
        except NoLeader:
            return False
        return True

    eventually(is_decided, "it is decided")


def leave(node: NodeProcess, at: NodeProcess) -> None:
    ask(at, lambda store: store.drain(node.name))
    eventually(lambda: node.name not in numbers(at), f"{node.name} has left")
