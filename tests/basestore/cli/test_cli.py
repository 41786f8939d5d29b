"""The command line against a cluster in good health: what it prints, and how it ends.

Covers `cli/data/requests.py` and `cli/cluster/status.py`, and of the root of `cli` `options.py`, `exits.py`,
`stores.py` and `completion.py`.
"""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import basestore
from tests.worlds.ports import free_ports
from tests.worlds.shell import COLD, COMMAND, Cluster, cluster, invoke, running

NAMES = (
    "set", "get", "delete", "scan", "increment", "import", "status", "explain", "hints", "serve", "up",
    "demo", "drill", "upgrade", "topology", "bucket", "settings", "node", "completion", "top", "converged",
    "repair", "rebalance", "join",
)  # fmt: skip
RECEIPT = {
    "identity",
    "outcome", "final", "version", "level", "required", "acknowledged", "replicas", "superseded_by", "value",
    "encoding",
    "partition",
    "cluster",
    "because",
}  # fmt: skip
READ = {
    "found", "value", "encoding", "version", "level", "required", "responded", "diverged", "repaired",
}  # fmt: skip
NODE = {"node", "endpoint", "state", "pid", "records", "hints"}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("three") / "data", "--durability", "memory") as started:
        yield started


# --- what is printed -------------------------------------------------------------------------------


def test_a_value_that_was_set_is_got(three: Cluster) -> None:
    stored = three.invoke("set", "greeting", "hello")
    assert stored.code == 0
    assert stored.text.startswith("stored  ")
    got = three.invoke("get", "greeting")
    assert (got.code, got.stdout, got.stderr) == (0, b"hello\n", "")


def test_the_json_of_set_is_the_receipt(three: Cluster) -> None:
    receipt = three.invoke("set", "receipt", "x", "-o", "json", "-c", "all").json
    assert set(receipt) == RECEIPT
    assert receipt["outcome"] == "stored"
    assert (receipt["level"], receipt["required"], receipt["acknowledged"]) == ("all", 3, 3)
    assert receipt["replicas"] == {"n1": "applied", "n2": "applied", "n3": "applied"}
    assert (receipt["final"], receipt["superseded_by"]) == (None, None)
    assert str(basestore.Version.parse(receipt["version"])) == receipt["version"]


def test_the_json_of_delete_is_the_receipt(three: Cluster) -> None:
    three.invoke("set", "deleted", "x")
    receipt = three.invoke("delete", "deleted", "-o", "json").json
    assert set(receipt) == RECEIPT
    assert (receipt["outcome"], receipt["level"], receipt["required"]) == ("stored", "quorum", 2)
    gone = three.invoke("get", "deleted")
    assert (gone.code, gone.stdout) == (1, b"")
    assert "deleted" in gone.stderr


def test_the_json_of_get_tells_what_was_read_and_how(three: Cluster) -> None:
    version = three.invoke("set", "read", "grün", "-o", "json", "-c", "all").json["version"]
    result = three.invoke("get", "read", "-o", "json", "-c", "one").json
    assert set(result) >= READ
    assert (result["found"], result["value"], result["encoding"]) == (True, "grün", "utf8")
    assert (result["version"], result["level"]) == (version, "one")
    assert (result["required"], result["responded"]) == (1, 1)
    assert (result["diverged"], result["repaired"]) == (False, 0)


def test_the_json_of_a_missing_key_is_on_stdout_and_the_code_says_not_found(three: Cluster) -> None:
    missing = three.invoke("get", "missing", "-o", "json")
    assert missing.code == 1
    assert missing.json["found"] is False
    assert missing.json["value"] is None
    assert missing.stderr == ""
    assert "basestore scan" in three.invoke("get", "missing").stderr


def test_the_json_of_status_lists_the_nodes(three: Cluster) -> None:
    states = three.invoke("status", "-o", "json").json
    assert [state["node"] for state in states] == ["n1", "n2", "n3"]
    for number, state in enumerate(states, 1):
        assert set(state) >= NODE
        assert state["endpoint"] == three.endpoint(number)
        assert state["pid"] == three.up.pids[state["node"]]
        assert (state["state"], state["hints"]) == ("up", 0)
        assert isinstance(state["records"], int)


def test_status_prints_a_table(three: Cluster) -> None:
    header, *rows, group = three.invoke("status").text.splitlines()
    assert group.startswith("metadata group: ")
    assert header.split() == ["NODE", "ENDPOINT", "STATE", "RECORDS", "HINTS", "PID"]
    assert [row.split()[:3] for row in rows] == [[f"n{i}", three.endpoint(i), "up"] for i in (1, 2, 3)]


def test_a_second_first_write_is_lost_and_says_to_whom(three: Cluster) -> None:
    first = three.invoke("set", "name", "ada", "--bucket", "once", "-o", "json")
    assert (first.code, first.json["final"]) == (0, False)
    second = three.invoke("set", "name", "bob", "--bucket", "once", "-o", "json")
    assert (second.code, second.json["outcome"]) == (5, "lost")
    assert second.json["superseded_by"] == first.json["version"]
    assert three.invoke("get", "name", "--bucket", "once").stdout == b"ada\n"


def test_an_overtaken_write_is_superseded_not_failed(three: Cluster) -> None:
    old = three.invoke("set", "race", "old", "-o", "json").json["identity"]
    new = three.invoke("set", "race", "new", "-o", "json").json["version"]
    again = three.invoke("set", "race", "old", "--repeat", old)
    assert again.code == 5
    assert "a newer write won" in again.text
    assert "fail" not in again.text + again.stderr
    receipt = three.invoke("set", "race", "old", "--repeat", old, "-o", "json").json
    assert (receipt["outcome"], receipt["superseded_by"]) == ("superseded", new)


def test_a_repeated_write_is_the_same_write(three: Cluster) -> None:
    first = three.invoke("set", "same", "x", "-o", "json").json
    again = three.invoke("set", "same", "x", "--repeat", first["identity"], "-o", "json")
    assert (again.code, again.json["identity"]) == (0, first["identity"])
    for other in (("set", "another", "x"), ("set", "same", "y"), ("delete", "same")):
        refused = three.invoke(*other, "--repeat", first["identity"])
        assert refused.code == 2
        assert "another key, bucket, value or ttl" in refused.stderr


def test_a_write_that_nobody_knows_of_is_not_repeated_by_a_guess(three: Cluster) -> None:
    unknown = three.invoke("set", "unknown", "x", "--repeat", "0123456789abcdef", "-o", "json")
    assert unknown.code == 4
    facts = json.loads(unknown.stderr)
    assert (facts["error"], facts["identity"]) == ("OutcomeUnknown", "0123456789abcdef")
    assert three.invoke("set", "unknown", "x", "--repeat", "0123456789abcdef", "--bucket", "once").code == 0


# --- values and keys -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"", b"\0\xff\n", b"two\nlines\n", "grün 🎈".encode()])
def test_values_from_stdin_and_files_are_kept_to_the_byte(
    three: Cluster, tmp_path: Path, value: bytes
) -> None:
    (tmp_path / "value").write_bytes(value)
    assert three.invoke("set", "stdin", "-", stdin=value).code == 0
    assert three.invoke("set", "file", "--file", str(tmp_path / "value")).code == 0
    for key in ("stdin", "file"):
        assert three.invoke("get", key, "--raw").stdout == value
        assert three.invoke("get", key).stdout == value + b"\n"


def test_a_binary_value_is_base64_in_json(three: Cluster) -> None:
    three.invoke("set", "binary", "-", stdin=b"\0\xff")
    result = three.invoke("get", "binary", "-o", "json").json
    assert (result["value"], result["encoding"]) == ("AP8=", "base64")


def test_keys_and_values_may_be_any_bytes_that_a_shell_can_pass(three: Cluster) -> None:
    key, value = os.fsdecode(b"\xe9t\xe9"), os.fsdecode(b"\xff")
    assert three.invoke("set", key, value).code == 0
    assert three.invoke("get", key, "--raw").stdout == b"\xff"


def test_a_value_that_begins_with_a_dash_goes_behind_two(three: Cluster) -> None:
    assert three.invoke("set", "cold", "--", "-5").code == 0
    assert three.invoke("get", "cold").stdout == b"-5\n"


def test_a_value_that_is_too_long_is_refused(three: Cluster) -> None:
    refused = three.invoke("set", "long", "-", stdin=b"x" * (1 << 20) + b"x")
    assert refused.code == 2
    assert "1048576 bytes" in refused.stderr


def test_a_ttl_takes_the_value_away(three: Cluster) -> None:
    three.invoke("set", "brief", "x", "--ttl", "1ms")
    assert three.invoke("get", "brief").code == 1
    three.invoke("set", "lasting", "x", "--ttl", "2h")
    assert three.invoke("get", "lasting").code == 0


# --- scans -----------------------------------------------------------------------------------------


def test_a_scan_prints_keys_in_order_and_escapes_what_does_not_print(three: Cluster) -> None:
    for key, value in (("scan/b", b"two\nlines"), ("scan/a", b"back\\slash"), ("scan/c", b"\xff\x01")):
        three.invoke("set", key, "-", stdin=value)
    lines = three.invoke("scan", "scan/").text.splitlines()
    assert lines == ["scan/a\tback\\\\slash", "scan/b\ttwo\\nlines", "scan/c\t\\xff\\x01"]
    assert three.invoke("scan", "scan/", "--keys-only").text.split() == ["scan/a", "scan/b", "scan/c"]
    assert three.invoke("scan", "scan/", "--limit", "1", "--keys-only").text.split() == ["scan/a"]
    assert three.invoke("scan", "scan/", "--after", "scan/b", "--keys-only").text.split() == ["scan/c"]


def test_a_scan_as_json_can_be_imported_again(three: Cluster) -> None:
    three.invoke("set", os.fsdecode(b"dump/\xff"), "-", stdin=b"\0\xfe")
    three.invoke("set", "dump/text", "plain")
    dumped = three.invoke("scan", "dump/", "-o", "json")
    fields = json.loads(dumped.text.splitlines()[0])
    assert set(fields) == {"key", "key_encoding", "value", "encoding", "version", "expires_ms"}
    three.invoke("delete", "dump/text")
    three.invoke("delete", os.fsdecode(b"dump/\xff"))
    assert three.invoke("scan", "dump/").stdout == b""
    assert three.invoke("import", "-", stdin=dumped.stdout).code == 0
    assert three.invoke("scan", "dump/").text == "dump/text\tplain\ndump/\\xff\t\\x00\\xfe\n"


def test_a_reader_that_has_seen_enough_ends_a_scan_quietly(three: Cluster, tmp_path: Path) -> None:
    rows = "".join(f'{{"key":"many/{i}","value":"{"x" * 1000}"}}\n' for i in range(500))
    (tmp_path / "many.ndjson").write_text(rows)
    assert three.invoke("import", str(tmp_path / "many.ndjson")).code == 0
    command = ("bash", "-c", 'set -o pipefail; "$@" | head -c 1', "-", *COMMAND)
    seen = invoke("scan", "many/", "-e", three.endpoint(1), command=command)
    assert (seen.code, seen.stdout, seen.stderr) == (0, b"m", "")


# --- which cluster, and how ------------------------------------------------------------------------


def test_endpoints_may_stand_before_and_after_the_subcommand(three: Cluster) -> None:
    dead = f"127.0.0.1:{free_ports(1)}"
    live = three.endpoint(2)
    for arguments in (
        ("-e", live, "set", "k", "v"),
        ("set", "-e", live, "k", "v"),
        ("set", "k", "v", "--endpoint", live),
        ("-e", dead, "set", "k", "v", "-e", live),
        ("-e", live, "set", "k", "v", "-e", dead),
        ("set", "k", "v", "-e", dead, "-e", live),
    ):
        assert invoke(*arguments).code == 0, arguments


@pytest.mark.parametrize("separator", [",", " ", ", "])
def test_the_environment_names_endpoints(three: Cluster, separator: str) -> None:
    both = separator.join((f"127.0.0.1:{free_ports(1)}", three.endpoint(3)))
    assert invoke("status", env={"BASESTORE_ENDPOINTS": both}).code == 0


def test_endpoints_that_are_given_win_over_the_environment(three: Cluster) -> None:
    dead = f"127.0.0.1:{free_ports(1)}"
    env = {"BASESTORE_ENDPOINTS": three.endpoint(1)}
    assert invoke("status", "-e", dead, env=env).code == 6


def test_all_shared_options_may_stand_before_the_subcommand(three: Cluster) -> None:
    result = three.invoke(
        "-o", "json", "-c", "all", "--timeout", "5s", "--bucket", "once", "set", "early", "x"
    )
    assert (result.json["level"], result.json["final"]) == ("all", False)
    later = three.invoke("-c", "all", "get", "early", "--bucket", "once", "-c", "ONE", "-o", "json")
    assert later.json["level"] == "one"


@pytest.mark.parametrize("level", ["any", "one", "quorum", "all"])
def test_writes_take_every_level(three: Cluster, level: str) -> None:
    assert three.invoke("set", "level", level, "-c", level, "-o", "json").json["level"] == level


@pytest.mark.parametrize("duration", ["5s", "9000ms", "9.5s", "0.1m", "5", "9.5"])
def test_durations_have_units_or_are_seconds(three: Cluster, duration: str) -> None:
    assert three.invoke("get", "level", "--timeout", duration).code in (0, 1)


# --- exit codes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("gett",), "--help"),
        (("set", "k"), "--file"),
        (("set", "k", "v", "--file", "/dev/null"), "one value"),
        (("set", "k", "--file", "/no/such/file"), "No such file"),
        (("set", "k", "v", "-c", "most"), "quorum"),
        (("set", "k", "v", "--timeout", "5x"), "5s, 200ms or 2m, at most 600s"),
        (("set", "k", "v", "--ttl", "5x"), "5s, 200ms, 10m, 2h or 7d"),
        (("set", "k", "v", "--timeout", "11"), "at most 10 s"),
        (("get", "k", "-e", "http://127.0.0.1:7400"), "write host:port, as in"),
        (("set", "k", "v", "--if-absent", "--if-value", "w"), "Give one condition: --if-absent, --if-vers"),
        (("set", "k", "v", "--if-version", "1-2-3", "--if-value", "w"), "Give one condition"),
        (("set", "k", "v", "--if-version", "latest"), "'latest' is not a version; one looks like"),
        (("set", "k", "v", "--if-absent", "--defer"), "give up one of the two"),
        (("delete", "k", "--if-version", "latest"), "'latest' is not a version; one looks like"),
        (("increment", "k", "--by", "much"), "is not a valid integer"),
        (("increment", "k", "--by", "-1000000000000000000"), "of at most 18 digits, not -1000"),
        (("increment", "k", "-c", "all"), "-c"),
        (("set", "k", "v", "--timeout", "-5s"), "5s, 200ms"),
        (("set", "k", "v", "--timeout", "1h"), "at most"),
        (("set", "", "v"), "1 to 65536"),
        (("set", "k", "v", "--repeat", "nonsense"), "one looks like"),
        (("set", "k", "v", "--bucket", "nope"), "default, once"),
        (("set", "k", "v", "--bucket", "once", "--ttl", "5s"), "first-write-wins"),
        (("delete", "k", "--bucket", "once"), "first-write-wins"),
        (("get", "k", "-c", "any"), "one, quorum, all or serial"),
        (("get", "k", "-e", "nonsense"), "host:port"),
        (("get", "k", "-e", ""), "host:port"),
        (("scan", "--limit", "0"), "--limit"),
        (("import", "/no/such/file"), "does not exist"),
        (("serve", "--config", "/no/such/file"), "`basestore up` makes one"),
        (("up", "--nodes", "0"), "--nodes"),
        (("completion", "tcsh"), "fish"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_right(
    three: Cluster, arguments: tuple[str, ...], hint: str
) -> None:
    refused = three.invoke(*arguments)
    assert refused.code == 2, refused.stderr
    assert hint in refused.stderr
    assert refused.stdout == b""
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("command", [("get", "k"), ("set", "k", "v"), ("status",), ("scan",)])
def test_without_a_node_the_code_is_6(command: tuple[str, ...]) -> None:
    refused = invoke(*command, "-e", f"127.0.0.1:{free_ports(1)}")
    assert (refused.code, refused.stdout) == (6, b"")
    assert "Check that they run" in refused.stderr


def test_a_program_that_is_no_node_is_not_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with running("get", "k", "-e", f"127.0.0.1:{port}") as client:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                assert client.end() == 6
    assert "Check that they run" in "\n".join(client.stderr)


def test_an_interrupted_write_ends_with_130_and_says_that_it_may_have_happened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with running("set", "k", "v", "-e", f"127.0.0.1:{port}") as client:
            connection, _ = server.accept()
            with connection:
                assert client.end(signal.SIGINT) == 130
    assert "may have happened" in "\n".join(client.stderr)
    assert not any("Traceback" in line for line in client.stderr)


def test_output_that_cannot_be_written_is_an_error(three: Cluster) -> None:
    command = ("bash", "-c", '"$@" > /dev/full', "-", *COMMAND)
    failed = invoke("scan", "-e", three.endpoint(1), command=command)
    assert failed.code == 3
    assert "No space left" in failed.stderr
    assert "Traceback" not in failed.stderr


# --- the command itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *NAMES])
def test_every_command_has_help(command: str) -> None:
    shown = invoke(*command.split(), "--help", command=COLD)
    assert shown.code == 0
    assert shown.text.startswith(f"Usage: basestore {command}".rstrip())
    if not command:
        assert all(name in shown.text for name in NAMES)
        assert "127.0.0.1:7400" in shown.text
        assert "130  interrupted" in shown.text


def test_the_version_is_shown() -> None:
    assert basestore.__version__ in invoke("--version").text


@pytest.mark.parametrize(
    "command",
    [("set", "light", "x"), ("get", "light"), ("delete", "light"), ("scan",), ("status",)],
)
def test_a_request_imports_no_event_loop(three: Cluster, command: tuple[str, ...]) -> None:
    python = (COMMAND[0], "-X", "importtime", "-m", "basestore")
    result = invoke(*command, "-e", three.endpoint(1), command=python)
    assert result.code in (0, 1)
    imported = {line.split("|")[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert "basestore" in imported
    assert not imported & {"trio", "anyio", "asyncio", "rocksdict"}


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete"), ("zsh", "compdef"), ("fish", "complete")])
def test_shells_get_a_completion_script(shell: str, word: str) -> None:
    script = invoke("completion", shell)
    assert script.code == 0
    assert word in script.text
    assert "_BASESTORE_COMPLETE" in script.text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("basestore se", {"set", "serve", "settings"}),
        ("basestore get -c q", {"quorum"}),
        ("basestore set -c s", {"serial"}),
        ("basestore inc", {"increment"}),
        ("basestore set --if", {"--if-absent", "--if-version", "--if-value"}),
        ("basestore increment --b", {"--by", "--bucket"}),
        ("basestore bucket create --rule r", {"register"}),
        ("basestore bucket create --a", {"--agreed"}),
        ("basestore up --du", {"--durability"}),
    ],
)
def test_commands_options_and_levels_are_completed(words: str, expected: set[str]) -> None:
    env = {
        "_BASESTORE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    offered = {line.partition(",")[2] for line in invoke(env=env).text.splitlines()}
    assert offered == expected


def test_an_error_in_json_names_its_type_and_whether_it_is_definite() -> None:
    done = invoke("-e", "127.0.0.1:1", "get", "k", "-o", "json")
    assert done.code == 6
    facts = json.loads(done.stderr)
    assert (facts["error"], facts["definite"], facts["version"]) == ("Unreachable", True, None)
    assert "127.0.0.1:1" in facts["message"]


def test_as_is_says_so_and_fails_where_no_store_waits_for_it(three: Cluster) -> None:
    told = three.invoke("repair", "--as-is")
    assert (told.code, told.stdout) == (3, b"nothing was taken as it is\n")
    assert "No store that answers waits for this word" in told.stderr
