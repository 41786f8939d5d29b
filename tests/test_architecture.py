"""House rules: which room may import which, what a room may touch, how large things may get, and that files
and names which docstrings and comments speak of are there.

A *room* is a folder of `basestore`, or a file at its root; a large one has rooms inside. An import counts
wherever it stands: inside a function, or under `if TYPE_CHECKING`, for whoever reads the code must follow it
all the same.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "basestore"
SOURCES = sorted({*(PACKAGE / "repair").rglob("*.py"), *PACKAGE.rglob("*.py")})  # the first is a link

# A room imports only rooms that stand in rows below its own.
ROWS = """
    __main__
    cli
    __init__
    embedded  sync
    server  drill
    node
    observe  peering  moves
    transactions  batches
    handoff  groups  membership  registers  feeds
    coordinator  anti_entropy
    replica  client  intake
    results  storage  transport
    cluster  topology  config_file
    config
    protocol  toml_tables
    errors
    leases
    instant  consistency  metrics  release  rows  repair  consensus
"""
# Likewise the rooms inside a room; `.` stands for the files at its root, without its `__init__`, which stands
# above all.
INNER_ROWS = {
    "cli": """
        data
        cluster  topology
        running
        .
    """,
    "client": """
        .
        coordination
    """,
}
# Beyond the rows: a program that only connects loads nothing of what nodes keep.
NEVER = {
    "client": {"replica", "storage", "coordinator", "anti_entropy", "handoff"},
    "transport": {"replica", "storage", "coordinator", "anti_entropy", "handoff"},
    "results": {"replica", "storage", "coordinator", "anti_entropy", "handoff"},
}
LONGEST_CHAIN_MAX = 14

# Rooms and files that act: they open files and sockets, wait, or draw by chance. All others are state
# machines: time and randomness are arguments, bytes go in and out through values.
ACTING = {"cli", "server", "client", "embedded", "sync", "__init__", "__main__", "config", "config_file"}
ACTING_FILES = {
    "storage/open.py",
    "storage/rocks.py",
    "storage/rocks_damage.py",
    "storage/rocks_manifest.py",
    "storage/rocks_salvage.py",
    "storage/rocks_full.py",
    "storage/durable_files.py",
    "transport/dialling.py",
    "transport/endpoints.py",
    "transport/owner.py",
}
OUTSIDE = {
    "anyio", "asyncio", "datetime", "logging", "os", "pathlib", "random", "secrets", "selectors",
    "socket", "subprocess", "tempfile", "threading", "time", "trio", "uuid",
}  # fmt: skip
PRINTING = {"open", "input", "print"}

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
FUNCTION_LINES_P90_MAX = 20
ARGUMENTS_MAX = 7  # of an __init__ that is written out, beside self
ROOM_FILES_MAX = 14

# How often `except Exception` stands where, each for the reason given there.
BROAD = {
    "basestore/storage/rocks.py": 6,
    "basestore/storage/rocks_salvage.py": 3,
    "basestore/client/network_channel.py": 1,
    "basestore/embedded.py": 1,
    "basestore/cli/__init__.py": 1,
}


def drawn(rows: str = ROWS) -> dict[str, int]:
    """Every room, and how far from the ground its row is."""
    lines = [line.split() for line in rows.split("\n") if line.strip()]
    return {room: height for height, line in enumerate(reversed(lines)) for room in line}


def where(path: Path) -> str:
    """basestore/server/link.py"""
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def inner_room_of(path: Path) -> str:
    """The folder inside its room; `.` if it stands at the room's root."""
    parts = path.relative_to(PACKAGE).parts
    return parts[1] if len(parts) > 2 else "."


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def modules() -> dict[str, Path]:
    """By dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in SOURCES
    }


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Every module that is imported, and the name out of it, if one is named."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{where(path)}: imports are absolute"
            assert node.level == 0, f"{where(path)}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full, "") if full in modules() else (node.module, alias.name)


def imported_paths(path: Path) -> set[Path]:
    """The files of this house that a file imports; a name of the package `basestore` is one of `__init__`."""
    found = {modules().get(name) for name, _ in imports(path)}
    return {target for target in found if target is not None} - {path}


def room_imports() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {room: set() for room in drawn()}
    for path in SOURCES:
        graph[room_of(path)] |= {room_of(target) for target in imported_paths(path)} - {room_of(path)}
    return graph


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


# --- rooms and rows ------------------------------------------------------------------------------


def test_every_room_has_its_row_and_every_row_its_room() -> None:
    assert {room_of(path) for path in SOURCES} == drawn().keys()


@pytest.mark.parametrize("path", SOURCES, ids=where)
def test_imports_point_downward(path: Path) -> None:
    height, room = drawn(), room_of(path)
    for target in imported_paths(path):
        other = room_of(target)
        if other != room:
            assert height[other] < height[room], f"{where(path)} imports {where(target)}"
            assert other not in NEVER.get(room, ()), f"{where(path)} imports {where(target)}"


def test_the_drawing_in_the_readme_has_every_room_and_imports_point_downward_in_it() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    drawing = readme.partition("this drawing:\n\n")[2].partition("\n\n")[0]
    # Rooms stand in the first 32 columns; one line of them is longer, and has nothing else.
    rows = [line[:32] if line[31] == " " else line for line in drawing.split("\n")]
    height = drawn("\n".join(rows).replace("/", ""))
    assert height.keys() == drawn().keys() - {"__main__", "__init__"}
    for room, others in room_imports().items():
        for other in others & height.keys() if room in height else ():
            assert height[other] < height[room], f"{room} imports {other}"


def test_every_room_inside_a_room_has_its_row_and_every_row_its_room() -> None:
    inner: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        assert len(path.relative_to(PACKAGE).parts) <= 3, f"{where(path)}: a room inside a room inside a room"
        if len(path.relative_to(PACKAGE).parts) > 1:
            inner[room_of(path)].add(inner_room_of(path))
    expected = {room: drawn(rows).keys() for room, rows in INNER_ROWS.items()}
    assert {room: rooms for room, rooms in inner.items() if rooms != {"."}} == expected


def test_imports_point_downward_inside_a_room() -> None:
    for room, rows in INNER_ROWS.items():
        height = drawn(rows)
        for path in SOURCES:
            if room_of(path) != room or path == PACKAGE / room / "__init__.py":
                continue
            here = inner_room_of(path)
            for target in imported_paths(path):
                if room_of(target) == room and inner_room_of(target) != here:
                    assert height[inner_room_of(target)] < height[here], (
                        f"{where(path)} imports {where(target)}"
                    )


def test_no_files_import_each_other_in_a_circle() -> None:
    done: set[Path] = set()

    def follow(path: Path, way: tuple[Path, ...]) -> None:
        assert path not in way, " -> ".join(map(where, (*way[way.index(path) :], path)))
        if path not in done:
            for target in sorted(imported_paths(path)):
                follow(target, (*way, path))
            done.add(path)

    for path in SOURCES:
        if path.name not in ("__init__.py", "__main__.py"):
            follow(path, ())


def test_the_longest_chain_of_rooms_is_short() -> None:
    graph = room_imports()

    @cache
    def longest(room: str) -> int:
        return 1 + max(map(longest, graph[room]), default=0)

    assert max(map(longest, graph)) <= LONGEST_CHAIN_MAX


def test_the_init_of_a_room_is_one_sentence() -> None:
    for path in (path for path in SOURCES if path.name == "__init__.py"):
        if path.parent not in (PACKAGE, PACKAGE / "cli"):
            (only,) = parsed(path).body
            sentence = ast.get_docstring(parsed(path))
            assert isinstance(only, ast.Expr), where(path)
            assert sentence is not None, where(path)
            assert sentence.find(".") == len(sentence) - 1, where(path)


def test_a_room_keeps_its_private_names_to_itself() -> None:
    for path in SOURCES:
        for module, name in imports(path):
            if module in modules() and room_of(modules()[module]) != room_of(path):
                private = name.startswith("_") and not name.startswith("__")
                assert not private, f"{where(path)} imports {name} of {module}"


# --- purity --------------------------------------------------------------------------------------


def acts(path: Path) -> bool:
    return room_of(path) in ACTING or where(path).removeprefix("basestore/") in ACTING_FILES


def reaches_out(path: Path) -> list[str]:
    """What it uses of the world outside."""
    found = sorted({name.split(".")[0] for name, _ in imports(path)} & OUTSIDE)
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Name) and node.id in PRINTING:
            found.append(f"{node.id} in line {node.lineno}")
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor):
            found.append(f"async in line {node.lineno}")
    return found


@pytest.mark.parametrize("path", [path for path in SOURCES if not acts(path)], ids=where)
def test_a_state_machine_has_no_clock_no_chance_and_no_sockets(path: Path) -> None:
    assert not reaches_out(path)


@pytest.mark.parametrize("name", sorted(ACTING_FILES))
def test_no_file_is_let_act_that_need_not(name: str) -> None:
    assert reaches_out(PACKAGE / name) or "open" in name


def test_repair_imports_only_the_standard_library_sortedcontainers_and_itself() -> None:
    for path in (PACKAGE / "repair").rglob("*.py"):
        for name, _ in imports(path):
            known = name.split(".")[0] in sys.stdlib_module_names | {"sortedcontainers"}
            assert known or name.startswith("basestore.repair."), f"{where(path)} imports {name}"


def test_consensus_imports_only_the_standard_library_and_itself() -> None:
    paths = list((PACKAGE / "consensus").rglob("*.py"))
    assert paths
    for path in paths:
        for name, _ in imports(path):
            known = name.split(".")[0] in sys.stdlib_module_names
            assert known or name.startswith("basestore.consensus."), f"{where(path)} imports {name}"


# --- one owner for each thing ----------------------------------------------------------------------


def test_only_repair_knows_the_conflict_rules_apart() -> None:
    """What follows from a rule is a property of `Rule`."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Compare):
                words = {ast.unparse(side) for side in (node.left, *node.comparators)}
                members = {word for word in words if "WRITE_WINS" in word}
                assert not members, f"{where(path)}:{node.lineno} compares with {members}"


def test_only_the_keyspace_knows_how_keys_are_made() -> None:
    """Nobody else adds to one of its prefixes, or works out where a range ends."""
    prefixes = {
        target.id
        for node in parsed(PACKAGE / "storage" / "keyspace.py").body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, bytes)
    }
    assert prefixes
    for path in PACKAGE.rglob("*.py"):
        if path.name == "keyspace.py":
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.BinOp):
                sides = {ast.unparse(node.left), ast.unparse(node.right)}
                assert not sides & prefixes, f"{where(path)}:{node.lineno} {ast.unparse(node)}"


# --- sizes ---------------------------------------------------------------------------------------


def test_files_and_functions_stay_readable() -> None:
    lengths = []
    for path in SOURCES:
        count = path.read_text(encoding="utf-8").count("\n")
        assert count <= FILE_LINES_MAX, f"{where(path)} has {count} lines"
        for function in functions(path):
            lines = lines_of(function)
            lengths.append(lines)
            assert lines <= FUNCTION_LINES_MAX, f"{where(path)}: {function.name} has {lines} lines"
    lengths.sort()
    assert lengths[len(lengths) * 9 // 10] <= FUNCTION_LINES_P90_MAX


def test_a_maker_takes_few_arguments() -> None:
    for path in SOURCES:
        for function in functions(path):
            if function.name == "__init__":
                given = function.args
                count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs) - 1
                assert count <= ARGUMENTS_MAX, f"{where(path)}:{function.lineno} takes {count}"


def test_a_room_holds_few_files() -> None:
    files = Counter(path.parent for path in SOURCES if path.name != "__init__.py" and path.parent != PACKAGE)
    assert [(where(room), count) for room, count in files.items() if count > ROOM_FILES_MAX] == []


# --- heads, errors, dependencies -----------------------------------------------------------------


def test_every_module_says_what_it_is_for() -> None:
    for path in SOURCES:
        assert ast.get_docstring(parsed(path)), f"{where(path)} has no head"


def test_public_functions_and_classes_of_the_core_have_docstrings() -> None:
    undocumented = []
    for path in (PACKAGE / "repair").rglob("*.py"):
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
                    found[where(path)] = found.get(where(path), 0) + 1
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
        ("import basestore.sync", {"basestore.topology.topology", "basestore.topology.entries"}),
        ("import basestore; basestore.connect", {"rocksdict", "click"}),
        ("import basestore; basestore.Version", {"trio", "anyio", "rocksdict", "cbor2", "repair"}),
        ("import basestore.node", {"trio", "anyio", "asyncio", "rocksdict", "click"}),
        ("import basestore.repair.rule, basestore.repair.clock", {"trio", "anyio", "asyncio", "cbor2"}),
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


def test_what_is_installed_brings_one_name() -> None:
    assert (PACKAGE / "repair").readlink() == Path("../repair")
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["basestore"]


def test_only_declared_dependencies_are_imported() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    declared = {line.split(">")[0].split("=")[0].strip() for line in project["dependencies"]}
    used = {name.split(".")[0] for path in SOURCES for name, _ in imports(path)}
    assert used - sys.stdlib_module_names - {"basestore"} <= declared
    assert declared <= used | {"anyio"}  # none that nobody imports


# --- what is said in backticks exists -----------------------------------------------------------

MIRROR = ROOT / "tests" / "basestore"
SPEAKING = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]
NAMED = re.compile(r"`([A-Za-z_][\w/]*(?:\.[A-Za-z_]\w*)+)`")


@cache
def defined() -> dict[str, set[str]]:
    """What the classes of each name have: methods, fields, and what they assign to themselves."""
    found: dict[str, set[str]] = defaultdict(set)
    bases: dict[str, set[str]] = defaultdict(set)
    for path in SPEAKING:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                bases[node.name] |= {ast.unparse(base) for base in node.bases}
                found[node.name] |= set(names_in(node))
    for name in found:
        for base in list(bases[name]):
            found[name] |= found.get(base, set())
    return found


def names_in(top: ast.AST) -> Iterator[str]:
    """The names that are bound anywhere inside: functions, classes, variables, attributes of an object."""
    for node in ast.walk(top):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr
            case ast.alias():
                yield node.asname or node.name


def exists(said: str, path: Path) -> bool:
    """Whether a file, a name of a class or a name of a module is there; whatever is none of these (a
    variable's attribute, a TOML key) counts as being there. Tests stand where the room stands."""
    folder = path.parent
    if said.endswith(".py"):
        mirrored = folder.relative_to(MIRROR) if folder.is_relative_to(MIRROR) else folder.name
        folders = (folder, PACKAGE / mirrored, PACKAGE, ROOT)
        return any((place / said).is_file() for place in folders)
    first, *rest = said.split(".")
    if first[0].isupper():
        return rest[0] in defined().get(first, set())
    room = ".".join(folder.relative_to(ROOT).parts)
    for start in ("", "basestore.", f"{room}."):
        words = (start + said).split(".")
        # The longest part of it that is a module; what is left must be something that this module binds.
        for count in range(len(words), 0, -1):
            module = modules().get(".".join(words[:count]))
            if module is not None and count > start.count("."):
                return count == len(words) or words[count] in names_in(parsed(module))
    return True


@pytest.mark.parametrize("path", SPEAKING, ids=where)
def test_files_and_names_that_are_spoken_of_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [said for said in NAMED.findall(text) if not exists(said, path)] == []


def test_what_is_gone_is_missed() -> None:
    path = PACKAGE / "coordinator" / "get.py"
    there = ["get.py", "repair/rule.py", "Stamper.stale_ms", "repair.digest_tree.due_of", "quorum_read.mend"]
    gone = ["put.py", "repair/get.py", "Stamper.stale", "repair.digest_tree.due", "quorum_read.mended"]
    assert [exists(said, path) for said in there + gone] == [True] * len(there) + [False] * len(gone)
