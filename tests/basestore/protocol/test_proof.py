"""Two nodes prove to each other that they hold the cluster's key, without sockets: whole conversations, what
each writes to its log, and every way in which a proof could be used for something else.

Covers `protocol/proof.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b

import pytest

from basestore.protocol.codec import Message, encode
from basestore.protocol.handshake import (
    CLIENT_HELLO,
    Challenge,
    Differs,
    Hello,
    MemberRow,
    Proof,
    Refused,
    Versions,
    Welcome,
    rows_of_buckets,
)
from basestore.protocol.limits import WIRE_LOWEST
from basestore.protocol.proof import (
    ADVICE,
    BY_LOG,
    CHARACTERS_SHOWN,
    DIFFERENCES_SHOWN,
    JOIN_ANEW,
    KEYLESS,
    NUMBER_SINCE,
    Answer,
    Challenged,
    Facts,
    answer,
    answer_proof,
    difference,
    dismisses,
    hello,
    judge,
    prove,
)
from basestore.repair.rule import Rule
from tests.worlds.handshakes import NONCE, OTHER_NONCE, facts
from tests.worlds.messages import EXAMPLES

OURS, OTHERS = b"\xaa" * 16, b"\xbb" * 16
WRONG = b"w" * 32
N1 = facts("n1", address="10.0.0.1:7400")
N2 = facts("n2", diallers="n1")
N3 = facts("n3", diallers="n1 n2")


def challenged(said: Hello, own: Facts, nonce: bytes = OTHER_NONCE) -> Challenged:
    answered = answer(said, own, nonce)
    assert isinstance(answered, Challenged)
    return answered


def answered_proof(word: object, asked: Challenged, own: Facts) -> Answer:
    """Where nothing is in a member's way."""
    return answer_proof(word, asked, own, lambda name, address: "")


def agreed(dialler: Facts, acceptor: Facts) -> int:
    return dialler.among_members.common(acceptor.among_members)


def proof_of(own: Facts, said: Hello, challenge: Challenge, peer: str) -> Proof:
    proof, complaint = prove(challenge, said, own, peer)
    assert isinstance(proof, Proof), complaint
    return proof


def converse(dialler: Facts, acceptor: Facts, peer: str = "n2") -> tuple[list[Message], list[str]]:
    """What a node and the one that it dials say in turn, and what each complains of."""
    said: list[Message] = [hello(dialler, NONCE)]
    first = answer(said[0], acceptor, OTHER_NONCE)
    said.append(first.reply)
    word, complaint = prove(first.reply, hello(dialler, NONCE), dialler, peer)
    said += [word] if word is not None else []
    answered = first if isinstance(first, Answer) else None
    if isinstance(first, Challenged) and word is not None:
        answered = answered_proof(word, first, acceptor)
    refusal = answered.refusal if answered is not None else ""
    if not complaint:
        assert answered is not None
        said.append(answered.reply)
        last_word, complaint = judge(answered.reply, agreed(dialler, acceptor), dialler, peer)
        if answered.differs:
            assert last_word is not None  # it is waited for
            said.append(last_word)
            refusal = difference(acceptor, answered.sender, last_word.configuration)
    lines = [f"{dialler.name}: {complaint}"] if complaint else []
    return said, lines + ([f"{acceptor.name}: {refusal}"] if refusal else [])


def kinds(said: list[Message]) -> list[str]:
    return [type(message).__name__ for message in said]


def test_a_member_that_dials_proves_itself_and_is_welcome() -> None:
    said, complaints = converse(N1, N2)
    assert kinds(said) == ["Hello", "Challenge", "Proof", "Welcome"]
    assert complaints == []
    answered = answered_proof(said[2], challenged(hello(N1, NONCE), N2), N2)
    assert answered == Answer(N2.welcome, "n1", "10.0.0.1:7400")


def test_nodes_whose_configurations_differ_both_say_in_what() -> None:
    told = "has another cluster configuration: replication:"
    said, complaints = converse(facts("n1", replication=5), N2)
    assert kinds(said) == ["Hello", "Challenge", "Proof", "Refused", "Differs"]
    assert complaints == [
        f"n1: n2 {told} 5 here, 3 there. Make both files agree and restart",
        f"n2: n1 {told} 3 here, 5 there. Make both files agree and restart",
    ]


def test_a_node_with_another_key_is_refused_and_told_nothing_and_both_logs_say_what_to_look_at() -> None:
    stranger = facts("n1", cluster=OTHERS, key=b"x" * 32)
    said, complaints = converse(stranger, N2)
    assert kinds(said) == ["Hello", "Challenge", "Refused"]
    assert complaints == [
        f"n1: who answers at n2's address was refused: {KEYLESS}; {ADVICE}",
        f"n2: who called itself n1 was refused: {KEYLESS}; {ADVICE}",
    ]


def secrets_of(own: Facts) -> list[bytes]:
    return [own.welcome.cluster, own.digest, own.configuration.encode(), b"n3", own.proof_key]


@pytest.mark.parametrize("proof", ["none", "wrong", "anything"])
def test_nothing_that_only_members_know_is_said_before_the_proof_of_the_other(proof: str) -> None:
    said: list[Message] = [hello(N1, NONCE)]
    asked = challenged(hello(N1, NONCE), N2)
    word, _ = prove(asked.reply._replace(proof=WRONG), hello(N1, NONCE), N1, "n2")
    assert isinstance(word, Refused)
    heard: object = {"none": Refused("no", ""), "wrong": Proof(WRONG, N2.digest, ""), "anything": None}[proof]
    answered = answered_proof(heard, asked, N2)
    assert answered.sender == answered.address == ""
    said += [asked.reply, word, answered.reply]
    for message in said:
        for secret in secrets_of(N2):
            assert secret not in encode([message]), message


def test_a_recorded_proof_proves_nothing_on_another_connection() -> None:
    said = hello(N1, NONCE)
    recorded = proof_of(N1, said, challenged(said, N2).reply, "n2")
    assert answered_proof(recorded, challenged(said, N2), N2).sender == "n1"  # the very same connection
    again = challenged(said, N2, b"3" * 16)
    assert answered_proof(recorded, again, N2).reply == Refused(KEYLESS, "")
    # Nor does a recorded challenge to a node that has drawn another nonce.
    word, complaint = prove(challenged(said, N2).reply, hello(N1, b"4" * 16), N1, "n2")
    assert word == Refused(KEYLESS, "")
    assert KEYLESS in complaint


def test_a_proof_that_comes_back_is_none() -> None:
    said = hello(N1, NONCE)
    asked = challenged(said, N2)
    own = Proof(asked.reply.proof, N2.digest, "")
    assert answered_proof(own, asked, N2).reply == Refused(KEYLESS, "")
    # Who has no key can make n2 challenge itself: by n2's name, with the nonce that n2 has given.
    mirrored = challenged(Hello(*N2.versions, b"", "n2", asked.reply.nonce), N2, asked.reply.nonce)
    assert answered_proof(Proof(mirrored.reply.proof, N2.digest, ""), mirrored, N2).reply == Refused(
        KEYLESS, ""
    )
    # The same to who dials: it is sent its own proof.
    proof = proof_of(N1, said, asked.reply, "n2")
    word, _ = prove(asked.reply._replace(proof=proof.proof), said, N1, "n2")
    assert word == Refused(KEYLESS, "")


def test_what_is_relayed_under_another_name_is_no_proof() -> None:
    said = hello(N1, NONCE)
    # n1 wants n2 and reaches somebody who hands its hello on to n3.
    word, complaint = prove(challenged(said, N3).reply, said, N1, "n2")
    assert word is None
    assert complaint == "who answers at n2's address is n3; check the addresses"
    word, _ = prove(challenged(said, N3).reply._replace(sender="n2"), said, N1, "n2")
    assert word == Refused(KEYLESS, "")
    # The proof of n1 to n2 is handed to n3, which was given the nonces of both.
    asked = challenged(said, N2)
    proof = proof_of(N1, said, asked.reply, "n2")
    assert answered_proof(proof, challenged(said, N3, asked.reply.nonce), N3).reply == Refused(KEYLESS, "")
    # And the one of n2 that dials n3 is no proof of n1's.
    other = hello(N2, NONCE)
    proof = proof_of(N2, other, challenged(other, N3).reply, "n3")
    assert answered_proof(proof, challenged(other, N3), N3).sender == "n2"
    assert answered_proof(proof, challenged(said, N3), N3).reply == Refused(KEYLESS, "")


def test_who_alters_what_was_said_spoils_the_proof() -> None:
    wide = (8, 9)
    dialler, acceptor = facts("n1", versions=wide), facts("n2", diallers="n1", versions=wide)
    said = hello(dialler, NONCE)
    asked = challenged(said, acceptor)
    proof = proof_of(dialler, said, asked.reply, "n2")
    assert answered_proof(proof, asked, acceptor).sender == "n1"
    older = challenged(said._replace(highest=8), acceptor)
    assert prove(older.reply, said, dialler, "n2")[0] == Refused(KEYLESS, "")
    assert prove(asked.reply._replace(highest=8), said, dialler, "n2")[0] == Refused(KEYLESS, "")
    for altered in (proof._replace(address="6.6.6.6:7400"), proof._replace(digest=bytes(16))):
        assert answered_proof(altered, asked, acceptor).reply == Refused(KEYLESS, "")


def test_a_proof_is_made_of_what_it_is_said_to_be_made_of() -> None:
    """Releases must agree on it, so it is written down here once more: the role comes first."""

    def made(role: bytes, *told: bytes) -> bytes:
        parts = [role, b"n1", NONCE, b"8 9", b"n2", OTHER_NONCE, b"8 8", *told]
        whole = b"".join(len(part).to_bytes(4) + part for part in parts)
        return blake2b(whole, key=N1.proof_key, digest_size=32, person=b"basestore-peer").digest()

    dialler, acceptor = facts("n1", versions=(8, 9)), facts("n2", versions=(8, 8))
    said = hello(dialler, NONCE)
    asked = challenged(said, acceptor)
    assert asked.reply.proof == made(b"accepts")
    proof = proof_of(dialler, said, asked.reply, "n2")
    assert proof.proof == made(b"dials", dialler.digest, dialler.address.encode())


def test_where_a_part_of_a_proof_ends_is_part_of_it() -> None:
    """Else who speaks versions up to 88 and reaches n2 could be taken for one up to 8 who reaches 8n2."""
    one = challenged(Hello(8, 88, b"", "n1", NONCE), facts("n2")).reply.proof
    other = challenged(Hello(8, 8, b"", "n1", NONCE), facts("8n2")).reply.proof
    assert one != other


def test_a_member_that_should_not_dial_is_refused_and_its_address_is_kept() -> None:
    said, complaints = converse(N2, N1, "n1")
    reason = f"n1 opens the connection to it, and has not yet: it tries {N2.address} now"
    assert kinds(said) == ["Hello", "Challenge", "Proof", "Refused"]
    assert complaints == [f"n2: n1 refuses: {reason}", f"n1: n2 was refused: {reason}"]
    answered = answered_proof(said[2], challenged(hello(N2, NONCE), N1), N1)
    assert (answered.sender, answered.address) == ("n2", N2.address)


def test_who_holds_the_key_and_is_no_member_is_told_so() -> None:
    _, complaints = converse(facts("n9"), N2)
    assert complaints == ["n9: n2 refuses: 'n9' is not a member", "n2: n9 was refused: 'n9' is not a member"]


@pytest.mark.parametrize("name", ["n1", "n9", "n" * 1000])
def test_who_has_proven_nothing_learns_no_name_and_fills_no_log(name: str) -> None:
    """Whatever it calls itself it is answered the same, and what is logged is one of few lines."""
    asked = challenged(Hello(*N2.versions, b"", name, NONCE), N2)
    answered = answered_proof(Proof(WRONG, N2.digest, ""), asked, N2)
    who = "n1" if name == "n1" else "a node"
    assert answered.reply == Refused(KEYLESS, "")
    assert answered.refusal == f"who called itself {who} was refused: {KEYLESS}; {ADVICE}"


def test_the_highest_version_that_both_speak_is_agreed_on_and_covered_by_the_proof() -> None:
    acceptor = facts("n2", diallers="n1", versions=(9, 12))
    said, complaints = converse(facts("n1", versions=(8, 10)), acceptor)
    welcome = said[-1]
    assert isinstance(welcome, Welcome)
    assert welcome.version == 10
    assert complaints == []


@pytest.mark.parametrize(("theirs", "upgraded"), [((10, 12), "n2"), ((6, 7), "it")])
def test_nodes_that_speak_no_common_version_say_which_ones_they_speak(
    theirs: tuple[int, int], upgraded: str
) -> None:
    own = facts("n2", diallers="n1", versions=(8, 9))
    reason = f"protocol version {Versions(*theirs)} is not spoken here, only 8 to 9; upgrade {upgraded}"
    said, complaints = converse(facts("n1", versions=theirs), own)
    assert kinds(said) == ["Hello", "Refused"]
    assert complaints == [f"n1: n2 refuses: {reason}", f"n2: who called itself n1 was refused: {reason}"]


def test_members_speak_nothing_below_the_feature_level_and_clients_may() -> None:
    old, new = facts("n1", versions=(8, 8)), replace(facts("n2", diallers="n1", versions=(8, 9)), level=9)
    told = "protocol version 8 is not spoken here, only 9, for the cluster's feature level is 9; upgrade it"
    said, complaints = converse(old, new)
    assert kinds(said) == ["Hello", "Refused"]
    assert complaints == [f"n1: n2 refuses: {told}", f"n2: who called itself n1 was refused: {told}"]
    old, new = facts("n2", diallers="n1", versions=(8, 8)), replace(facts("n1", versions=(8, 9)), level=9)
    said, complaints = converse(new, old)
    assert kinds(said) == ["Hello", "Refused"]
    assert complaints[0] == "n1: n2 refuses: protocol version 9 is not spoken here, only 8; upgrade n2"
    answered = answer(CLIENT_HELLO._replace(highest=8), new, NONCE)
    assert isinstance(answered, Answer)
    assert isinstance(answered.reply, Welcome)
    assert answered.reply.version == 8


@pytest.mark.parametrize("heard", [Differs("{}"), N2.welcome, hello(N2, NONCE)])
def test_who_answers_a_hello_with_something_else_is_no_node(heard: Message) -> None:
    complaint = "who answers at n2's address does not speak as a node; check the addresses"
    assert prove(heard, hello(N1, NONCE), N1, "n2") == (None, complaint)


@pytest.mark.parametrize(
    "heard", [Differs("{}"), hello(N2, NONCE), N2.welcome._replace(version=N1.versions.highest + 1)]
)
def test_who_answers_a_proof_with_something_else_is_not_served(heard: Message) -> None:
    assert judge(heard, agreed(N1, N2), N1, "n2") == (None, "n2 does not answer a proof with a welcome")


def test_a_welcome_to_a_version_that_both_speak_and_have_not_agreed_on_is_none() -> None:
    """Else who changes it could have one side speak another version than the other."""
    for version in (8, 9):
        found = judge(N2.welcome._replace(version=version), 9, N1, "n2")
        assert found == (None, "" if version == 9 else "n2 does not answer a proof with a welcome")


@pytest.mark.parametrize("own", [N1, N2])
def test_who_is_hindered_is_told_why_and_its_address_is_not_kept(own: Facts) -> None:
    """Whether it should dial, as n1 does here, or not."""
    acceptor = N2 if own is N1 else N1
    said = hello(own, NONCE)
    asked = challenged(said, acceptor)
    proof = proof_of(own, said, asked.reply, acceptor.name)
    answered = answer_proof(proof, asked, acceptor, lambda name, address: f"{name} at {address} waits")
    reason = f"{own.name} at {own.address} waits"
    told = f"{own.name} was refused: {reason}"
    assert answered == Answer(Refused(reason, ""), own.name, refusal=told, peer=True)


def test_who_comes_by_the_own_name_of_who_accepts_tells_no_address() -> None:
    said, complaints = converse(N2, N2)
    assert kinds(said) == ["Hello", "Challenge", "Proof", "Refused"]
    assert "this is n2 itself; if two nodes run as n2, stop one" in complaints[1]
    assert answered_proof(said[2], challenged(hello(N2, NONCE), N2), N2).address == ""


@pytest.mark.parametrize("theirs", ["{}", "[1]", "nonsense", '{"cluster key": "of another one"}'])
def test_who_does_not_show_that_it_knows_the_key_gets_no_configuration(theirs: str) -> None:
    """It may have handed on what others have proven."""
    word, complaint = judge(Refused("they differ", theirs), 9, N1, "n2")
    assert word is None
    assert "another cluster configuration" in complaint


def test_what_differs_is_shown_in_one_line_and_no_more_of_it_than_a_log_bears() -> None:
    theirs = {f"{number} \n2026-11-29 ERROR n1: all is lost\x1b[2J": "x" * 1000 for number in range(100)}
    line = difference(N1, "n2", json.dumps(theirs))
    assert line.isprintable()
    assert "0 ?2026-11-29 ERROR" in line
    assert f"and {103 - DIFFERENCES_SHOWN} more. Make both" in line
    assert len(line) < (DIFFERENCES_SHOWN + 1) * CHARACTERS_SHOWN


def test_before_its_proof_nobody_gets_a_configuration_for_one_of_its_own() -> None:
    word, complaint = prove(Refused("differs", "{}"), hello(N1, NONCE), N1, "n2")
    assert (word, complaint) == (None, "n2 refuses: differs")


def test_of_what_others_say_a_log_shows_the_beginning_in_one_line() -> None:
    _, complaint = prove(Refused("no\nn1: all is well\x1b[31m" + "x" * 1000, ""), hello(N1, NONCE), N1, "n2")
    assert complaint.startswith("n2 refuses: no?n1: all is well?[31mxx")
    assert len(complaint) == CHARACTERS_SHOWN + len("n2 refuses: ")


def test_the_key_of_proofs_is_not_shown() -> None:
    assert repr(N1.proof_key) not in repr(N1)


# --- members that come and leave -------------------------------------------------------------------


def logged(own: Facts, *, formers: Mapping[int, str] | None = None, **numbers: int) -> Facts:
    """Of a node that follows the log, in which these members are."""
    rows = [MemberRow(number, name, f"{name}:7400") for name, number in numbers.items()]
    welcome = own.welcome._replace(members=rows or own.welcome.members)
    return replace(own, welcome=welcome, logged=True, formers=formers or {})


@pytest.mark.parametrize("members", [{"n2": 1, "n3": 2}, {"n1": 7, "n2": 1}])
def test_who_has_left_is_told_so_whoever_has_its_name_by_now(members: dict[str, int]) -> None:
    said, (told, heard) = converse(logged(N1), logged(N2, formers={0: "n1"}, **members))
    for text in (told, heard):
        assert "n1 has left the cluster, and its store holds nothing that the cluster needs" in text
        assert JOIN_ANEW in text
    assert dismisses(said[-1], logged(N1))


def test_a_name_that_another_number_has_by_now_is_refused_to_who_had_it() -> None:
    said, (told, heard) = converse(logged(N1), logged(N2, formers={3: "n1"}, n1=7, n2=1))
    for text in (told, heard):
        assert "it says that it is n1, number 0, and number 7 has that name in the cluster" in text
    assert not dismisses(said[-1], logged(N1))


def test_that_who_refuses_has_left_itself_dismisses_nobody() -> None:
    assert not dismisses(Refused("n2 has left the cluster", ""), N1)
    assert not dismisses(EXAMPLES[Welcome], N1)


def test_who_is_dialled_and_is_another_number_is_refused() -> None:
    _, (told,) = converse(logged(N1, n1=0, n2=5), logged(N2))
    assert "it says that it is n2, number 1, and number 5 has that name" in told


def test_who_is_dialled_and_has_left_by_its_own_word_is_left_alone() -> None:
    _, (told,) = converse(logged(N1), logged(N2, n1=0, n3=2))
    assert "n2 says that it has left the cluster" in told


@pytest.mark.parametrize("versions", [(10, 10), (10, 11)])
def test_to_an_earlier_release_no_number_is_said(versions: tuple[int, int]) -> None:
    said, told = converse(logged(N1), logged(replace(N2, versions=Versions(*versions))))
    (proof,) = [each for each in said if isinstance(each, Proof)]
    assert (proof.digest == BY_LOG) is (versions[1] < NUMBER_SINCE)
    assert told == []


@pytest.mark.parametrize(("version", "told"), [(11, ["once"]), (12, ["cas", "once"])])
def test_a_member_of_an_older_version_is_told_of_no_bucket_whose_rule_it_cannot_know(
    version: int, told: list[str]
) -> None:
    buckets = rows_of_buckets([("cas", Rule.REGISTER, 0), ("once", Rule.FIRST_WRITE_WINS, 0)])
    acceptor = replace(N2, welcome=N2.welcome._replace(buckets=buckets))
    dialler = replace(N1, versions=Versions(WIRE_LOWEST, version))
    said = hello(dialler, NONCE)
    asked = challenged(said, acceptor)
    reply = answered_proof(proof_of(dialler, said, asked.reply, "n2"), asked, acceptor).reply
    assert isinstance(reply, Welcome)
    assert (reply.version, [row.name for row in reply.buckets]) == (version, told)
