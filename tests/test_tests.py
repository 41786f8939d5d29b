"""House rules of the tests themselves: where they live, what they share, and how far they reach inside."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import LONGEST

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
SOURCES = sorted(TESTS.rglob("*.py"))

# What a suite may import of `tests` beside itself: `worlds`, and where it says more, the reason.
HARNESS = {"worlds"}
# Judged by those checkers; by those laws as well, and its mutants of Raft by those cases.
MORE = {"cluster": {"simulation"}, "simulation": {"model", "consensus"}}

PRIVATES_MAX = 29
MUTANTS_PRIVATES_SHARE_MAX = 0.45  # for each mutant: a bug is put where the product decides, often inside
MUTANTS = TESTS / "simulation" / "mutations"  # they break the product from inside, and say what and why
REASON = "# private: "
NAMEDTUPLE = {"_replace", "_fields", "_asdict", "_make", "_field_defaults"}  # public, whatever they look like
BY_NAME = {"object", "getattr", "setattr", "hasattr", "delattr", "mutant"}  # calls that take a name as text


def imported(path: Path) -> Iterator[str]:
    """The modules of `tests` that are imported."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tests":
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "tests")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(TESTS)))
def test_what_tests_share_is_in_worlds_or_in_the_suite_itself(path: Path) -> None:
    suite = path.relative_to(TESTS).parts[0]
    for name in imported(path):
        words = name.split(".")
        assert not any(word.startswith("test_") for word in words), f"{path} imports a test module: {name}"
        if path.parent != TESTS and len(words) > 1:
            assert words[1] in {suite, *HARNESS, *MORE.get(suite, ())}, f"{path} imports {name}"


def test_tests_of_a_room_live_in_the_folder_of_its_name() -> None:
    rooms = {path.parent.name for path in (ROOT / "basestore").glob("*/__init__.py")}
    files = {path.stem for path in (ROOT / "basestore").glob("*.py")}
    tested = {path.parent.name for path in (TESTS / "basestore").glob("*/test_*.py")}
    assert tested == rooms - {"repair"}
    inner = {path.parent.relative_to(ROOT) for path in (ROOT / "basestore").glob("*/*/__init__.py")}
    tested_inner = {path.parent.relative_to(TESTS) for path in (TESTS / "basestore").glob("*/*/test_*.py")}
    assert tested_inner == inner
    assert {path.stem.removeprefix("test_") for path in (TESTS / "basestore").glob("test_*.py")} <= files
    assert {path.stem.removeprefix("test_") for path in (TESTS / "repair").glob("test_*.py")} <= {
        path.stem for path in (ROOT / "repair").glob("*.py")
    }


def is_private(name: object) -> bool:
    """Whether it is a name that its owner keeps to itself."""
    if not isinstance(name, str) or name in NAMEDTUPLE:
        return False
    return name.startswith("_") and name.isidentifier() and not name.endswith("__")


def reaches(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each use of a private name of somebody else: an attribute that is not of `self` or
    `cls`, a name that is imported, a name that is given as text to be patched."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"import {a.name}") for a in node.names if is_private(a.name))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in BY_NAME:
            names = (argument for argument in node.args if isinstance(argument, ast.Constant))
            yield from ((node.lineno, f"{name.value!r}") for name in names if is_private(name.value))


def explained(path: Path, line: int) -> bool:
    """Whether a comment gives the reason, in this line or right above it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    above = line - 2
    while above > 0 and lines[above].strip().startswith("#") and REASON not in lines[above]:
        above -= 1
    return any(REASON in lines[at] for at in (line - 1, above))


def test_reaches_into_privates_are_few_and_each_has_its_reason() -> None:
    found = [
        (path, line, text) for path in SOURCES if MUTANTS not in path.parents for line, text in reaches(path)
    ]
    unexplained = [
        f"{path.relative_to(ROOT)}:{line}: {text}" for path, line, text in found if not explained(path, line)
    ]
    assert not unexplained, "say why in a comment that begins with `private:`, or use what is public"
    counts = Counter(str(path.relative_to(TESTS)) for path, _, _ in found)
    assert counts.total() <= PRIVATES_MAX, counts


def test_mutants_prefer_what_is_public_too() -> None:
    counts = Counter(path.name for path in MUTANTS.glob("*.py") for _ in reaches(path))
    mutants = sum(path.read_text(encoding="utf-8").count("mutant(") for path in MUTANTS.glob("*.py"))
    assert 0 < counts.total() <= MUTANTS_PRIVATES_SHARE_MAX * mutants, counts


def test_every_transcript_has_its_test() -> None:
    for text in TESTS.rglob("transcripts/*.txt"):
        tests = "".join(path.read_text(encoding="utf-8") for path in text.parent.parent.glob("test_*.py"))
        assert f"def test_{text.stem}(" in tests, f"{text} is of no test"


def test_the_files_that_begin_first_exist() -> None:
    assert [path for path in LONGEST if not (TESTS / path).is_file()] == []
