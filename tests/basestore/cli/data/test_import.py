"""`basestore import`: what files may hold, what is counted, and how an import goes on.

Covers `cli/data/importing.py`, `rows.py` and `checkpoint.py`.
"""

import base64
import csv
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import basestore
import basestore.sync
from basestore.cli.data.checkpoint import Checkpoint, Failed, Progress, identity
from basestore.cli.data.rows import START, Columns, Malformed, Position, Row, read_csv, read_ndjson
from tests.worlds.door import door
from tests.worlds.patience import eventually
from tests.worlds.shell import COMMAND, Cluster, Finished, cluster, invoke, running

COUNTS = ("stored", "superseded", "lost", "failed", "malformed")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("three") / "data", "--durability", "memory") as started:
        yield started


def _counts(result: Finished) -> dict[str, int]:
    return {name: count for name in COUNTS if (count := result.json[name])}


def _ndjson(path: Path, prefix: str, count: int) -> Path:
    path.write_text("".join(f'{{"key":"{prefix}{i:06}","value":"{i}"}}\n' for i in range(count)))
    return path


def _progress(path: Path) -> dict[str, object] | None:
    try:
        loaded: dict[str, object] = json.loads((path.parent / f"{path.name}.basestore-progress").read_text())
    except FileNotFoundError:
        return None
    return loaded


# --- what files may hold ---------------------------------------------------------------------------


def test_ndjson_values_are_text_bytes_or_any_json(three: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"key": "v/text", "value": "grün"}\n'
        '{"key": "v/json", "value": {"a": [1, 2.5, null, "ü"]}}\n'
        "\n"
        '{"key": "v/null", "value": null}\n'
        '{"key": "v/bytes", "value": "AP8=", "encoding": "base64"}\n'
        '{"key": "di//", "key_encoding": "base64", "value": ""}'
    )
    result = three.invoke("import", str(file), "-o", "json")
    assert (result.code, _counts(result)) == (0, {"stored": 5})
    assert result.json["complete"] is True
    assert three.invoke("get", "v/text").text == "grün\n"
    assert three.invoke("get", "v/json").text == '{"a":[1,2.5,null,"ü"]}\n'
    assert three.invoke("get", "v/null").text == "null\n"
    assert three.invoke("get", "v/bytes", "--raw").stdout == b"\0\xff"
    assert three.invoke("get", os.fsdecode(b"v/\xff"), "--raw").stdout == b""


def test_malformed_lines_are_counted_and_named(three: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_bytes(
        b'{"key": "m/1", "value": 1}\nnonsense\n[]\n{"key": 1, "value": 1}\n{"key": "a"}\n'
        b'{"key": "", "value": 1}\n{"key": "a", "value": NaN}\n{"key": "a\xff", "value": 1}\n'
        b'{"key": "a", "value": "?", "encoding": "base64"}\n' + b"[" * 100_000 + b"\n"
        b'{"key": "m/2", "value": 2}\n'
    )
    result = three.invoke("import", str(file))
    assert (result.code, result.text) == (3, "2 stored, 0 superseded, 0 lost, 0 failed, 9 malformed\n")
    for line in range(2, 11):
        assert f"line {line}: " in result.stderr
    assert "Correct them, and import them from a file of their own" in result.stderr
    assert three.invoke("scan", "m/").text == "m/1\t1\nm/2\t2\n"
    assert _progress(file) is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"key": "a", "value": }', "character 23 a value is missing"),
        ('{key: "a"}', "character 2 a name in double quotes is missing"),
        ('{"key" "a"}', 'character 8 a ":" is missing'),
        ('{"key": "a" "value": 1}', 'character 13 a "," or the closing bracket is missing'),
        ('{"key": "a", "value": "\t"}', "character 24 a control character stands in a string"),
        ('{"key": "a", "value": "\\q"}', "character 24 a backslash stands before what it cannot escape"),
        ('{"key": "a", "value": 1} {}', "character 26 something follows the object"),
        ('{"key": "a", "value": "x', "it ends before its JSON object does"),
        ("nonsense", 'not a JSON object; write one object a line, as {"key": "k", "value": "v"}'),
        ("7", 'it is JSON, but no object; write one object a line, as {"key": "k", "value": "v"}'),
        ('{"value": 1}', 'it has no "key"; write one object a line'),
        ('{"key": "a", "value": "?", "encoding": "base64"}', "encoding says base64, and it is not"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_in_words(line: str, reason: str) -> None:
    (malformed,) = read_ndjson(io.BytesIO(line.encode() + b"\n"))
    assert isinstance(malformed, Malformed)
    assert reason in malformed.reason


def test_only_the_first_malformed_lines_are_shown(three: Cluster) -> None:
    result = three.invoke("import", "-", "-o", "json", stdin=b"x\n" * 1000)
    assert _counts(result) == {"malformed": 1000}
    assert "line 10: " in result.stderr
    assert "line 11: " not in result.stderr


def test_csv_rows_become_json_or_one_column(three: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_bytes(b'\xef\xbb\xbfid,name,note\r\nc/1,"Ada\r\nLovelace",""\r\n\r\nc/2,"a ""b""",x\r\n')
    assert three.invoke("import", str(file), "--key", "id").code == 0
    assert json.loads(three.invoke("get", "c/1").text) == {
        "id": "c/1", "name": "Ada\r\nLovelace", "note": "",
    }  # fmt: skip
    assert three.invoke("import", str(file), "--key", "id", "--value", "name").code == 0
    assert three.invoke("get", "c/2").text == 'a "b"\n'


def test_malformed_csv_rows_are_counted_and_named(three: Cluster) -> None:
    rows = b'id,v\nx/1,a\nx/2\nx/3,"b"c\nx/4,\xff\n,e\nx/5,f\nx/6,"open\nx/7,g\n'
    result = three.invoke("import", "-", "--format", "csv", "--key", "id", "--value", "v", stdin=rows)
    assert result.code == 3
    assert "2 stored" in result.text
    assert "5 malformed" in result.text
    for place in ("line 3: ", "line 4: ", "line 5: ", "line 6: ", "lines 8 to 9: "):
        assert place in result.stderr
    assert three.invoke("scan", "x/", "--keys-only").text == "x/1\nx/5\n"


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("a.csv", (), "--key COLUMN"),
        ("a.csv", ("--key", "nope"), "It has: id, v"),
        ("a.txt", (), "--format"),
        ("a.ndjson", ("--key", "id"), "for CSV"),
        ("-", ("--restart",), "need a FILE"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused(
    three: Cluster, tmp_path: Path, name: str, options: tuple[str, ...], hint: str
) -> None:
    file = tmp_path / "a.csv" if name == "-" else tmp_path / name
    file.write_text("id,v\n1,2\n")
    refused = three.invoke("import", name if name == "-" else str(file), *options)
    assert (refused.code, refused.stdout) == (2, b"")
    assert hint in refused.stderr
    assert _progress(file) is None


def test_a_named_pipe_is_imported_like_stdin(three: Cluster) -> None:
    command = ("bash", "-c", """"$@" <(echo '{"key":"pipe","value":1}') --format ndjson""", "-", *COMMAND)
    result = invoke("import", "-e", three.endpoint(1), command=command)
    assert (result.code, result.text.split(",")[0]) == (0, "1 stored"), result.stderr


def test_the_format_can_be_said(three: Cluster, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("id,v\nf/1,2\n")
    assert three.invoke("import", str(tmp_path / "a.txt"), "--format", "csv", "--key", "id").code == 0


def test_a_bucket_that_does_not_exist_is_refused_at_once(three: Cluster, tmp_path: Path) -> None:
    file = _ndjson(tmp_path / "a.ndjson", "b/", 1000)
    refused = three.invoke("import", str(file), "--bucket", "nope")
    assert (refused.code, refused.stdout) == (2, b"")
    assert refused.stderr.count("no bucket") == 1


def test_reading_goes_on_from_every_place_that_it_came_by() -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("id", "v"))
    writer.writerows((f"k{i}", f'"\r\n,{i}\n' * (i % 3)) for i in range(30))
    source = io.BytesIO(text.getvalue().replace("k6,", 'k6,"x"x').encode())
    columns = Columns("id", "v")
    rows = list(read_csv(source, columns, START))
    assert sum(isinstance(row, Malformed) for row in rows) == 1
    for number, row in enumerate(rows):
        assert list(read_csv(source, columns, row.start)) == rows[number:]
    lines = io.BytesIO(b"".join(b'{"key":"%d","value":%d}\n\n' % (i, i) for i in range(20)) + b"junk")
    rows = list(read_ndjson(lines))
    for number, row in enumerate(rows):
        assert list(read_ndjson(lines, row.start)) == rows[number:]
    assert list(read_ndjson(lines, START)) == rows


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("basestore.cli.data.rows.LINE_BYTES_MAX", 64)
    source = io.BytesIO(b'{"key":"a","value":1}\n' + b"x" * 1000 + b'\n{"key":"b","value":2}\n')
    first, long, last = read_ndjson(source)
    assert isinstance(first, Row)
    assert isinstance(long, Malformed)
    assert "64 bytes" in long.reason
    assert isinstance(last, Row)
    assert (last.key, last.start.line) == (b"b", 3)


# --- how an import goes on -------------------------------------------------------------------------


def test_an_import_that_was_killed_goes_on_where_it_was(three: Cluster, tmp_path: Path) -> None:
    count = 5_000
    file = _ndjson(tmp_path / "a.ndjson", "killed/", count)
    with running("import", str(file), "-e", three.endpoint(1)) as first:
        eventually(lambda: _progress(file), "a batch is acknowledged")
        first.end(signal.SIGKILL)
    assert _progress(file) is not None, "the import was too fast to be killed"
    second = three.invoke("import", str(file), "-o", "json", node=2)
    assert (second.code, _counts(second)) == (0, {"stored": count})
    assert second.json["resumed_at_line"] > 1
    assert three.invoke("scan", "killed/", "--keys-only").text.count("\n") == count
    assert _progress(file) is None


def test_quoted_newlines_do_not_confuse_an_import_that_goes_on(three: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    with file.open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(("id", "v"))
        writer.writerows((f"quoted/{i:05}", f'{i}\n"quoted",\n') for i in range(5_000))
    options = ("import", str(file), "--key", "id", "--value", "v")
    with running(*options, "-e", three.endpoint(1)) as first:
        eventually(lambda: _progress(file), "a batch is acknowledged")
        first.end(signal.SIGKILL)
    assert _progress(file) is not None, "the import was too fast to be killed"
    second = three.invoke(*options, "-o", "json")
    assert (second.code, _counts(second)) == (0, {"stored": 5_000})
    assert second.json["resumed_at_line"] % 3 == 2  # a header, then rows of three lines
    items = [json.loads(line) for line in three.invoke("scan", "quoted/", "-o", "json").text.splitlines()]
    assert [item["value"] for item in items] == [f'{i}\n"quoted",\n' for i in range(5_000)]


def test_an_interrupted_import_says_how_to_go_on(three: Cluster, tmp_path: Path) -> None:
    file = _ndjson(tmp_path / "a.ndjson", "interrupted/", 5_000)
    with running("import", str(file), "-e", three.endpoint(1)) as first:
        eventually(lambda: _progress(file), "a batch is acknowledged")
        assert first.end(signal.SIGINT) == 130
    assert any("same command again" in line for line in first.stderr)
    assert not any("Traceback" in line for line in first.stderr)
    assert three.invoke("import", str(file)).code == 0


def test_an_import_into_a_first_write_bucket_may_meet_what_it_wrote_itself(
    three: Cluster, tmp_path: Path
) -> None:
    file = _ndjson(tmp_path / "a.ndjson", "first/", 100)
    three.invoke("set", "first/000042", "someone else's", "--bucket", "once")
    for _ in range(2):
        result = three.invoke("import", str(file), "--bucket", "once", "-o", "json")
        assert (result.code, _counts(result)) == (5, {"stored": 99, "lost": 1})
    assert _progress(file) is None


def test_a_checkpoint_serves_only_the_import_that_it_was_made_for(three: Cluster, tmp_path: Path) -> None:
    file = _ndjson(tmp_path / "a.ndjson", "own/", 5_000)
    with running("import", str(file), "-e", three.endpoint(1)) as first:
        eventually(lambda: _progress(file), "a batch is acknowledged")
        first.end(signal.SIGKILL)
    other = three.invoke("import", str(file), "--bucket", "once")
    assert other.code == 2
    assert "another import (of another bucket)" in other.stderr
    assert "--restart" in other.stderr
    beside = three.invoke("import", str(file), "--checkpoint", str(tmp_path / "else"), "-o", "json")
    assert (beside.code, beside.json["resumed_at_line"]) == (0, None)
    with file.open("a") as text:
        text.write('{"key":"own/more","value":1}\n')
    changed = three.invoke("import", str(file))
    assert changed.code == 2
    assert "size" in changed.stderr
    anew = three.invoke("import", str(file), "--restart", "-o", "json")
    assert (_counts(anew), anew.json["resumed_at_line"]) == ({"stored": 5_001}, None)
    assert not (tmp_path / "else").exists()


def test_a_checkpoint_that_is_damaged_is_named(three: Cluster, tmp_path: Path) -> None:
    file = _ndjson(tmp_path / "a.ndjson", "damaged/", 3)
    (tmp_path / "a.ndjson.basestore-progress").write_text("{}")
    refused = three.invoke("import", str(file))
    assert refused.code == 2
    assert "--restart" in refused.stderr
    assert three.invoke("import", str(file), "--restart").code == 0


def test_what_failed_is_counted_and_written_by_the_next_run(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("id,v\n" + "".join(f'failed/{i:03},"{i}\n"\n' for i in range(300)))
    command = ("import", str(file), "--key", "id", "--value", "v", "-c", "all", "-o", "json")
    with cluster(tmp_path / "data", "--durability", "sync") as three:
        os.kill(three.up.pids["n3"], signal.SIGKILL)
        eventually(lambda: three.states()["n1"]["alive"] == ["n1", "n2"], "n1 notices")
        failed = three.invoke(*command)
        assert (failed.code, _counts(failed)) == (3, {"failed": 300})
        assert failed.json["complete"] is False
        assert "lines 2 to 3: unavailable" in failed.stderr
        assert "same command again" in failed.stderr
        with running("serve", "--config", str(tmp_path / "data" / "n3.toml")) as returned:
            returned.wait_for("listens", returned.stdout)
            eventually(lambda: three.states()["n1"]["alive"] == ["n1", "n2", "n3"], "n3 is back")
            again = three.invoke(*command)
            assert (again.code, _counts(again)) == (0, {"stored": 300})
            expected = "".join(f"failed/{i:03}\t{i}\\n\n" for i in range(300))
            assert three.invoke("scan", "failed/").text == expected
    assert _progress(file) is None


def test_an_unknown_outcome_is_repeated_as_the_same_write(tmp_path: Path) -> None:
    file = _ndjson(tmp_path / "a.ndjson", "late/", 20)
    with cluster(tmp_path / "data", "--durability", "memory") as three:
        paused = [three.up.pids[name] for name in ("n2", "n3")]

        def pause() -> None:
            for pid in paused:
                os.kill(pid, signal.SIGSTOP)

        eventually(lambda: three.states()["n1"]["alive"] == ["n1", "n2", "n3"], "all count")
        # Not before the command asks for something: n1 would have noticed before it is that far.
        with door(three.endpoint(1), pause) as endpoint:
            try:
                late = invoke(
                    *("import", str(file), "--timeout", "300ms", "-o", "json"),
                    env={"BASESTORE_ENDPOINTS": endpoint},
                )
            finally:
                for pid in paused:
                    os.kill(pid, signal.SIGCONT)
        assert (late.code, _counts(late)) == (4, {"failed": 20})
        progress = _progress(file)
        assert progress is not None
        failed = progress["progress"]["failed"]  # type: ignore[index]
        versions = {str(basestore.Identity.parse(identity).version) for _, identity, *_ in failed}
        eventually(lambda: three.states()["n1"]["alive"] == ["n1", "n2", "n3"], "all are back")
        assert three.invoke("import", str(file)).code == 0
        items = [json.loads(line) for line in three.invoke("scan", "late/", "-o", "json").text.splitlines()]
        assert {item["version"] for item in items} == versions


@pytest.mark.parametrize(
    ("held", "stays"), [("nothing", False), ("an older value", False), ("a newer value", True)]
)
def test_what_cannot_be_known_is_written_anew_but_not_over_what_is_newer(
    three: Cluster, tmp_path: Path, held: str, stays: bool
) -> None:
    file = _ndjson(tmp_path / "a.ndjson", f"{held}/", 1)
    with basestore.sync.connect(three.endpoint(1)) as store, file.open("rb") as source:
        key, after_ms = f"{held}/000000", store.node_hints().asked_ms or 0
        if held != "nothing":
            version = store.set(key, held).version
            assert version is not None
            after_ms = version.wall_ms - stays
        settings = {"cluster": store.cluster_id(), "bucket": "default", "format": "ndjson"}
        imported = identity(source, settings | {"key column": None, "value column": None})
        unheard = Failed(START, str(basestore.Identity(b"proposed")), False, after_ms)
        kept = Checkpoint(file.with_name("a.ndjson.basestore-progress"), imported)
        kept.save(Progress(Position(file.stat().st_size, 2), failed=[unheard]))
        done = three.invoke("import", str(file), "-o", "json")
        assert _counts(done) == {"superseded" if stays else "stored": 1}
        assert done.code == (5 if stays else 0)
        assert store.get(key).value == (held.encode() if stays else b"0")
    assert _progress(file) is None


def test_without_a_node_an_import_stops_and_goes_on_later(three: Cluster, tmp_path: Path) -> None:
    file = _ndjson(tmp_path / "a.ndjson", "gone/", 10)
    assert invoke("import", str(file), "-e", "127.0.0.1:1").code == 6
    assert three.invoke("import", str(file)).code == 0


def test_long_values_are_imported(three: Cluster) -> None:
    value = base64.b64encode(os.urandom(1 << 20)).decode()
    rows = "".join(f'{{"key":"long/{i}","value":"{value}","encoding":"base64"}}\n' for i in range(5))
    assert three.invoke("import", "-", stdin=rows.encode()).code == 0
    assert three.invoke("get", "long/4", "--raw").stdout == base64.b64decode(value)
