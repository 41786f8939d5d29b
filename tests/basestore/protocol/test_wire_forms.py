"""Each version of the wire as it was said once: frames are kept in frames/8.txt and so on, and read again.

All versions but the highest are frozen, and never change again. `pytest --update` writes the file of the
highest anew, and so, on purpose only, what it is: a kind or a field is added with a version above FROZEN.
"""

from pathlib import Path
from typing import Any

import pytest

from basestore.protocol import handshake
from basestore.protocol.anti_entropy import Certify, KnownLosses, Same, Syn
from basestore.protocol.client import IF_VALUE, IF_VERSION, Delete, Get, Got, Set, Written
from basestore.protocol.codec import Message
from basestore.protocol.handshake import CLIENT_HELLO, EarlyHello, Goodbye, Proof, Refused, Renewed, Welcome
from basestore.protocol.heartbeats import Ping, Pong, StoreClaim
from basestore.protocol.limits import WIRE_HIGHEST, WIRE_LOWEST
from basestore.protocol.operator import Explained, Traced
from basestore.protocol.proof import Answer, Challenged, answer, answer_proof, hello, prove
from basestore.protocol.registry import DATES, NUMBERS, unspeakable
from basestore.protocol.replication import Applied, Apply, Forward, Held, Range, Read, ReadRange
from basestore.transport.frames import FrameReader, pack
from tests.worlds.frames import FRAMES, SEALED, Spoken, again, kept_fields, made, parsed, spoken_fields, words
from tests.worlds.handshakes import NONCE, OTHER_NONCE, facts
from tests.worlds.messages import ACCEPTOR_ROW, EXAMPLES, ROW, VERSION
from tests.worlds.transcripts import hold

FROZEN = WIRE_HIGHEST - 1  # the last version that others speak by now
VERSIONS = range(WIRE_LOWEST, WIRE_HIGHEST + 1)
FILES = Path(__file__).parent / "frames"
# What the release before version 8 has said first, and how it is told that it is not let in.
BEFORE: dict[str, Message] = {
    "0000002963f647709e8fd1e38185010750636363636363636363636363636363635064646464646464646464646464646464626e31":
        EarlyHello(7, b"c" * 16, b"d" * 16, "n1"),
    "00000007bf204abf909609c781850107404060": EarlyHello(7, b"", b"", ""),
    "000000082f9f572e1828742b8183036377687960": Refused("why", ""),
}  # fmt: skip
GROWN: dict[type[Any], dict[str, Any]] = {  # what a field says that was added later
    Set: {"defer": True, "condition": IF_VALUE, "expected": b"value"},
    Delete: {"defer": True, "condition": IF_VERSION, "expected": VERSION},
    Get: {"degrade_ms": 500},
    Ping: {"term": 4, "leader": 3, "purged": 7},
    Written: {
        "outcome": 3,
        "keeper": b"s" * 16,
        "because": "takes 2 requests a second",
        "order": VERSION,
        "value": b"value",
        "held": True,
    },
    Traced: {"hints_upto": 7, "acceptor": [ACCEPTOR_ROW]},
    Explained: {"acceptors": [ACCEPTOR_ROW], "old": [0, 1], "new": [1, 2], "since": 3},
    KnownLosses: {"hints_upto": 7},
    Got: {"degraded": True, "because": "Unavailable: 1 of 2", "order": VERSION},
    ReadRange: {"serial": True},
    Range: {"unlearned": [ROW]},
    Forward: {"lays": VERSION[:16], "as_is": True},
    Certify: {"end": 12, "above": 9},
    Syn: {"above": 9},
    Same: {"above": 9},
}


def grown(message: Message) -> Message:
    """An example in which every field says something."""
    return message._replace(**GROWN.get(type(message), {}))


def lines_of(version: int) -> list[str]:
    file = FILES / f"{version}.txt"
    assert file.exists(), f"{file} is missing: pytest --update"
    return file.read_text(encoding="utf-8").splitlines()


def meeting(version: int) -> list[Spoken]:
    """Two nodes that speak no later version prove who they are."""
    n1 = facts("n1", versions=(WIRE_LOWEST, version))
    n2 = facts("n2", diallers="n1", versions=(WIRE_LOWEST, version))
    said = hello(n1, NONCE)
    challenged = answer(said, n2, OTHER_NONCE)
    assert isinstance(challenged, Challenged)
    proof, _ = prove(challenged.reply, said, n1, "n2")
    assert isinstance(proof, Proof)
    let_in = answer_proof(proof, challenged, n2, lambda name, address: "")
    assert isinstance(let_in.reply, Welcome), let_in
    return [
        ("n1 -> n2", [said]),
        ("n2 -> n1", [challenged.reply]),
        ("n1 -> n2", [proof]),
        ("n2 -> n1", [let_in.reply]),
    ]


def scenes_of(version: int) -> dict[tuple[str, str], list[Spoken]]:
    """Conversations, as this version has them."""
    told = CLIENT_HELLO._replace(highest=version)
    welcome = answer(told, facts("n1", versions=(WIRE_LOWEST, version)), NONCE)
    assert isinstance(welcome, Answer)
    one, two = EXAMPLES[Set], EXAMPLES[Get]
    write = EXAMPLES[Apply]
    return {
        (FRAMES, "two nodes meet"): meeting(version),
        (FRAMES, "a client is let in"): [("client -> n1", [told]), ("n1 -> client", [welcome.reply])],
        (SEALED, "it writes and reads"): [
            ("client -> n1", [one, one._replace(id=2, key=b"other")]),
            ("client -> n1", [two._replace(id=3), two._replace(id=4, level=1)]),
            ("client -> n1", [grown(one._replace(id=5, level=0)), grown(two._replace(id=6))]),
        ],
        (FRAMES, "it is answered"): [
            ("n1 -> client", [EXAMPLES[Written], EXAMPLES[Written]._replace(id=2)]),
            ("n1 -> client", [grown(EXAMPLES[Written]._replace(id=5)), grown(EXAMPLES[Got]._replace(id=6))]),
        ],
        (FRAMES, "a write between nodes"): [
            ("n1 -> n2", [EXAMPLES[StoreClaim], EXAMPLES[Ping]]),
            ("n2 -> n1", [EXAMPLES[Pong]]),
            ("n1 -> n2", [write, write._replace(id=2)]),
            ("n2 -> n1", [EXAMPLES[Applied]]),
            ("n1 -> n2", [EXAMPLES[Read]]),
            ("n2 -> n1", [EXAMPLES[Held]]),
            ("n1 -> n2", [EXAMPLES[Goodbye]]),
        ],
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_frozen_changes_on_purpose_only(version: int, request: pytest.FixtureRequest) -> None:
    if version > FROZEN or not (FILES / f"{version}.txt").exists():
        lines = made(version, map(grown, EXAMPLES.values()), scenes_of(version))
        hold(FILES / f"{version}.txt", lines, update=request.config.getoption("--update"))


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_version_has_said_once_is_heard_and_said_as_it_was(version: int) -> None:
    scenes = parsed(lines_of(version))
    assert [scene.title for scene in scenes[1:]] == [title for _, title in scenes_of(version)]
    for scene in scenes:
        assert scene.said
        for each in again(scene, version):
            assert each.encoded == each.data, each.words
            assert [words(message, version) for message in each.messages] == each.words
            for message in each.messages:
                # What did not travel has its default; so nothing is in it that needs a later version.
                assert not unspeakable(message, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_nodes_of_a_version_still_know_each_other_by_the_same_proofs(version: int) -> None:
    (kept,) = (scene for scene in parsed(lines_of(version)) if scene.title == "two nodes meet")
    assert [data for _, data in kept.said] == [pack(messages, version) for _, messages in meeting(version)]


@pytest.mark.parametrize("version", VERSIONS)
def test_kinds_and_fields_are_added_with_a_version_that_nobody_speaks_yet(version: int) -> None:
    known, kept = spoken_fields(version), kept_fields(lines_of(version))
    told = f"version {version} is frozen: add with since= or added= of {FROZEN + 1} or later"
    assert kept == known, told if version <= FROZEN else "pytest --update"


def test_what_is_said_before_a_version_is_agreed_on_never_grows() -> None:
    said_before = [
        kind for kind in NUMBERS if kind.__module__ == handshake.__name__ and kind not in (Goodbye, Renewed)
    ]
    assert said_before
    for kind in said_before:
        assert {*DATES[kind].fields, DATES[kind].since} == {WIRE_LOWEST}, kind


def test_every_field_that_was_added_is_in_an_example() -> None:
    for kind, example in EXAMPLES.items():
        for name, date in zip(kind._fields, DATES[kind].fields, strict=True):
            if date > DATES[kind].since:
                assert getattr(grown(example), name) != kind._field_defaults[name], (kind, name)


def test_what_was_said_before_there_were_versions_is_heard_and_answered_in_its_form() -> None:
    for data, said in BEFORE.items():
        assert FrameReader().feed(bytes.fromhex(data)) == [said]
        assert pack([said]).hex() == data
