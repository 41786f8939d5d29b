"""Config file: a node's configuration as TOML: text in, checked values out, and text again.

Refuses words that it does not know, values out of bounds and numbers that are missing, each by file and
setting. Opens nothing but that file. What the values mean is `config.py`'s.
"""

import json
import math
import tomllib
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, get_args

from basestore.config import (
    BUILT_IN,
    CLUSTER_ID_BYTES,
    DRIFT_MS_DEFAULT,
    HINT_AGE_S_DEFAULT,
    HINT_BYTES_DEFAULT,
    MEMBERS_MAX,
    NUMBER_MAX,
    PARTITIONS_DEFAULT,
    PARTITIONS_MAX,
    READ_REPAIR_DEFAULT,
    REPLICATION_MAX,
    RESERVE_UNSET,
    TIMEOUT_MS_DEFAULT,
    UNNUMBERED,
    ClusterConfig,
    Durability,
    Member,
    NodeConfig,
    parse_address,
)
from basestore.errors import ConfigurationError
from basestore.protocol.limits import BUCKET_BYTES_MAX, TIMEOUT_MS_MAX
from basestore.repair.rule import Rule
from basestore.repair.version import KEY_BYTES

_RULES = {rule.value: rule for rule in Rule}


class _Table:
    """A TOML table that is read once: values are checked, what nobody asked for is an error."""

    def __init__(self, source: str, name: str, values: Any) -> None:
        self._where = f"{source}: [{name}]"
        if not isinstance(values, dict):
            raise ConfigurationError(f"{self._where} is missing or not a table")
        self._values = dict(values)

    def take(self, key: str, kind: type[Any], default: Any = None) -> Any:
        value = self._values.pop(key, default)
        if value is None:
            raise ConfigurationError(f"{self._where} lacks {key!r}")
        if type(value) is not kind:
            raise ConfigurationError(f"{self._where} {key} = {value!r} must be of type {kind.__name__}")
        return value

    def number(self, key: str, default: int, low: int, high: float) -> int:
        value: int = self.take(key, int, default)
        if not low <= value <= high:
            bounds = f"lie between {low} and {high}" if high < math.inf else f"be {low} or more"
            raise ConfigurationError(f"{self._where} {key} = {value} must {bounds}")
        return value

    def share(self, key: str, default: float) -> float:
        value = self._values.pop(key, default)
        if type(value) not in (int, float):
            raise ConfigurationError(f"{self._where} {key} = {value!r} must be a number")
        if not 0 <= value <= 1:
            raise ConfigurationError(f"{self._where} {key} = {value} must lie between 0 and 1")
        return float(value)

    def secret(self, key: str, length: int) -> bytes:
        text: str = self.take(key, str)
        try:
            value = bytes.fromhex(text)
        except ValueError:
            value = b""
        if len(value) != length:
            raise ConfigurationError(f"{self._where} {key} must be {length * 2} hexadecimal digits")
        return value

    def end(self) -> None:
        if self._values:
            unknown = ", ".join(sorted(self._values))
            raise ConfigurationError(f"{self._where} has unknown settings: {unknown}; remove or correct them")


def load(path: Path | str, *, numbered: bool = True) -> NodeConfig:
    """Read a node's TOML file; ConfigurationError that names the file and the setting. Not `numbered`:
    members that have no number yet are given one."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    return replace(parse(text, str(path), path.parent, numbered=numbered), file=str(path.absolute()))


def parse(text: str, source: str, base: Path, *, numbered: bool = True) -> NodeConfig:
    """`load` on text; relative directories count from `base`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{source}: not valid TOML: {error}") from error
    top = _Table(source, "top level", document)
    cluster = _cluster(
        _Table(source, "cluster", top.take("cluster", dict, {})),
        _members(top.take("members", list, []), source, numbered=numbered),
        {name: _Table(source, f"buckets.{name}", row) for name, row in top.take("buckets", dict, {}).items()},
        source,
    )
    table = _Table(source, "node", top.take("node", dict, {}))
    top.end()
    name = table.take("name", str)
    durability = table.take("durability", str, "sync")
    if durability not in get_args(Durability):
        raise ConfigurationError(
            f"{source}: [node] durability = {durability!r}; use sync, interval or memory"
        )
    config = NodeConfig(
        cluster,
        name,
        base / table.take("directory", str, name),
        durability,
        table.number("hint_bytes_max", HINT_BYTES_DEFAULT, 0, math.inf),
        table.number("hint_age_s_max", HINT_AGE_S_DEFAULT, 1, math.inf),
        table.share("read_repair", READ_REPAIR_DEFAULT),
        table.take("metrics", str, ""),
        table.number("disk_reserve_bytes", RESERVE_UNSET, RESERVE_UNSET, math.inf),
    )
    table.end()
    cluster.member_index(name)
    if config.metrics:
        try:
            parse_address(config.metrics)
        except ConfigurationError as error:
            raise ConfigurationError(f"{source}: [node] metrics: {error}") from None
    return config


def _members(rows: list[Any], source: str, *, numbered: bool) -> list[Member]:
    members = []
    for values in rows:
        row = _Table(source, "members", values)
        number = row.number("number", UNNUMBERED, 0, NUMBER_MAX) if "number" in values else UNNUMBERED
        members.append(
            Member(number, row.take("name", str), row.take("address", str), row.take("zone", str, ""))
        )
        row.end()
    # Given, for a node that runs, only as a proposal: files that list the members in another order would
    # come to other numbers.
    given = _given_numbers(members)
    if numbered and given != members:
        lines = "".join(
            f"\n    number = {member.number}    # in the table of {member.name}"
            for member, old in zip(given, members, strict=True)
            if old.number == UNNUMBERED
        )
        raise ConfigurationError(
            f"{source}: each of the [[members]] needs a number of its own, for life: its writes and its "
            f"store are known by it, so no other member may ever have it. Add to every node's file:{lines}"
        )
    return given


def _given_numbers(members: list[Member]) -> list[Member]:
    """The members with numbers for those that have none: greater than all that are given, or, where there
    is no room for that, the least that are free."""
    taken = {member.number for member in members}
    first = max(taken, default=UNNUMBERED) + 1
    if first + len(members) > NUMBER_MAX:
        first = 0
    following = (number for number in count(first) if number not in taken)
    return [
        replace(member, number=next(following)) if member.number == UNNUMBERED else member
        for member in members
    ]


def _cluster(table: _Table, members: list[Member], buckets: dict[str, _Table], source: str) -> ClusterConfig:
    rules = dict(BUILT_IN)
    for name, row in buckets.items():
        rule = row.take("rule", str)
        row.end()
        if rule not in _RULES:
            raise ConfigurationError(f"{source}: [buckets.{name}] rule = {rule!r}; use {' or '.join(_RULES)}")
        # To declare a built-in bucket as it is does no harm; with another rule its replicas would disagree.
        if rules.setdefault(name, _RULES[rule]) is not _RULES[rule]:
            raise ConfigurationError(f"{source}: bucket {name!r} is built in with rule {rules[name].value}")
    config = ClusterConfig(
        table.secret("id", CLUSTER_ID_BYTES),
        table.secret("key", KEY_BYTES),
        tuple(members),
        table.number("replication", 3, 1, REPLICATION_MAX),
        table.number("partitions", PARTITIONS_DEFAULT, 1, PARTITIONS_MAX),
        rules,
        table.number("drift_ms_max", DRIFT_MS_DEFAULT, 1, 60_000),
        table.number("timeout_ms_max", TIMEOUT_MS_DEFAULT, 100, TIMEOUT_MS_MAX),
    )
    table.end()
    _check(config, source)
    return config


def _is_name(name: str) -> bool:
    return bool(name) and name.isprintable() and " " not in name


def _check(config: ClusterConfig, source: str) -> None:
    names = [member.name for member in config.members]
    if not 1 <= len(names) <= MEMBERS_MAX:
        raise ConfigurationError(f"{source}: [[members]] must list 1 to {MEMBERS_MAX} nodes")
    if len(set(names)) < len(names) or not all(map(_is_name, names)):
        raise ConfigurationError(
            f"{source}: [[members]] names must be printable, without spaces, not empty, and differ"
        )
    numbers = Counter(member.number for member in config.members)
    number, times = numbers.most_common(1)[0]
    if times > 1:
        same = " and ".join(member.name for member in config.members if member.number == number)
        raise ConfigurationError(
            f"{source}: two [[members]] have the same number: {same} have {number}; each has its own for life"
        )
    if config.replication > len(names):
        raise ConfigurationError(
            f"{source}: replication = {config.replication} needs as many members; there are {len(names)}"
        )
    for member in config.members:
        try:
            parse_address(member.address)
        except ConfigurationError as error:
            raise ConfigurationError(f"{source}: [[members]] {member.name}: {error}") from None
    if len({member.address for member in config.members}) < len(names):
        raise ConfigurationError(f"{source}: two [[members]] have the same address")
    for name in config.buckets:
        if not 0 < len(name.encode()) <= BUCKET_BYTES_MAX:
            raise ConfigurationError(f"{source}: bucket names have 1 to {BUCKET_BYTES_MAX} bytes")


def _quote(text: str) -> str:
    """A TOML basic string. JSON's are the same, but for surrogate pairs and the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def dump(config: NodeConfig, base: Path | None = None) -> str:
    """The TOML text that `parse` reads back as this configuration, with the same `base` if one is given: a
    directory below it is written relative to it."""
    quote, cluster, directory = _quote, config.cluster, config.directory
    if base is not None and directory.is_relative_to(base.absolute()):
        directory = directory.relative_to(base.absolute())
    lines = [
        "# A node of a basestore cluster. Everything but [node] must be the same on every node.",
        "[cluster]",
        f"id = {quote(cluster.id.hex())}",
        f"key = {quote(cluster.key.hex())}  # secret",
        f"replication = {cluster.replication}",
        f"partitions = {cluster.partitions}  # fixed for life",
        f"drift_ms_max = {cluster.drift_ms_max}",
        f"timeout_ms_max = {cluster.timeout_ms_max}  # of a request; a store that lost data waits as long",
    ]
    for member in cluster.members:
        lines += ["", "[[members]]", f"number = {member.number}  # its for life, and never another's"]
        lines += [f"name = {quote(member.name)}", f"address = {quote(member.address)}"]
        lines += [f"zone = {quote(member.zone)}"] if member.zone else []
    for name, rule in cluster.buckets.items():
        if name not in BUILT_IN:
            lines += ["", f"[buckets.{quote(name)}]", f"rule = {quote(rule.value)}"]
    lines += [
        "",
        "[node]",
        f"name = {quote(config.name)}",
        f"directory = {quote(str(directory))}",
        f"durability = {quote(config.durability)}  # sync, interval or memory",
        f"hint_bytes_max = {config.hint_bytes_max}",
        f"hint_age_s_max = {config.hint_age_s_max}",
        f"read_repair = {config.read_repair}",
        *([f"metrics = {quote(config.metrics)}"] if config.metrics else []),
        *([f"disk_reserve_bytes = {config.disk_reserve_bytes}"] if config.disk_reserve_bytes >= 0 else []),
        "",
    ]
    return "\n".join(lines)
