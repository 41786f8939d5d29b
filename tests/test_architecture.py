"""House rules: who may import whom, what a state machine may touch, and how large things may get."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / "repair").rglob("*.py"), *(ROOT / "basestore").rglob("*.py")])

# Those that act: they open files and sockets, wait, or draw by chance. So do all of `cli`. Every other
# module is a state machine: pure or synchronous, time and randomness are arguments, bytes go in and out
# through values.
ROOMS = (
    "protocol",
    "server",
    "cluster",
    "replica",
    "coordinator",
    "observe",
    "handoff",
    "anti_entropy",
    "client",
    "results",
    "storage",
)
ACTING = {
    "client.blocking_channel",
    "client.channel",
    "client.connection",
    "config",
    "embedded",
    "server.clock",
    "server.connections",
    "server.sync_thread",
    "server.local_cluster",
    "server.http",
    "server.link",
    "server.poller",
    "server.pages",
    "server.service",
    "storage.rocks_damage",
    "storage.rocks",
    "client.store",
    "client.blocking_store",
}
# A state machine that names a path in its configuration may import `config`, which owns Path.
FORBIDDEN_IN_STATE_MACHINE = {
    "anyio", "asyncio", "datetime", "logging", "os", "pathlib", "random", "secrets", "selectors",
    "socket", "subprocess", "tempfile", "threading", "time", "trio", "uuid",
}  # fmt: skip

# Who may import whom: a module imports only from its own row or rows below it.
LAYERS = [
    ["__main__"],
    ["cli"],
    ["__init__"],
    ["sync"],
    ["client.connection", "client.blocking_store", "embedded"],
    ["server.local_cluster", "server.service", "client.store"],
    ["client.blocking_channel"],
    ["client.channel"],
    ["client.session"],
    ["client.calls"],
    ["server.connections"],
    ["client.arguments", "results.convergence", "results.repair"],
    ["results.explanation", "results.cluster_view", "results.hints", "server.pages", "results.nodes"],
    ["server.clock", "server.sync_thread", "server.link", "node", "results.receipts", "observe.prometheus"],
    ["observe.gauges", "observe.inspect", "observe.trace"],
    ["coordinator.coordinator", "observe.status"],
    [
        "results.answers",
        "handoff.late_hints",
        "anti_entropy.recovery",
    ],
    [
        "anti_entropy.scheduler",
        "coordinator.explain",
        "coordinator.get",
        "coordinator.range_scan",
        "coordinator.set_delete",
        "coordinator.survey",
    ],
    ["anti_entropy.exchanges", "coordinator.admission", "coordinator.gather"],
    ["anti_entropy.exchange", "coordinator.quorum_write"],
    ["anti_entropy.maintenance", "anti_entropy.comparison"],
    [
        "anti_entropy.closed_stamps",
        "anti_entropy.healing",
        "anti_entropy.pace",
        "handoff.delivery",
        "coordinator.deferred_repair",
        "anti_entropy.certificates",
        "anti_entropy.scrub",
    ],
    ["replica.admission"],
    ["handoff.hints", "coordinator.quorum_read", "replica.identity"],
    ["handoff.pile", "handoff.debts"],
    ["coordinator.context", "replica.replica"],
    ["anti_entropy.dialogue", "coordinator.stamper", "replica.summaries"],
    ["replica.summary_log", "replica.clock_ceiling", "replica.store_format"],
    ["replica.apply_log"],
    ["replica.group_commit", "cluster.operations"],
    ["storage.open"],
    ["config", "protocol.frames", "server.http", "server.poller", "cluster.peers"],
    ["cluster.outbox"],
    ["protocol.codec", "cluster.placement", "storage.memory", "storage.rocks"],
    [
        "protocol.anti_entropy",
        "protocol.client",
        "protocol.handshake",
        "protocol.heartbeats",
        "protocol.operator",
        "protocol.replication",
    ],
    ["storage.rocks_damage"],
    [
        "consistency",
        "cluster.failure_detector",
        "errors",
        "instant",
        "release",
        "protocol.limits",
        "protocol.registry",
        "cluster.latency",
        "metrics",
        "storage.engine",
        "storage.keyspace",
    ],
]

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
LONG_FILES = {
    "basestore/node.py": "one handler for every message of a peer, none of them long",
}
LONG_FUNCTIONS: dict[str, str] = {}

# How often `except Exception` stands where, each for the reason given there.
BROAD = {
    "basestore/storage/rocks.py": 4,
    "basestore/client/connection.py": 1,
    "basestore/embedded.py": 1,
    "basestore/cli/__init__.py": 1,
}


def name_of(path: Path) -> str:
    """basestore.net.link, basestore, repair.clock, ..."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def module(name: str) -> Path:
    path = ROOT / "basestore" / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


MODULES = [name_of(path).removeprefix("basestore.") for path in (ROOT / "basestore").rglob("*.py")]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(tree: ast.AST, *, types: bool = True) -> Iterator[str]:
    """Every module that is imported, inside functions too; without `types`, none of those that only
    type checkers import."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module
            if node.module in ("basestore", "repair", *(f"basestore.{room}" for room in ROOMS)):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not types:
            yield from (found for other in node.orelse for found in imports(other))
        else:
            yield from imports(node, types=types)


def test_repair_imports_only_the_standard_library_sortedcontainers_and_itself() -> None:
    for path in (ROOT / "repair").rglob("*.py"):
        for name in imports(parsed(path)):
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names | {"sortedcontainers", "repair"}, f"{path}: {name}"
            assert top not in FORBIDDEN_IN_STATE_MACHINE, f"{path}: {name}"


def acts(name: str) -> bool:
    return name in ACTING or name.split(".")[0] in ("basestore", "cli")


@pytest.mark.parametrize("name", [name for name in MODULES if not acts(name)])
def test_a_state_machine_has_no_clock_no_chance_and_no_sockets(name: str) -> None:
    assert not reaches_out(name)


@pytest.mark.parametrize("name", sorted(ACTING))
def test_none_is_let_act_that_need_not(name: str) -> None:
    assert reaches_out(name)


def reaches_out(name: str) -> list[str]:
    """What it uses of the world outside."""
    tree = parsed(module(name))
    tops = {imported.split(".")[0] for imported in imports(tree)}
    found = sorted(tops & FORBIDDEN_IN_STATE_MACHINE)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in {"open", "input", "print"}:
            found.append(f"{node.id} in line {node.lineno}")
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor):
            found.append(f"async in line {node.lineno}")
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {
            "datetime.now",
            "time.time",
            "os.urandom",
        }:
            found.append(f"{ast.unparse(node)} in line {node.lineno}")
    return found


def test_every_module_has_a_layer() -> None:
    layered = {name for row in LAYERS for name in row}
    for path in (ROOT / "basestore").rglob("*.py"):
        name = name_of(path).removeprefix("basestore").removeprefix(".") or "__init__"
        name = "cli" if name.split(".")[0] == "cli" else name
        if name in ROOMS:
            assert len(parsed(path).body) == 1  # a docstring
            continue
        assert name in layered, f"{name} has no place in LAYERS"


@pytest.mark.parametrize("row", range(len(LAYERS)))
def test_imports_point_downward(row: int) -> None:
    below = {name for lower in LAYERS[row + 1 :] for name in lower}
    for name in LAYERS[row]:
        paths = [module(name)] if name != "cli" else list((ROOT / "basestore" / "cli").glob("*.py"))
        for path in paths:
            for imported in imports(parsed(path), types=False):
                if not imported.startswith("basestore."):
                    continue
                target = imported.removeprefix("basestore.")
                if target in ROOMS or not known(target):
                    continue  # a package, or a name out of one
                target = "cli" if target.split(".")[0] == "cli" else target
                if name == "__init__" or (name == target == "cli"):
                    continue
                assert target in below, f"{name} imports {target}"


def known(target: str) -> bool:
    return module(target).exists() or target.split(".")[0] == "cli"


def test_sizes_stay_readable() -> None:
    long_files, long_functions = {}, {}
    for path in SOURCES:
        where = str(path.relative_to(ROOT))
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > FILE_LINES_MAX:
            long_files[where] = text.count("\n")
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long_functions[f"{where}:{node.name}"] = lines
    assert long_files.keys() == LONG_FILES.keys(), long_files
    assert long_functions.keys() == LONG_FUNCTIONS.keys(), long_functions


def test_every_module_says_what_it_is_for() -> None:
    for path in SOURCES:
        assert ast.get_docstring(parsed(path)), f"{path} has no docstring"


def test_public_functions_and_classes_of_the_core_have_docstrings() -> None:
    undocumented = []
    for path in (ROOT / "repair").rglob("*.py"):
        for node in parsed(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                undocumented += [] if ast.get_docstring(node) else [f"{path}:{node.name}"]
    assert not undocumented


def test_exceptions_are_caught_by_name() -> None:
    found: dict[str, int] = {}
    for path in SOURCES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ExceptHandler):
                kind = "" if node.type is None else ast.unparse(node.type)
                assert kind, f"{path}:{node.lineno}: a bare except"
                if kind == "BaseException":
                    assert reraises(node), f"{path}:{node.lineno}: BaseException ends here"
                if kind == "Exception":
                    where = str(path.relative_to(ROOT))
                    found[where] = found.get(where, 0) + 1
    assert found == BROAD


def reraises(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))


def imported_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after a statement."""
    ran = subprocess.run(
        [sys.executable, "-c", f"{statement}; import sys; print(*sys.modules)"],
        capture_output=True, check=True, text=True, cwd=ROOT,
    )  # fmt: skip
    return set(ran.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import basestore", {"trio", "anyio", "asyncio", "rocksdict", "click", "cbor2"}),
        ("import basestore.sync", {"trio", "anyio", "asyncio", "rocksdict", "click"}),
        ("import basestore; basestore.connect", {"rocksdict", "click"}),
        ("import basestore; basestore.Version", {"trio", "anyio", "rocksdict", "cbor2"}),
        ("import basestore.node", {"trio", "anyio", "asyncio", "rocksdict", "click"}),
        ("import repair.rule, repair.clock", {"basestore", "cbor2"}),
    ],
)
def test_nobody_pays_for_what_they_do_not_use(statement: str, absent: set[str]) -> None:
    assert not imported_by(statement) & absent


def test_every_public_name_can_be_had_and_unknown_ones_are_errors() -> None:
    import basestore

    for name in basestore.__all__:
        assert getattr(basestore, name) is not None
    assert sorted(basestore.__all__) == dir(basestore)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        basestore.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_only_declared_dependencies_are_imported() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    declared = {line.split(">")[0].split("=")[0].strip() for line in project["dependencies"]}
    used = {name.split(".")[0] for path in SOURCES for name in imports(parsed(path))}
    ours = {"basestore", "repair", "benchmarks"}
    assert used - sys.stdlib_module_names - ours <= declared
    assert declared <= used | {"anyio"}  # none that nobody imports
