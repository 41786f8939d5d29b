"""Configurations: what is read back is what was written, and every mistake is named."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.cluster.placement import Placement
from basestore.config import (
    BUILT_IN,
    BucketOptions,
    ClusterConfig,
    Member,
    NodeConfig,
    parse_address,
    parse_member_address,
)
from basestore.config_file import dump, load, parse
from basestore.errors import ConfigurationError
from basestore.protocol.handshake import differences
from basestore.protocol.limits import WIRE_HIGHEST, WIRE_LOWEST
from basestore.repair.rule import Rule
from basestore.toml_tables import MISTAKES_SHOWN
from tests.worlds.configurations import GOOD, ID, KEY, read

IN_FILES = [rule for rule in Rule if not rule.serial]


def test_what_is_left_out_has_defaults() -> None:
    config = read(GOOD)
    assert (config.name, config.directory, config.durability) == ("n1", Path("/base/n1"), "sync")
    assert (config.cluster.replication, config.cluster.partitions) == (3, 64)
    assert config.cluster.buckets == BUILT_IN
    assert config.cluster.drift_ms_max == 2000
    assert config.member == Member(0, "n1", "127.0.0.1:7400")
    assert config.cluster.members[2] == Member(7, "n3", "[::1]:7402", "b")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("[cluster]", "[cluster", "n1.toml: not valid TOML"),
        ("[cluster]", "cluster = 1\n[other]", "cluster = 1 must be of type dict"),
        ("[cluster]", "[clusters]", "[cluster] lacks 'id'"),
        ("[node]", "[nodes]", "[top level] has unknown settings: nodes"),
        (f'id = "{ID}"', "", "[cluster] lacks 'id'"),
        (f'id = "{ID}"', 'id = "xyz"', "[cluster] id must be 32 hexadecimal digits"),
        (f'id = "{ID}"', 'id = "00"', "[cluster] id must be 32 hexadecimal digits"),
        (f'id = "{ID}"', "id = 5", "[cluster] id = 5 must be of type str"),
        (f'key = "{KEY}"', "", "[cluster] lacks 'key'"),
        (f'key = "{KEY}"', 'key = "11"', "[cluster] key must be 64 hexadecimal digits"),
        ("[[members]]", "replication = 0\n[[members]]", "replication = 0 must lie between 1 and 15"),
        ("[[members]]", "replication = 16\n[[members]]", "replication = 16 must lie between 1 and 15"),
        ("[[members]]", "replication = 4\n[[members]]", "replication = 4 needs as many members; there are 3"),
        ("[[members]]", "replication = true\n[[members]]", "replication = True must be of type int"),
        ("[[members]]", 'replication = "3"\n[[members]]', "must be of type int"),
        ("[[members]]", "replication = 3.0\n[[members]]", "must be of type int"),
        ("[[members]]", "partitions = 0\n[[members]]", "partitions = 0 must lie between 1 and 4096"),
        ("[[members]]", "partitions = 4097\n[[members]]", "partitions = 4097 must lie between"),
        ("[[members]]", "drift_ms_max = 0\n[[members]]", "drift_ms_max = 0 must lie between"),
        ("[[members]]", "drift_ms_max = 60001\n[[members]]", "drift_ms_max = 60001 must lie between"),
        ("[[members]]", "replicas = 3\n[[members]]", "[cluster] has unknown settings: replicas"),
        ("number = 3", "number = 0", "two [[members]] have the same number: n1 and n2 have 0"),
        ("number = 3", "number = 65535", "[members] number = 65535 must lie between 0 and"),
        ("number = 3", "number = -1", "[members] number = -1 must lie between 0 and"),
        ("number = 3", 'number = "3"', "[members] number = '3' must be of type int"),
        ('name = "n2"', "", "[members] lacks 'name'"),
        ('name = "n2"', "name = 2", "[members] name = 2 must be of type str"),
        ('name = "n2"', 'name = "n1"', "names must be printable, without spaces"),
        ('name = "n2"', 'name = ""', "names must be printable, without spaces"),
        ('name = "n2"', 'name = "n\\u0007"', "names must be printable, without spaces"),
        ('address = "127.0.0.1:7401"', "", "[members] lacks 'address'"),
        ('address = "127.0.0.1:7401"', 'address = "127.0.0.1:7400"', "two [[members]] have the same address"),
        ('address = "127.0.0.1:7401"', 'address = "localhost"', "'localhost' is not an address"),
        ('zone = "b"', "zone = 1", "[members] zone = 1 must be of type str"),
        ('zone = "b"', 'rack = "b"', "[members] has unknown settings: rack"),
        ("[node]", "[buckets.x]\n[node]", "[buckets.x] lacks 'rule'"),
        ("[node]", '[buckets.x]\nrule = "best"\n[node]', "use last-write-wins, first-write-wins or register"),
        ("[node]", '[buckets.x]\nrule = "first-write-wins-agreed"\n[node]', "use last-write-wins, first"),
        ("[node]", '[buckets.x]\nrule = "register"\nagreed = true\n[node]', "take it out, or the rule 'r"),
        ("[node]", '[buckets.x]\nrule = "first-write-wins"\nagreed = 1\n[node]', "agreed = 1 must be of"),
        ("[node]", "[buckets.once]\nagreed = true\n[node]", "'once' is built in with rule first-write-wins"),
        ("[node]", "[buckets]\nx = 1\n[node]", "[buckets.x] is missing or not a table"),
        ("[node]", '[buckets.x]\nrule = "last-write-wins"\nttl = 1\n[node]', "has unknown settings: ttl"),
        ("[node]", '[buckets.once]\nrule = "last-write-wins"\n[node]', "bucket 'once' is built in with rule"),
        ("[node]", '[buckets.x]\nrule = "last-write-wins"\ndegrade_s = -1\n[node]', "degrade_s = -1 must"),
        ("[node]", "[buckets.default]\ndegrade_s = 1.5\n[node]", "degrade_s = 1.5 must be of type int"),
        ("[node]", "[buckets.default]\ndegrade_s = 99999999\n[node]", "must lie between 0 and 31536000"),
        ("[node]", "[buckets.once]\nrequests_per_s = 0\n[node]", "requests_per_s = 0 must lie between 1 and"),
        ("[node]", "[buckets.once]\nrequests_per_s = -5\n[node]", "requests_per_s = -5 must lie between 1"),
        ("[node]", "[buckets.once]\nrequests_per_s = 1000001\n[node]", "must lie between 1 and 1000000"),
        ("[node]", "[buckets.once]\nrequests_per_s = '9'\n[node]", "requests_per_s = '9' must be of type"),
        ("[node]", "[buckets.once]\nkey_requests_per_s = 0\n[node]", "key_requests_per_s = 0 must lie"),
        ("[node]", "[buckets.once]\nkey_requests_per_s = true\n[node]", "key_requests_per_s = True must"),
        (
            "[node]", "[buckets.once]\nrequests_per_s = 9\nkey_requests_per_s = 10\n[node]",
            "[buckets.once] key_requests_per_s is above requests_per_s",
        ),
        ("[node]", '[buckets.""]\nrule = "last-write-wins"\n[node]', "bucket names have 1 to 64 bytes"),
        ("[node]", f'[buckets.{"x" * 65}]\nrule = "last-write-wins"\n[node]', "bucket names have 1 to 64"),
        ("[node]", '[buckets.default]\ndefer = "always"\n[node]', "defer = 'always'; use never or when-busy"),
        ("[node]", '[buckets.once]\ndefer = "when-busy"\n[node]', "for buckets where the last write wins"),
        ("[node]", '[buckets.x]\nrule = "register"\ndefer = "when-busy"\n[node]', "where the last write"),
        (
            "[node]", '[buckets.default]\ndefer = "when-busy"\n[node]\ndurability = "memory"',
            "[buckets.default] defer = 'when-busy' needs [node] durability = 'sync'",
        ),
        ("[node]", "[node]\ndeferred_bytes_max = -1", "deferred_bytes_max = -1 must be 0 or more"),
        ('[node]\nname = "n1"', "[node]", "[node] lacks 'name'"),
        ('[node]\nname = "n1"', '[node]\nname = "n4"', "no member is called 'n4'; the cluster has n1, n2"),
        ("[node]", '[node]\ndurability = "never"', "durability = 'never'; use sync, interval or memory"),
        ("[node]", "[node]\ndirectory = 1", "directory = 1 must be of type str"),
        ("[node]", "[node]\nhint_bytes_max = -1", "hint_bytes_max = -1 must be 0 or more"),
        ("[node]", "[node]\nlisten = 7400", "listen = 7400 must be of type str"),
        ("[node]", "[node]\nwire_highest = 7", "[node] wire_highest = 7 must lie between 8 and"),
        ("[node]", f"[node]\nwire_highest = {WIRE_HIGHEST + 1}", f"must lie between 8 and {WIRE_HIGHEST}"),
        ("[node]", "[node]\nport = 1", "[node] has unknown settings: port"),
    ],
)  # fmt: skip
def test_every_mistake_is_named(old: str, new: str, text: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigurationError) as wrong:
        read(GOOD.replace(old, new, 1))
    assert text in str(wrong.value)


def test_all_mistakes_are_named_at_once() -> None:
    text = GOOD.replace(f'key = "{KEY}"', "replication = 16").replace("number = 3", "number = -1")
    text = text.replace('zone = "b"', 'rack = "b"') + 'durability = "never"\nread_repair = 2\n'
    with pytest.raises(ConfigurationError) as wrong:
        read(text)
    assert str(wrong.value).splitlines() == [
        "n1.toml: [members] number = -1 must lie between 0 and 65534",
        "    [members] has unknown settings: rack; remove or correct them",
        "    [cluster] lacks 'key'",
        "    [cluster] replication = 16 must lie between 1 and 15",
        "    [node] durability = 'never'; use sync, interval or memory",
        "    [node] read_repair = 2 must lie between 0 and 1",
    ]


def test_all_that_does_not_go_together_is_named_at_once() -> None:
    text = GOOD.replace('name = "n2"', 'name = "n3"').replace("127.0.0.1:7401", "localhost")
    with pytest.raises(ConfigurationError) as wrong:
        read(text.replace("number = 7", "number = 3") + 'metrics = "here"\nlisten = "there"\n')
    told = str(wrong.value)
    assert all(
        text in told
        for text in ("and differ", "have 3", "'localhost' is not", "metrics: 'here' is", "listen: 'there' is")
    )


def test_of_very_many_mistakes_some_are_named_and_all_are_counted() -> None:
    members = "".join(f'[[members]]\nnumber = {n}\nname = 0\naddress = "a:1"\n' for n in range(1000))
    with pytest.raises(ConfigurationError, match=f"and {1000 - MISTAKES_SHOWN} more mistakes") as wrong:
        read(f'[cluster]\nid = "{ID}"\nkey = "{KEY}"\n{members}[node]\nname = "n1"\n')
    assert len(str(wrong.value)) < 2000


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ("", "must list 1 to 1000 nodes"),
        ("members = []", "must list 1 to 1000 nodes"),
        ("members = 5", "members = 5 must be of type list"),
        ("members = [5]", "[members] is missing or not a table"),
    ],
)
def test_a_list_of_members_is_needed(members: str, text: str) -> None:
    text_of_file = f'{members}\n[cluster]\nid = "{ID}"\nkey = "{KEY}"\nreplication = 1\n[node]\nname = "n1"\n'
    with pytest.raises(ConfigurationError) as wrong:
        read(text_of_file)
    assert text in str(wrong.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing.toml: there is no such file. `basestore up` "):
        load(tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigurationError, match=r"latin.toml: cannot be read"):
        load(str(tmp_path / "latin.toml"))
    (tmp_path / "n1.toml").write_text(GOOD)
    assert load(tmp_path / "n1.toml").directory == tmp_path / "n1"


# --- there and back ------------------------------------------------------------------------------

printable = st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable() and " " not in text)
zones = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
ports = st.integers(1, 65535)


@st.composite
def node_configs(draw: st.DrawFn) -> NodeConfig:
    names = draw(st.lists(printable, min_size=1, max_size=5, unique=True))
    numbers = draw(st.lists(st.integers(0, 65534), min_size=len(names), max_size=len(names), unique=True))
    addresses = draw(st.lists(ports, min_size=len(names), max_size=len(names), unique=True))
    members = tuple(
        Member(number, name, f"host:{port}", draw(zones))
        for number, name, port in zip(numbers, names, addresses, strict=True)
    )
    names_of_buckets = zones.filter(lambda name: name and name not in BUILT_IN)
    buckets = BUILT_IN | draw(st.dictionaries(names_of_buckets, st.sampled_from(IN_FILES), max_size=3))
    cluster = ClusterConfig(
        draw(st.binary(min_size=16, max_size=16)),
        draw(st.binary(min_size=32, max_size=32)),
        members,
        draw(st.integers(1, len(names))),
        draw(st.integers(1, 4096)),
        buckets,
        draw(st.integers(1, 60_000)),
    )
    limits = st.tuples(st.integers(0, 1_000_000), st.integers(0, 9)).filter(
        lambda two: two[0] > 9 or (two[1] and not two[0])
    )
    limited = draw(st.dictionaries(st.sampled_from(sorted(buckets)), limits))
    degrades = draw(st.dictionaries(st.sampled_from(sorted(buckets)), st.integers(1, 31_536_000)))
    directory = Path("/") / draw(zones.filter(lambda part: "\0" not in part))
    durability = draw(st.sampled_from(["sync", "interval", "memory"]))
    deferring = [name for name, rule in buckets.items() if durability == "sync" and rule.plain]
    defers = draw(st.sets(st.sampled_from(deferring), max_size=2)) if deferring else set()
    return NodeConfig(
        cluster, draw(st.sampled_from(names)), directory, durability,  # type: ignore[arg-type]
        draw(st.integers(0, 1 << 40)),
        bucket_options={
            name: BucketOptions(degrades.get(name, 0), name in defers, *limited.get(name, (0, 0)))
            for name in degrades.keys() | defers | limited.keys()
        },
        deferred_bytes_max=draw(st.integers(0, 1 << 40)),
        listen=draw(st.sampled_from(["", "0.0.0.0:7400", "[::]:7400"])),
        wire_highest=draw(st.integers(WIRE_LOWEST, WIRE_HIGHEST)),
    )  # fmt: skip


def test_writes_of_a_bucket_may_be_agreed_on() -> None:
    declared = '[buckets.x]\nrule = "register"\n[buckets.y]\nrule = "first-write-wins"\nagreed = true\n'
    plain = '[buckets.x]\nrule = "register"\n[buckets.y]\nrule = "first-write-wins"\nagreed = false\n'
    config, other = (read(GOOD.replace("[node]", f"{each}[node]")) for each in (declared, plain))
    assert config.cluster.buckets == BUILT_IN | {"x": Rule.REGISTER, "y": Rule.FIRST_WRITE_AGREED}
    assert other.cluster.buckets == BUILT_IN | {"x": Rule.REGISTER, "y": Rule.FIRST_WRITE_WINS}
    told = differences(config.cluster.canonical(), other.cluster.canonical())
    assert told == ["bucket y: first-write-wins-agreed here, first-write-wins there"]


def test_what_a_bucket_has_beside_its_rule_is_the_nodes_own() -> None:
    declared = '[buckets.x]\nrule = "last-write-wins"\n'
    options = "degrade_s = 60\nkey_requests_per_s = 7\n[buckets.default]\ndegrade_s = 5\nrequests_per_s = 9\n"
    ours = read(GOOD.replace("[node]", f"{declared}{options}[node]"))
    theirs = read(GOOD.replace("[node]", f"{declared}[node]"))
    assert ours.bucket_options == {
        "x": BucketOptions(60, key_requests_per_s=7),
        "default": BucketOptions(5, requests_per_s=9),
    }
    assert theirs.bucket_options == {}
    assert ours.cluster == theirs.cluster
    assert ours.cluster.digest == theirs.cluster.digest
    assert ours.cluster.binding() == theirs.cluster.binding()


@given(node_configs())
def test_what_was_dumped_is_parsed_back(config: NodeConfig) -> None:
    assert parse(dump(config), "x", Path("/elsewhere")) == config


@given(node_configs())
def test_a_file_is_read_back_whatever_is_in_it(tmp_path_factory: Any, config: NodeConfig) -> None:
    path = tmp_path_factory.getbasetemp() / "round.toml"
    path.write_text(dump(config), encoding="utf-8")
    assert load(path) == config


def placeless(cluster: ClusterConfig) -> ClusterConfig:
    """Whatever the addresses of its members are."""
    return replace(cluster, members=tuple(replace(member, address="") for member in cluster.members))


@given(node_configs(), node_configs())
def test_digests_are_equal_exactly_when_the_configurations_are_but_for_addresses(
    a: NodeConfig, b: NodeConfig
) -> None:
    agree = placeless(a.cluster) == placeless(b.cluster)
    assert (a.cluster.digest == b.cluster.digest) == agree
    assert a.cluster.digest == parse(dump(a), "x", Path()).cluster.digest


@given(node_configs(), node_configs())
def test_differences_are_told_exactly_when_there_are_any(a: NodeConfig, b: NodeConfig) -> None:
    ours, theirs = a.cluster.canonical(), b.cluster.canonical()
    assert differences(ours, ours) == []
    assert bool(differences(ours, theirs)) == (ours != theirs)


def test_differences_name_what_differs_and_keep_the_key_secret() -> None:
    ours = read(GOOD).cluster
    theirs = read(
        GOOD.replace("[[members]]", "replication = 2\n[[members]]", 1)
        .replace("7401", "7500")
        .replace(KEY, "22" * 32)
        .replace('name = "n2"', 'name = "n2"\nzone = "east"')
        .replace("[node]", '[buckets.x]\nrule = "last-write-wins"\n[node]')
    ).cluster
    told = differences(ours.canonical(), theirs.canonical())
    assert "replication: 3 here, 2 there" in told
    assert "member 3: n2 zone='' here, n2 zone='east' there" in told
    assert "bucket x: absent here, last-write-wins there" in told
    assert [line.split(":")[0] for line in told] == ["bucket x", "cluster key", "member 3", "replication"]
    for text in (ours.canonical(), str(told), repr(ours), repr(read(GOOD))):
        assert KEY not in text
        assert repr(bytes.fromhex(KEY)) not in text


def test_of_addresses_nodes_need_not_agree() -> None:
    ours, theirs = read(GOOD).cluster, read(GOOD.replace("7401", "7500")).cluster
    assert ours.members != theirs.members
    assert ours.digest == theirs.digest


def test_the_key_of_proofs_follows_from_the_key_and_is_not_it() -> None:
    ours, theirs = read(GOOD).cluster, read(GOOD.replace(KEY, "22" * 32)).cluster
    assert ours.proof_key == read(GOOD.replace(ID, "33" * 16)).cluster.proof_key
    assert len({ours.proof_key, theirs.proof_key, ours.key, theirs.key}) == 4
    assert repr(ours.proof_key) not in repr(ours)


@pytest.mark.parametrize("theirs", ["", "nonsense", "[]", "5", "null", "[" * 60_000], ids=range(6))
def test_what_is_no_configuration_is_said_to_be_unreadable(theirs: str) -> None:
    assert differences(read(GOOD).cluster.canonical(), theirs) == [
        "the other side's configuration is not readable"
    ]


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:7400", ("127.0.0.1", 7400)),
        ("localhost:1", ("localhost", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
        ("[::ffff:10.0.0.1]:80", ("::ffff:10.0.0.1", 80)),
        ("a.b.example:80", ("a.b.example", 80)),
    ],
)
def test_addresses(address: str, parts: tuple[str, int]) -> None:
    assert parse_address(address) == parts


@pytest.mark.parametrize(
    "address",
    [
        "",
        ":1",
        "host",
        "host:",
        "host:0",
        "host:65536",
        "host:-1",
        "host:1x",
        "host:\u0661",
        "user@host:1",
        "http://host",
        "http://host:7400",
        "host:7400/",
        "::1",
        "::1:7400",
        "[host]:1",
        "[]:1",
        "a b:1",
    ],
)
def test_what_is_no_address_is_refused_with_the_form(address: str) -> None:
    with pytest.raises(ConfigurationError, match="write host:port, as in"):
        parse_address(address)


@pytest.mark.parametrize(
    "host",
    [
        "n3..example.org",
        ".example.org",
        ".",
        "x" * 64 + ".example.org",
        "\xf6" * 60,
        "x." * 127 + "x",
        "n\x003",
        "n\x1b3",
        "n\u200b3",
        "\ud800",
    ],
)
def test_the_name_of_a_host_that_nobody_can_look_up_is_no_address(host: str) -> None:
    with pytest.raises(ConfigurationError, match="correct the name, or write an IP address"):
        parse_address(f"{host}:7400")


@pytest.mark.parametrize("host", ["0.0.0.0", "0", "[::]", "[0::0]", "[::%eth0]"])
def test_where_a_node_listens_on_all_interfaces_nobody_reaches_it_and_listen_is_advised(host: str) -> None:
    assert parse_address(f"{host}:7400")
    with pytest.raises(ConfigurationError, match="write it as `listen` under"):
        parse_member_address(f"{host}:7400")
    text = GOOD.replace("127.0.0.1:7401", f"{host}:7400")
    assert text != GOOD
    with pytest.raises(ConfigurationError, match="write it as `listen` under"):
        read(text)


def test_the_order_of_members_in_the_file_means_nothing() -> None:
    config = read(GOOD).cluster
    turned = ClusterConfig(config.id, config.key, config.members[::-1])
    assert turned == config
    assert turned.digest == config.digest
    assert Placement.of(turned).replicas == Placement.of(config).replicas


def test_members_without_numbers_are_refused_with_the_lines_to_add() -> None:
    unnumbered = re.sub("number = .*", "", GOOD)
    with pytest.raises(ConfigurationError) as wrong:
        read(unnumbered)
    lines = [line.strip().split("  ")[0] for line in str(wrong.value).splitlines()[1:]]
    assert [line for line in str(wrong.value).splitlines()[1:] if "n2" in line]
    added = unnumbered
    for name, line in zip(("n1", "n2", "n3"), lines, strict=True):
        added = added.replace(f'[[members]]\n\nname = "{name}"', f'[[members]]\n{line}\nname = "{name}"')
    assert [member.number for member in read(added).cluster.members] == [0, 1, 2]
    assert parse(unnumbered, "n1.toml", Path("/base"), numbered=False) == read(added)


def test_a_member_that_joins_is_offered_a_number_that_nobody_had() -> None:
    with pytest.raises(ConfigurationError, match=r"number = 8 .*n2") as wrong:
        read(GOOD.replace("number = 3", ""))
    assert "n1" not in str(wrong.value).splitlines()[1]


def test_where_the_greatest_number_is_taken_the_least_free_ones_are_proposed() -> None:
    text = re.sub("number = 3", "", GOOD).replace("number = 0", "number = 65534", 1)
    with pytest.raises(ConfigurationError, match=r"number = 0 "):
        read(text)
    numbers = [member.number for member in parse(text, "n1.toml", Path(), numbered=False).cluster.members]
    assert numbers == sorted({*numbers})
    assert 65534 in numbers
