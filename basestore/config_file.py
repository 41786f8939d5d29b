"""Config file: a node's configuration as TOML: text in, checked values out, and text again.

Refuses words that it does not know, values out of bounds and numbers that are missing, each by file and
setting, and all of them at once. Opens nothing but that file. What the values mean is `config.py`'s.
"""

import json
import math
import tomllib
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, cast, get_args

from basestore.config import (
    BUILT_IN,
    CLUSTER_ID_BYTES,
    DEFERRED_BYTES_DEFAULT,
    DRIFT_MS_DEFAULT,
    HINT_AGE_S_DEFAULT,
    HINT_BYTES_DEFAULT,
    MARKS_BYTES_DEFAULT,
    MEMBERS_MAX,
    NUMBER_MAX,
    PARTITIONS_DEFAULT,
    PARTITIONS_MAX,
    READ_REPAIR_DEFAULT,
    REPLICATION_MAX,
    REQUESTS_MAX_DEFAULT,
    REQUESTS_MAX_MAX,
    REQUESTS_PER_S_MAX,
    RESERVE_UNSET,
    TIMEOUT_MS_DEFAULT,
    UNNUMBERED,
    BucketOptions,
    ClusterConfig,
    Durability,
    Member,
    NodeConfig,
    parse_address,
    parse_member_address,
)
from basestore.errors import ConfigurationError
from basestore.protocol.limits import (
    BUCKET_BYTES_MAX,
    STALE_MS_MAX,
    TIMEOUT_MS_MAX,
    WIRE_HIGHEST,
    WIRE_LOWEST,
)
from basestore.repair.rule import Rule
from basestore.repair.version import KEY_BYTES
from basestore.toml_tables import Mistakes, Table

_RULES = tuple(dict.fromkeys(rule.word for rule in Rule))
WHEN_BUSY = "when-busy"
_DEFER = ("never", WHEN_BUSY)
_NO_FILE = (
    "`basestore up` makes one for each node, DIR/n1.toml and so on (DIR: basestore-data, unless --dir says "
    "otherwise): name one of those, or copy them to where their nodes are to run and correct the addresses"
)


def load(path: Path | str, *, numbered: bool = True) -> NodeConfig:
    """Read a node's TOML file; ConfigurationError that names the file and each setting that is wrong. Not
    `numbered`: members that have no number yet are given one."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file. {_NO_FILE}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    return replace(parse(text, str(path), path.parent, numbered=numbered), file=str(path.absolute()))


def parse(text: str, source: str, base: Path, *, numbered: bool = True) -> NodeConfig:
    """`load` on text; relative directories count from `base`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{source}: not valid TOML: {error}") from error
    mistakes = Mistakes(source)
    top = Table(mistakes, "top level", document)
    table = Table(mistakes, "cluster", top.take("cluster", dict, {}))
    members = _members(top.take("members", list, []), mistakes)
    rules, options = _buckets(top.take("buckets", dict, {}), mistakes)
    cluster = _cluster(table, members, rules)
    config = _node(Table(mistakes, "node", top.take("node", dict, {})), cluster, options, base)
    top.end()
    mistakes.end()
    given = _given_numbers(members)
    _check(config, mistakes)
    if numbered:
        _ask_for_numbers(members, given, mistakes)
    mistakes.end()
    return replace(config, cluster=replace(cluster, members=tuple(given)))


def _node(table: Table, cluster: ClusterConfig, options: dict[str, BucketOptions], base: Path) -> NodeConfig:
    name = table.take("name", str)
    config = NodeConfig(
        cluster,
        name,
        base / table.take("directory", str, name),
        cast("Durability", table.choice("durability", get_args(Durability), "sync")),
        table.number("hint_bytes_max", HINT_BYTES_DEFAULT, 0, math.inf),
        table.number("hint_age_s_max", HINT_AGE_S_DEFAULT, 1, math.inf),
        table.share("read_repair", READ_REPAIR_DEFAULT),
        table.take("metrics", str, ""),
        table.number("disk_reserve_bytes", RESERVE_UNSET, RESERVE_UNSET, math.inf),
        table.number("marks_bytes_max", MARKS_BYTES_DEFAULT, 0, math.inf),
        options,
        table.number("deferred_bytes_max", DEFERRED_BYTES_DEFAULT, 0, math.inf),
        table.take("listen", str, ""),
        table.number("wire_highest", WIRE_HIGHEST, WIRE_LOWEST, WIRE_HIGHEST),
        table.number("requests_max", REQUESTS_MAX_DEFAULT, 1, REQUESTS_MAX_MAX),
    )
    table.end()
    return config


def _members(rows: list[Any], mistakes: Mistakes) -> list[Member]:
    """As they are in the file, some without a number."""
    members = []
    for values in rows:
        row = Table(mistakes, "members", values)
        number = row.number("number", UNNUMBERED, 0, NUMBER_MAX)
        members.append(
            Member(number, row.take("name", str), row.take("address", str), row.take("zone", str, ""))
        )
        row.end()
    return members


def _ask_for_numbers(members: list[Member], given: list[Member], mistakes: Mistakes) -> None:
    """Of a node that runs they are only proposed: files that list the members in another order would come to
    other numbers."""
    lines = "".join(
        f"\n    number = {member.number}    # in the table of {member.name}"
        for member, old in zip(given, members, strict=True)
        if old.number == UNNUMBERED
    )
    if lines:
        mistakes.add(
            f"each of the [[members]] needs a number of its own, for life: its writes and its store are "
            f"known by it, so no other member may ever have it. Add to every node's file:{lines}"
        )


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


def _buckets(tables: dict[str, Any], mistakes: Mistakes) -> tuple[dict[str, Rule], dict[str, BucketOptions]]:
    """The rules of all buckets, those that are built in included; and how this node serves those that have
    options."""
    rules, options = dict(BUILT_IN), {}
    for name, values in tables.items():
        row = Table(mistakes, f"buckets.{name}", values)
        built_in = BUILT_IN.get(name)
        rule = _rule(row, None if built_in is None else built_in.word)
        defer = row.choice("defer", _DEFER, "never") == WHEN_BUSY
        chosen = BucketOptions(
            row.number("degrade_s", 0, 0, STALE_MS_MAX // 1000), defer,
            row.number("requests_per_s", 0, 1, REQUESTS_PER_S_MAX),
            row.number("key_requests_per_s", 0, 1, REQUESTS_PER_S_MAX),
        )  # fmt: skip
        row.end()
        if 0 < chosen.requests_per_s < chosen.key_requests_per_s:
            row.wrong("key_requests_per_s is above requests_per_s, and would never be reached; lower it")
        if chosen != BucketOptions():
            options[name] = chosen
        if defer and rule is not None and not rule.plain:
            row.wrong(f"defer is for buckets where the last write wins; take it out of {name!r}")
        if not 0 < len(name.encode()) <= BUCKET_BYTES_MAX:
            row.wrong(f"bucket names have 1 to {BUCKET_BYTES_MAX} bytes")
        # To declare a built-in bucket as it is does no harm; with another rule its replicas would disagree.
        if rule is not None and rules.setdefault(name, rule) is not rule:
            row.wrong(f"bucket {name!r} is built in with rule {rules[name]}")
    return rules, options


def _rule(row: Table, default: str | None) -> Rule | None:
    """Of a bucket; None if it is wrong."""
    word, agreed = row.choice("rule", _RULES, default), row.take("agreed", bool, False)
    if word not in _RULES:
        return None
    try:
        return Rule.of(word, agreed=agreed)
    except ValueError:
        row.wrong(f"agreed is for rule = 'first-write-wins'; take it out, or the rule {word!r}")
        return None


def _cluster(table: Table, members: list[Member], rules: dict[str, Rule]) -> ClusterConfig:
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
    return config


def _is_name(name: str) -> bool:
    return bool(name) and name.isprintable() and " " not in name


def _check(config: NodeConfig, mistakes: Mistakes) -> None:
    """Whether values that are right, each for itself, go together."""
    cluster, members = config.cluster, config.cluster.members
    names = [member.name for member in members]
    if not 1 <= len(names) <= MEMBERS_MAX:
        mistakes.add(f"[[members]] must list 1 to {MEMBERS_MAX} nodes")
        return
    if len(set(names)) < len(names) or not all(map(_is_name, names)):
        mistakes.add("[[members]] names must be printable, without spaces, not empty, and differ")
    for number, times in Counter(member.number for member in members).items():
        if times > 1 and number != UNNUMBERED:
            same = " and ".join(member.name for member in members if member.number == number)
            mistakes.add(
                f"two [[members]] have the same number: {same} have {number}; each has its own for life"
            )
    if cluster.replication > len(names):
        mistakes.add(
            f"[cluster] replication = {cluster.replication} needs as many members; there are {len(names)}"
        )
    if config.name not in names:
        mistakes.add(f"[node] no member is called {config.name!r}; the cluster has {', '.join(names)}")
    deferring = sorted(name for name, options in config.bucket_options.items() if options.defer)
    if deferring and config.syncs != "always":
        mistakes.add(
            f"[buckets.{deferring[0]}] defer = {WHEN_BUSY!r} needs [node] durability = 'sync', for a "
            f"deferred write is kept by this node alone"
        )
    _check_addresses(config, mistakes)


def _check_addresses(config: NodeConfig, mistakes: Mistakes) -> None:
    members = config.cluster.members
    addresses = [(f"[[members]] {each.name}", each.address, parse_member_address) for each in members]
    if len({member.address for member in members}) < len(members):
        mistakes.add("two [[members]] have the same address")
    if config.metrics:
        addresses.append(("[node] metrics", config.metrics, parse_address))
    if config.listen:
        addresses.append(("[node] listen", config.listen, parse_address))
    for where, address, parse_ in addresses:
        try:
            parse_(address)
        except ConfigurationError as error:
            mistakes.add(f"{where}: {error}")


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
        "# A node of a basestore cluster. Everything must be the same on every node, but for [node], and for",
        "# all but the rule of a bucket. Of the addresses a node tells the others its own.",
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
        options = config.bucket_options.get(name, BucketOptions())
        if name not in BUILT_IN or options != BucketOptions():
            lines += ["", f"[buckets.{quote(name)}]", f"rule = {quote(rule.word)}"]
            lines += ["agreed = true"] if rule.agreed else []
            lines += [f"degrade_s = {options.degrade_s}"] if options.degrade_s else []
            lines += [f"defer = {quote(WHEN_BUSY)}"] if options.defer else []
            for limit in ("requests_per_s", "key_requests_per_s"):
                lines += [f"{limit} = {getattr(options, limit)}"] if getattr(options, limit) else []
    lines += [
        "",
        "[node]",
        f"name = {quote(config.name)}",
        f"directory = {quote(str(directory))}",
        f"durability = {quote(config.durability)}  # sync, interval or memory",
        f"hint_bytes_max = {config.hint_bytes_max}",
        f"hint_age_s_max = {config.hint_age_s_max}",
        f"read_repair = {config.read_repair}",
        *([f"listen = {quote(config.listen)}"] if config.listen else []),
        *([f"wire_highest = {config.wire_highest}"] if config.wire_highest < WIRE_HIGHEST else []),
        *([f"metrics = {quote(config.metrics)}"] if config.metrics else []),
        *([f"disk_reserve_bytes = {config.disk_reserve_bytes}"] if config.disk_reserve_bytes >= 0 else []),
        f"marks_bytes_max = {config.marks_bytes_max}  # of memory; where it is short, writes read the disk",
        f"deferred_bytes_max = {config.deferred_bytes_max}",
        f"requests_max = {config.requests_max}  # of clients under way; what comes beyond waits",
        "",
    ]
    return "\n".join(lines)
