"""Local cluster: the configurations of nodes that all run on this machine, in the files of one directory.

Owns n1.toml, n2.toml, ... in that directory. The first of them decides what is there: it is written last, so
that a directory in which writing was interrupted counts as empty. Where it is gone, because n1 has left the
cluster, any file whose node has a store does; of a member that has left, file and store may be removed.
Starts nothing: `embedded` runs the nodes inside a program, `basestore up` as processes. It refuses what does
not fit the files that it finds, rather than to change what a store was made with.
"""

import random
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import get_args

from basestore.config import (
    CLUSTER_ID_BYTES,
    MEMBERS_MAX,
    ClusterConfig,
    Durability,
    Member,
    NodeConfig,
    parse_address,
)
from basestore.config_file import dump, load
from basestore.errors import ConfigurationError
from basestore.repair.version import KEY_BYTES
from basestore.results.topology import LEFT, ClusterTopology
from basestore.server.listening import why_not
from basestore.storage.durable_files import replace_file

HOST = "127.0.0.1"
FREE_PORTS = range(20_000, 32_000)
NODES_DEFAULT = 3
PORT_MAX = 65535


def config_path(directory: Path, name: str) -> Path:
    """Where the configuration of the node called `name` lies."""
    return directory / f"{name}.toml"


def prepare_cluster(
    directory: Path, nodes: int | None, first_port: int | None, durability: Durability | None
) -> list[NodeConfig]:
    """The configurations of a cluster on this machine: those in `directory`, or new ones, with
    nodes n1, n2, ... on consecutive ports from `first_port`, or on free ones. What is None is as it
    was, or 3 nodes with durability sync. The files say afterwards what was asked for.
    ConfigurationError when what is there does not fit what is asked for."""
    configs = plan_cluster(directory, nodes, first_port, durability)
    write_cluster(directory, configs)
    return configs


def first_config(directory: Path) -> NodeConfig | None:
    """The configuration that says what cluster is in `directory`; None where there is none.
    ConfigurationError when n1's file cannot be read."""
    path = config_path(directory, "n1")
    if path.exists():
        return load(path, numbered=False)
    with_stores = [each for each in _readable(directory) if each.directory.exists()]
    return min(with_stores, key=lambda each: each.member.number, default=None)


def _readable(directory: Path) -> Iterator[NodeConfig]:
    """The configurations in `directory`, of whichever cluster."""
    for path in sorted(directory.glob("*.toml")):
        with suppress(ConfigurationError):
            yield load(path)


def plan_cluster(
    directory: Path, nodes: int | None, first_port: int | None, durability: Durability | None
) -> list[NodeConfig]:
    """`prepare_cluster`, but nothing is written."""
    if durability is not None and durability not in get_args(Durability):
        raise ConfigurationError(f"durability {durability!r}; use sync, interval or memory")
    if nodes is not None and not 1 <= nodes <= MEMBERS_MAX:
        raise ConfigurationError(f"{nodes} nodes; 1 to {MEMBERS_MAX} are possible")
    first = first_config(directory)
    if first is None:
        return _new_cluster(directory, nodes or NODES_DEFAULT, first_port, durability or "sync")
    configs = _existing_cluster(directory, first, nodes, first_port)
    if durability is None:
        return configs
    held = configs[0].durability
    asked = [replace(config, durability=durability) for config in configs]
    if asked[0].engine != configs[0].engine:
        raise ConfigurationError(
            f"the cluster in {directory} has durability {held}, and what it holds would not be seen with "
            f"{durability}; start it with {held}, or use another directory"
        )
    return asked


def config_of_member(
    told: ClusterTopology, key: bytes, name: str, directory: Path, durability: Durability = "sync"
) -> NodeConfig:
    """The configuration of a member that joins the cluster that is told of, whose store lies in `directory`,
    under its name."""
    present = [each for each in told.members if each.standing != LEFT]
    cluster = ClusterConfig(
        bytes.fromhex(told.cluster), key,
        tuple(Member(each.number, each.name, each.address, each.zone) for each in present),
        told.replication, len(told.partitions), drift_ms_max=told.drift_ms_max,
        timeout_ms_max=told.timeout_ms_max,
    )  # fmt: skip
    return NodeConfig(cluster, name, directory / name, durability)


def show_metrics(configs: Sequence[NodeConfig], first_port: int) -> list[NodeConfig]:
    """The configurations, with metrics shown on consecutive ports from `first_port`; ConfigurationError."""
    ports = _ports_from(first_port, len(configs))
    return [replace(config, metrics=f"{HOST}:{port}") for port, config in zip(ports, configs, strict=True)]


def _ports_from(first: int, count: int) -> range:
    if first + count - 1 > PORT_MAX:
        raise ConfigurationError(f"{count} ports from {first} go beyond {PORT_MAX}; begin lower")
    return range(first, first + count)


def _existing_cluster(
    directory: Path, first: NodeConfig, nodes: int | None, first_port: int | None
) -> list[NodeConfig]:
    cluster = first.cluster
    listed = [member.name for member in cluster.members if _is_there(directory, member.name)]
    joined = _joined(directory, cluster)
    expected = [f"n{number}" for number in range(1, (nodes or 0) + 1)]
    if nodes is not None and sorted(listed) != sorted(expected) and nodes != len(listed) + len(joined):
        names = ", ".join([*listed, *(config.name for config in joined)])
        raise ConfigurationError(
            f"{directory} holds a cluster of {len(listed) + len(joined)} nodes ({names}), not of {nodes}; "
            f"ask for {len(listed) + len(joined)} nodes, or use another directory"
        )
    if first_port is not None and first.member.address != f"{HOST}:{first_port}":
        raise ConfigurationError(
            f"the cluster in {directory} begins at {first.member.address}; start it with that port, or use "
            f"another directory"
        )
    return [*(load(config_path(directory, name), numbered=False) for name in sorted(listed)), *joined]


def _is_there(directory: Path, name: str) -> bool:
    """False where a node's file and store are both gone, as they may be once its member has left."""
    return config_path(directory, name).exists() or (directory / name).exists()


def _joined(directory: Path, cluster: ClusterConfig) -> list[NodeConfig]:
    """Nodes that have joined the cluster since it was set up, by number: their files name more members."""
    listed = {config_path(directory, member.name) for member in cluster.members}
    others = [load(path) for path in sorted(directory.glob("*.toml")) if path not in listed]
    return sorted(
        (each for each in others if each.cluster.id == cluster.id), key=lambda each: each.member.number
    )


def _new_cluster(
    directory: Path, nodes: int, first_port: int | None, durability: Durability
) -> list[NodeConfig]:
    ports = free_ports(nodes) if first_port is None else _ports_from(first_port, nodes)
    members = tuple(Member(at, f"n{at + 1}", f"{HOST}:{port}") for at, port in enumerate(ports))
    cluster = ClusterConfig(
        secrets.token_bytes(CLUSTER_ID_BYTES), secrets.token_bytes(KEY_BYTES), members, min(3, nodes)
    )
    return [NodeConfig(cluster, member.name, directory / member.name, durability) for member in members]


def write_config(directory: Path, config: NodeConfig) -> Path:
    """Write its file, whole or not at all, and say where it lies; OSError. The store's directory is written
    relative to the file."""
    path = config_path(directory, config.name)
    replace_file(path, dump(config, directory))
    return path


def write_cluster(directory: Path, configs: Sequence[NodeConfig]) -> None:
    """Write the files whose content is not yet this; n1 last, for its presence says that all are there."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for config in reversed(configs):
            path = config_path(directory, config.name)
            if not path.exists() or not _says(path, config):
                write_config(directory, config)
    except OSError as error:
        raise ConfigurationError(
            f"the cluster cannot be set up in {directory}: {error}. Use another directory"
        ) from error


def _says(path: Path, config: NodeConfig) -> bool:
    """Whether a file needs no rewriting; one from before members had numbers does."""
    try:
        return load(path) == config
    except ConfigurationError:
        return False


def refuse_shared_ports(configs: Sequence[NodeConfig]) -> None:
    """ConfigurationError that names the addresses at which two of these would listen."""
    users: dict[tuple[str, int], list[str]] = {}
    for config in configs:
        users.setdefault(parse_address(config.listens_on), []).append(config.name)
        if config.metrics:
            users.setdefault(parse_address(config.metrics), []).append(f"the metrics of {config.name}")
    shared = [f"{host}:{port}: {' and '.join(names)}" for (host, port), names in users.items() if names[1:]]
    if shared:
        raise ConfigurationError(
            f"two would listen at one address: {'; '.join(shared)}. Choose other ports: nodes take as many "
            f"as there are of them, in a row, and their metrics as many again"
        )


def refuse_taken_ports(configs: Sequence[NodeConfig]) -> None:
    """ConfigurationError that names the addresses that other programs listen on."""
    taken = []
    addresses = [config.listens_on for config in configs]
    for address in addresses + [config.metrics for config in configs if config.metrics]:
        try:
            with socket.create_server(parse_address(address)):
                pass
        except OSError as error:
            taken.append(f"{address}: {why_not(error)}")
    if taken:
        raise ConfigurationError(
            f"{'; '.join(taken)}. Unless that is a `basestore up` or `serve` of this cluster, make a new one "
            f"in another directory with other ports (--port)"
        )


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses, below those that systems give to outgoing connections: a node that is
    down for a while must find its own free when it comes back."""
    ports: list[int] = []
    for port in random.sample(FREE_PORTS, len(FREE_PORTS)):
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise ConfigurationError(
        f"{count} free ports between {FREE_PORTS.start} and {FREE_PORTS.stop} were not found"
    )
