"""How an error is told: in words, and as JSON for scripts.

Covers `cli/exits.py`.
"""

import json

import pytest

from basestore import OutcomeUnknown, Overloaded, Unavailable
from basestore.cli import exits
from basestore.repair.version import Identity


def test_what_is_overloaded_says_when_to_try_again(capsys: pytest.CaptureFixture[str]) -> None:
    error = Overloaded("overloaded: n1 is asked for more than it can do; nothing was done", 0.35)
    assert exits.tell(error, as_json=False) == exits.REFUSED
    assert capsys.readouterr().err.endswith("nothing was done. Try again in 0.35 s\n")
    assert exits.tell(error, as_json=True) == exits.REFUSED
    assert json.loads(capsys.readouterr().err)["retry_after"] == 0.35


@pytest.mark.parametrize("case", ["repeat", "Repeat"])
def test_what_may_be_repeated_names_the_option(capsys: pytest.CaptureFixture[str], case: str) -> None:
    identity = Identity(b"proposed")
    error = OutcomeUnknown(f"unknown: {case} it as {identity}, or read", None, identity)
    assert exits.tell(error, as_json=False) == exits.UNKNOWN
    assert f"{case} it with --repeat {identity}, or read" in capsys.readouterr().err
    exits.tell(error, as_json=True)
    assert json.loads(capsys.readouterr().err)["message"] == str(error)


def test_where_nobody_has_said_when_it_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (Overloaded("overloaded"), Unavailable(2, 1)):
        exits.tell(error, as_json=True)
        assert json.loads(capsys.readouterr().err)["retry_after"] is None


@pytest.mark.parametrize(
    "text", ["overloaded: by much. Try again later, or elsewhere", "overloaded: by much"]
)
def test_the_time_that_a_node_has_told_stands_in_the_words(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    error = Overloaded(text)
    error.retry_after = 0.4
    exits.tell(error, as_json=False)
    shown = capsys.readouterr().err
    assert shown.count("Try again in 0.4 s") == 1
    assert "later" not in shown
