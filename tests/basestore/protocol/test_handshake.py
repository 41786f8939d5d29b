"""The handshake without sockets: whole conversations between two sides, and what each writes to its log."""

import json

import pytest

from basestore.protocol.handshake import (
    NAME_CHARACTERS_SHOWN,
    Answer,
    BucketRow,
    Differs,
    Facts,
    Hello,
    MemberRow,
    Refused,
    Welcome,
    answer,
    difference,
    hello,
    judge,
)
from basestore.protocol.limits import PROTOCOL

OURS, OTHERS = b"\xaa" * 16, b"\xbb" * 16
MEMBERS = [MemberRow(0, "n1", "127.0.0.1:7400"), MemberRow(1, "n2", "127.0.0.1:7401")]


def facts(name: str, cluster: bytes = OURS, replication: int = 3, diallers: str = "") -> Facts:
    text = json.dumps({"replication": replication})
    welcome = Welcome(PROTOCOL, cluster, name, 5000, MEMBERS, [BucketRow("once", "first-write-wins")])
    return Facts(welcome, text.encode(), text, frozenset(diallers.split()))


N1 = facts("n1")
N2 = facts("n2", diallers="n1")


def converse(dialler: Facts, acceptor: Facts, peer: str = "n2") -> list[str]:
    """What a node and the one that it dials say in turn, and then the log of each that complains."""
    said: list[object] = [hello(dialler)]
    answered = answer(said[0], acceptor)
    said.append(answered.reply)
    last_word, complaint = judge(answered.reply, dialler, peer)
    refusal = answered.refusal
    if answered.differs:
        assert last_word is not None  # it is waited for
        refusal = difference(acceptor, answered.sender, last_word.configuration)
    said += [last_word] if last_word is not None else []
    lines = [type(message).__name__ for message in said]
    lines += [f"{dialler.welcome.sender}: {complaint}"] if complaint else []
    return lines + ([f"{acceptor.welcome.sender}: {refusal}"] if refusal else [])


def test_a_member_that_dials_is_welcome() -> None:
    assert converse(N1, N2) == ["Hello", "Welcome"]
    assert answer(hello(N1), N2) == Answer(N2.welcome, "n1")


def test_nodes_whose_configurations_differ_both_say_in_what() -> None:
    told = "has another cluster configuration: replication:"
    assert converse(facts("n1", replication=5), N2) == [
        "Hello",
        "Refused",
        "Differs",
        f"n1: n2 {told} 5 here, 3 there. Make both files agree and restart",
        f"n2: n1 {told} 3 here, 5 there. Make both files agree and restart",
    ]


def test_a_node_of_another_cluster_is_refused_and_shown_no_configuration() -> None:
    reason = f"this is a node of cluster {OURS.hex()}, not of {OTHERS.hex()}"
    assert converse(facts("n1", OTHERS), N2) == [
        "Hello",
        "Refused",
        f"n1: n2 refuses: {reason}",
        f"n2: n1 was refused: {reason}",
    ]
    assert answer(hello(facts("n1", OTHERS)), N2).reply == Refused(reason, "")


def test_a_member_that_should_not_dial_is_refused() -> None:
    reason = "n1 opens the connection to it, and has not yet: check its address"
    assert converse(N2, N1, "n1") == [
        "Hello",
        "Refused",
        f"n2: n1 refuses: {reason}",
        f"n1: n2 was refused: {reason}",
    ]


def test_who_reaches_another_node_than_it_meant_closes_the_connection() -> None:
    complaint = "who answers at n3's address is not n3; check the addresses"
    assert converse(N1, N2, "n3") == ["Hello", "Welcome", f"n1: {complaint}"]
    assert judge(hello(N2), N1, "n3") == (None, complaint)
    assert judge(Differs("{}"), N1, "n3") == (None, complaint)


@pytest.mark.parametrize("cluster", [b"", OURS])
@pytest.mark.parametrize("digest", [b"", N2.digest])
def test_a_client_may_leave_out_what_it_does_not_know(cluster: bytes, digest: bytes) -> None:
    answered = answer(Hello(PROTOCOL, cluster, digest, ""), N2)
    assert isinstance(answered.reply, Welcome)
    assert (answered.sender, answered.refusal) == ("", "")


@pytest.mark.parametrize(("cluster", "digest"), [(b"", N2.digest), (OURS, b"")])
def test_a_node_may_not(cluster: bytes, digest: bytes) -> None:
    assert isinstance(answer(Hello(PROTOCOL, cluster, digest, "n1"), N2).reply, Refused)


@pytest.mark.parametrize(
    ("heard", "reason"),
    [
        (Hello(PROTOCOL, OTHERS, b"", ""), "not of " + OTHERS.hex()),
        (Hello(PROTOCOL, OURS, b"another", ""), "the cluster configurations differ"),
        (Hello(PROTOCOL + 1, OTHERS, b"another", ""), f"version {PROTOCOL + 1} is not spoken here, only"),
        (Differs("{}"), "the first message must be a hello"),
    ],
)
def test_a_client_that_insists_on_something_else_is_refused_and_shown_nothing(
    heard: object, reason: str
) -> None:
    answered = answer(heard, N2)
    assert isinstance(answered.reply, Refused)
    assert reason in answered.reply.reason
    assert answered == Answer(Refused(answered.refusal, ""), "", answered.refusal)  # nothing is awaited


def test_a_version_is_judged_before_what_it_might_have_meant_otherwise() -> None:
    answered = answer(Hello(PROTOCOL - 1, OTHERS, b"another", "n1"), N2)
    assert f"protocol version {PROTOCOL - 1}" in answered.refusal
    assert not answered.differs


def test_of_a_name_that_never_ends_only_the_beginning_is_logged() -> None:
    refusal = answer(Hello(PROTOCOL - 1, OURS, N2.digest, "x" * 1000), N2).refusal
    assert refusal.startswith("x" * NAME_CHARACTERS_SHOWN + " was refused")
