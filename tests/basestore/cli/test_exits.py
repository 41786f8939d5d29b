"""How an error is told: in words, and as JSON for scripts.

Covers `cli/exits.py`.
"""

import json

import pytest

from basestore import Overloaded, Unavailable
from basestore.cli import exits


def test_what_is_overloaded_says_when_to_try_again(capsys: pytest.CaptureFixture[str]) -> None:
    error = Overloaded("overloaded: n1 is asked for more than it can do; nothing was done", 0.35)
    assert exits.tell(error, as_json=False) == exits.REFUSED
    assert capsys.readouterr().err.endswith("nothing was done. Try again in 0.35 s\n")
    assert exits.tell(error, as_json=True) == exits.REFUSED
    assert json.loads(capsys.readouterr().err)["retry_after"] == 0.35


def test_where_nobody_has_said_when_it_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (Overloaded("overloaded"), Unavailable(2, 1)):
        exits.tell(error, as_json=True)
        assert json.loads(capsys.readouterr().err)["retry_after"] is None
