"""`basestore drill`: what it prints, and how it ends; and that `docs/drills.md` shows just that. Covers
`cli/running/drill.py`; what a drill claims is tested in `tests/basestore/drill`."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from basestore.cli import group
from basestore.cli.running.drill import WIDTH, drill_command
from basestore.drill.drills import DRILLS
from basestore.drill.simulation import Simulation
from tests.worlds.shell import ROOT, invoke

PAGE = ROOT / "docs" / "drills.md"
LINES_MAX = 62
HEAD = """# Drills

`basestore drill NAME` plays a short simulation of real nodes in one process, and shows what they answer when
things go wrong. Time and network are simulated, and all chance comes from `--seed`: the same seed, the same
course of events, wherever it is played. Whatever it says was found in that very run, and it ends with an
error if one of its claims (`=>`) was not so. `-o json` has the same facts, and every answer in full.

What follows is what the commands print; `pytest --update tests/basestore/cli/running/test_drill.py` writes it
anew.
"""


def page() -> str:
    """What the page has to be."""
    shown = {name: invoke("drill", name).text for name in DRILLS}
    blocks = [f"\n## {name}\n\n```\n$ basestore drill {name}\n{text}```\n" for name, text in shown.items()]
    return HEAD + "".join(blocks)


def test_the_page_shows_what_the_commands_print(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("name", DRILLS)
def test_a_seed_prints_the_same_in_every_process(name: str) -> None:
    one, other = (invoke("drill", name, "--seed", "7", env={"PYTHONHASHSEED": seed}) for seed in ("1", "2"))
    assert (one.code, one.stderr) == (0, "")
    assert one.stdout == other.stdout
    assert one.stdout != invoke("drill", name, "--seed", "8").stdout


@pytest.mark.parametrize("name", DRILLS)
def test_a_drill_is_short_and_ends_with_what_was_so(name: str) -> None:
    lines = invoke("drill", name).text.splitlines()
    assert len(lines) <= LINES_MAX
    assert max(map(len, lines)) <= WIDTH
    claims = sum(line.startswith("   => ") for line in lines)
    assert lines[-1].startswith(f"All {claims} claims (=>) were so, in ")


def test_its_json_has_the_same_facts() -> None:
    text = " ".join(invoke("drill", "cap").text.split())
    shown = invoke("drill", "cap", "-o", "json").json
    assert (shown["drill"], shown["seed"], shown["failed"]) == ("cap", 1, None)
    for number, act in enumerate(shown["acts"], 1):
        assert f"{number}. {act['title']} (at {act['at_s']:.2f} s)" in text
        for told in (*act["told"], *(f"=> {each['claim']}: {each['found']}" for each in act["claims"])):
            assert told in text
    for answer in shown["acts"][2]["answers"]:
        assert f"{answer['took_ms']:.1f} ms {answer['outcome']}" in text


@pytest.mark.parametrize("more", [(), ("-o", "json")], ids=["text", "json"])
def test_what_was_not_so_is_named_and_is_a_bug(
    more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Simulation, "heal", lambda self: None)
    result = CliRunner().invoke(group, ["drill", "cap", *more], standalone_mode=False)
    assert result.return_value == 70
    assert "it is not so that both sides see each other again: not within 60 s" in result.stderr
    if more:
        assert json.loads(result.stdout)["failed"]["claim"] == "both sides see each other again"
    else:
        assert "4. The network heals" in result.stdout
        assert "claims (=>) were so" not in result.stdout


def test_the_drills_that_it_offers_are_those_that_there_are() -> None:
    name = next(each for each in drill_command.params if each.name == "name")
    assert isinstance(name.type, click.Choice)
    assert list(name.type.choices) == list(DRILLS)
    for drill in DRILLS:
        assert f"\n    {drill} " in (drill_command.help or "") + "\n"


def test_an_unknown_drill_is_refused_by_name() -> None:
    refused = invoke("drill", "one-phase")
    assert (refused.code, refused.stdout) == (2, b"")
    assert "'cap', 'split-brain'" in refused.stderr


def test_the_page_has_a_part_for_each_drill() -> None:
    titles = [line[3:] for line in Path(PAGE).read_text(encoding="utf-8").splitlines() if line[:3] == "## "]
    assert titles == list(DRILLS)
