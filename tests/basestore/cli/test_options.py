"""The options that commands share: wherever they stand, the command is asked the same.

Covers `cli/options.py`. Goes through all commands that there are, with arguments made up from what each asks
for; no node is asked.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner

from basestore.cli import WRITES, group, options

GIVEN = {
    "endpoint": ("-e", "one:1", "-e", "two:2", "-e", "three:3"),
    "consistency": ("-c", "any", "-c", "one", "-c", "all"),
    "bucket": ("--bucket", "a", "--bucket", "b", "--bucket", "c"),
    "timeout": ("--timeout", "1s", "--timeout", "2s", "--timeout", "300ms"),
    "mode": ("--mode", "stale", "--mode", "default", "--mode", "consistent"),
    "output": ("-o", "text", "-o", "text", "-o", "json"),
}
EXPECTED: dict[str, tuple[str, Any]] = {
    "endpoint": ("endpoints", ("one:1", "two:2", "three:3")),
    "consistency": ("consistency", "all"),
    "bucket": ("bucket", "c"),
    "timeout": ("patience_s", 0.3),
    "mode": ("mode", "consistent"),
    "output": ("json", True),
}


class Entry(NamedTuple):
    """A command, and the words that it is asked by."""

    words: tuple[str, ...]
    command: click.Command

    def __str__(self) -> str:
        return " ".join(self.words)


def entries(at: click.Group = group, words: tuple[str, ...] = ()) -> Iterator[Entry]:
    """All commands, those that are also the first word of others among them."""
    context = click.Context(at)
    for name in at.list_commands(context):
        command = at.get_command(context, name)
        assert command is not None
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield Entry((*words, name), command)
        if isinstance(command, click.Group):
            yield from entries(command, (*words, name))


ENTRIES = list(entries())
GROUPS = sorted({entry.words[:-1] for entry in ENTRIES if len(entry.words) > 1})


def shared(command: click.Command) -> list[str]:
    """The shared options that it says it takes."""
    own = {param.name for param in command.params if not getattr(param, "hidden", False)}
    return [name for name in options.SHARED if name in own]


def arguments(command: click.Command) -> list[str]:
    """The least that it must be given."""
    made = []
    for param in command.params:
        if param.required:
            made += [param.opts[0]] if isinstance(param, click.Option) else []
            if isinstance(param.type, click.Choice):
                made.append(str(param.type.choices[0]))
            elif isinstance(param.type, click.ParamType) and param.type.name in ("file", "path", "filename"):
                made.append("/dev/null")
            else:
                made.append("1")
    return made


def ran(monkeypatch: pytest.MonkeyPatch, entry: Entry, words: list[str]) -> options.Target:
    """What the command would have been told to ask."""

    @options.share(*shared(entry.command))
    def told(target: options.Target, **_: object) -> options.Target:
        return target

    monkeypatch.setattr(entry.command, "callback", told)
    result = CliRunner().invoke(group, words, standalone_mode=False)
    assert result.exception is None, (words, result.exception)
    assert isinstance(result.return_value, options.Target), (words, result.output)
    return result.return_value


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_a_shared_option_may_stand_before_between_and_after_the_words(
    entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in shared(entry.command):
        field, expected = EXPECTED[name]
        given = GIVEN[name]
        parts = [given[start : start + 2] for start in range(0, len(given), 2)]
        whole = [[*entry.words[:at], *given, *entry.words[at:]] for at in range(len(entry.words) + 1)]
        # One of three before, the last after, and the other between, or else beside the first.
        between = len(entry.words) - 1
        apart = [*parts[0], *entry.words[:between], *parts[1], *entry.words[between:], *parts[2]]
        for words in (*whole, apart):
            target = ran(monkeypatch, entry, [*words, *arguments(entry.command)])
            assert getattr(target, field) == expected, words


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_what_a_command_does_not_take_is_an_error_wherever_it_stands(
    entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shared(entry.command):  # those start nodes: whatever is wrong here, this must not
        monkeypatch.setattr(entry.command, "callback", lambda **_: None)
    for name in set(options.SHARED) - set(shared(entry.command)):
        option = GIVEN[name][:2]
        for at in range(len(entry.words) + 1):
            words = [*entry.words[:at], *option, *entry.words[at:], *arguments(entry.command)]
            refused = CliRunner().invoke(group, words, standalone_mode=False)
            assert isinstance(refused.exception, click.UsageError), words
            if at < len(entry.words):
                assert f"`group {entry}` takes no {option[0]}" in refused.exception.format_message()


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_every_command_is_of_the_kind_that_minds_its_options(entry: Entry) -> None:
    """A command of click's own would be deaf to what stands before it; and a timeout of its own would not
    count there."""
    assert isinstance(entry.command, options.Command | options.Group)
    for param in entry.command.params:
        if param.name in options.SHARED and isinstance(param, click.Option):
            assert not param.expose_value, param.name


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_the_help_of_first_words_names_the_options_that_may_stand_there(words: tuple[str, ...]) -> None:
    inner = [entry for entry in ENTRIES if entry.words[: len(words)] == words]
    told = " ".join(CliRunner().invoke(group, [*words, "--help"]).output.split())
    taken = {name for entry in inner for name in shared(entry.command)}
    for name in options.SHARED:
        assert (GIVEN[name][0] in told) == (name in taken), (name, told)
    if taken:
        assert "may stand before, between and after the words of a command." in told


def test_the_help_of_the_command_itself_describes_them() -> None:
    told = " ".join(CliRunner().invoke(group, ["--help"]).output.split())
    assert all(GIVEN[name][0] in told for name in options.OF_MANY)
    assert "--mode" not in told  # of a few commands, whose help describes it
    assert "may stand before, between and after the words" in told


def test_what_writes_is_named_by_all_its_words() -> None:
    """By which it is known, where output fails, that something may have happened."""
    repeated = {str(each) for each in ENTRIES if any(param.name == "repeat" for param in each.command.params)}
    assert repeated <= set(WRITES) <= {str(entry) for entry in ENTRIES}


def test_help_is_given_whatever_stands_before() -> None:
    told = CliRunner().invoke(group, ["-c", "all", "status", "--help"])
    assert (told.exit_code, told.output.startswith("Usage: group status")) == (0, True)


def test_a_group_that_is_a_command_as_well_does_not_run_before_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    @click.group("outer", cls=options.Group, invoke_without_command=True)
    @options.share("output")
    def outer(target: options.Target) -> None:
        done.append(f"outer {target.json}")

    @outer.command("inner")
    @options.share("output", "timeout")
    def inner(target: options.Target) -> None:
        done.append(f"inner {target.json} {target.patience_s}")

    for words in (["-o", "json"], ["-o", "json", "inner"], ["--timeout", "1s", "inner", "-o", "json"]):
        CliRunner().invoke(outer, words, standalone_mode=False, catch_exceptions=False)
    assert done == ["outer True", "inner True None", "inner True 1.0"]
    with pytest.raises(click.UsageError, match="`outer` takes no --timeout; leave it out"):
        CliRunner().invoke(outer, ["--timeout", "1s"], standalone_mode=False, catch_exceptions=False)
