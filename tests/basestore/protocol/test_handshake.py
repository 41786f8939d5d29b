"""The handshake without sockets: what a client is answered, and of what versions are made.

Covers `protocol/handshake.py`; conversations of nodes are in `test_proof.py`.
"""

from dataclasses import replace

import pytest

from basestore.protocol.handshake import (
    CLIENT_HELLO,
    BucketRow,
    Differs,
    EarlyHello,
    Hello,
    Refused,
    Renewed,
    Versions,
    Welcome,
    rows_of_buckets,
    rules_of,
    welcomed,
)
from basestore.protocol.limits import WIRE_HIGHEST, WIRE_LOWEST, ProtocolError
from basestore.protocol.proof import Answer, Challenged, answer
from basestore.repair.rule import Rule
from tests.worlds.handshakes import NONCE, facts

OTHERS = b"\xbb" * 16
N2 = facts("n2", diallers="n1")
OURS = N2.welcome.cluster


def answered_to(heard: object) -> Answer:
    answered = answer(heard, N2, NONCE)
    assert not isinstance(answered, Challenged)
    return answered


@pytest.mark.parametrize("cluster", [b"", OURS])
def test_a_client_may_leave_out_which_cluster_it_means(cluster: bytes) -> None:
    assert answered_to(CLIENT_HELLO._replace(cluster=cluster)) == Answer(N2.welcome)


@pytest.mark.parametrize(
    ("heard", "reason"),
    [
        (CLIENT_HELLO._replace(cluster=OTHERS), f"of cluster {OURS.hex()}, not of {OTHERS.hex()}"),
        (Differs("{}"), "the first message must be a hello"),
    ],
)
def test_a_client_that_insists_on_something_else_is_refused_and_shown_nothing(
    heard: object, reason: str
) -> None:
    answered = answered_to(heard)
    assert reason in answered.refusal
    assert answered == Answer(Refused(answered.refusal, ""), refusal=answered.refusal, kind=answered.kind)


@pytest.mark.parametrize("sender", ["", "n1"])
def test_who_ran_what_was_before_is_told_so_in_the_form_that_it_understands(sender: str) -> None:
    answered = answered_to(EarlyHello(7, OURS, N2.digest, sender))
    reason = f"protocol version 7 is not spoken here, only {N2.versions}; upgrade to release 0.2 or later"
    assert answered.reply == Refused(reason, "")
    assert reason in answered.refusal
    assert answered.peer == bool(sender)


@pytest.mark.parametrize(
    ("ours", "theirs", "common"),
    [
        ((8, 8), (8, 8), 8),
        ((8, 9), (8, 12), 9),
        ((8, 12), (9, 10), 10),
        ((8, 9), (9, 9), 9),
        ((8, 9), (10, 12), 0),
        ((10, 12), (8, 9), 0),
    ],
)
def test_the_highest_version_that_both_speak_is_spoken(
    ours: tuple[int, int], theirs: tuple[int, int], common: int
) -> None:
    assert Versions(*ours).common(Versions(*theirs)) == Versions(*theirs).common(Versions(*ours)) == common


def test_a_client_is_told_which_version_is_spoken_or_that_there_is_none() -> None:
    own = facts("n2", versions=(9, 11))
    told = answer(Hello(8, 10, b"", "", b""), own, NONCE)
    assert isinstance(told, Answer)
    assert isinstance(told.reply, Welcome)
    assert told.reply.version == 10
    for theirs, upgraded in (((12, 13), "n2"), ((7, 8), "it")):
        refused = answer(Hello(*theirs, b"", "", b""), own, NONCE)
        assert isinstance(refused, Answer)
        text = f"version {Versions(*theirs)} is not spoken here, only 9 to 11; upgrade {upgraded}"
        assert refused.reply == Refused(f"protocol {text}", "")


def test_a_client_goes_on_with_nothing_but_a_welcome_in_a_version_that_it_speaks() -> None:
    assert welcomed(N2.welcome) == N2.welcome
    for version in (WIRE_LOWEST - 1, WIRE_HIGHEST + 1):
        with pytest.raises(ProtocolError, match=f"it speaks version {version} of the protocol, not"):
            welcomed(N2.welcome._replace(version=version))
    with pytest.raises(ProtocolError, match="no more clients"):
        welcomed(Refused("no more clients", ""))
    with pytest.raises(ProtocolError, match="not answer a hello with a welcome"):
        welcomed(Differs("{}"))


BUCKETS = rows_of_buckets(
    [("cas", Rule.REGISTER, 3), ("ids", Rule.FIRST_WRITE_AGREED, 0), ("once", Rule.FIRST_WRITE_WINS, 0)]
)


@pytest.mark.parametrize(
    ("version", "told"), [(11, {"once"}), (12, {"cas", "cas\x003", "ids", "once"})], ids=["11", "12"]
)
def test_who_speaks_an_older_version_is_told_of_no_bucket_whose_rule_it_cannot_know(
    version: int, told: set[str]
) -> None:
    """It would close the connection for one of them."""
    own = replace(N2, welcome=N2.welcome._replace(buckets=BUCKETS))
    answered = answer(CLIENT_HELLO._replace(highest=version), own, NONCE)
    assert isinstance(answered.reply, Welcome)
    assert answered.reply.version == version
    assert {row.name for row in answered.reply.buckets} == told
    assert {row.name for row in Renewed([], BUCKETS).heard_in(version).buckets} == told


def test_a_bucket_whose_rule_is_not_known_hides_none_of_the_others() -> None:
    rows = [*BUCKETS, BucketRow("later", "of a later release"), BucketRow("later\x009", "of a later release")]
    rules = rules_of(rows)
    assert rules == rules_of(BUCKETS)
    assert rules.known_as == {"cas": "cas\x003"}
    assert not N2.welcome._replace(buckets=rows).check()
