"""Proof: what two nodes say to each other until each knows that the other holds the cluster's key, and agrees
with it on the configuration. Pure: nonces are drawn by who calls.

    who connects                                who accepts
    hello(own, nonce)             -> Hello ->   answer(heard, own, nonce)
    prove(heard, said, own, peer) <- Challenge
                                  -> Proof ->   answer_proof(heard, challenged, own, hindered)
    judge(heard, agreed, own, peer) <- Welcome, or Refused, and then perhaps Differs

A proof is a keyed hash (BLAKE2b, RFC 7693) over which side gives it, both names, both nonces and both ranges
of versions; the one of who connects covers what it tells besides. A nonce is never used again, so a proof
that was overheard proves nothing on another connection. A side never gives the proof that it asks for, so
what comes back is no proof either; nor is what was meant for a node of another name.

Whoever has not proven itself is told the same, whatever it calls itself: who asks learns no member's name.
A proof replaces no link that stands and was heard lately: of two nodes that run as one member the second is
refused, in words.

What this does not do: whoever can pass on messages at an address that a member dials is a man in the middle.
He can hand a proof on, or keep it back for as long as a handshake may last, and then be taken for the member
where no link of it stands; he reads and changes what is said after it. Only a proof that is bound to an
encrypted channel would tell (TLS, RFC 9266), and there is none yet. A configuration is told back only to
who shows that it knows the digest of the key, which is told in none but another configuration.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Final, NamedTuple

from basestore.protocol.handshake import (
    DIGEST_BYTES,
    PROOF_BYTES,
    Challenge,
    Differs,
    EarlyHello,
    Hello,
    Proof,
    Refused,
    Versions,
    Welcome,
    differences,
)

CHARACTERS_SHOWN = 300  # of what somebody else says, in a log
DIFFERENCES_SHOWN = 10
KEYLESS = "it has not proven that it holds this cluster's key"
ADVICE = "it is of another cluster, or another [cluster] key, id or partitions stands in one of the files"
JOIN_ANEW: Final = (
    "remove its file and its directory; to come back it joins anew, under another number (basestore join)"
)
LEFT: Final = "has left the cluster"  # part of the protocol: who is refused so goes by it
_HAS_LEFT: Final = f"{LEFT}, and its store holds nothing that the cluster needs: stop it, and {JOIN_ANEW}"
NUMBER_SINCE: Final = 11  # version from which on who connects says of which number it is
FOR_LIFE_SINCE: Final = 10  # version from which a proof is of what never changes, too
BY_LOG: Final = bytes(DIGEST_BYTES)  # in place of a digest: see the log
_PERSON: Final = b"basestore-peer"
_DIALS, _ACCEPTS = b"dials", b"accepts"


@dataclass(frozen=True, slots=True)
class Facts:
    """What one side knows of itself and its cluster. `welcome`: what it says to whom it lets in;
    `configuration`: the canonical text, of which `digest` is the digest; `diallers`: the names of the
    members that open the connection to this one; `formers`: the members that have left the cluster, by
    number; `address`: where it can be reached; `proof_key`: of which no message says anything; `level`: the
    cluster's feature level, below which members speak no more; `partitions`: how many, for life; `logged`:
    what the cluster is stands in a log that it follows, so the rest of configurations need not agree."""

    versions: Versions
    welcome: Welcome
    digest: bytes
    configuration: str
    diallers: Set[str]
    address: str
    proof_key: bytes = field(repr=False)
    level: int = 0
    partitions: int = 0
    logged: bool = False
    formers: Mapping[int, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.welcome.sender

    def told_digest(self, version: int) -> bytes:
        """What it tells of its configuration; and of which number it is, where that does not, to who speaks
        such a version."""
        number = number_in(self.welcome, self.name)
        if not self.logged:
            return self.digest
        return BY_LOG if version < NUMBER_SINCE or number is None else BY_LOG[:-2] + (number + 1).to_bytes(2)

    @property
    def among_members(self) -> Versions:
        """The versions that it speaks to members."""
        return self.versions._replace(lowest=max(self.versions.lowest, self.level))


class Answer(NamedTuple):
    """What who accepts answers. `sender`: the name of the node that it has proven to be, empty for a client;
    `address`: where that says it can be reached. `refusal`: why the connection is closed after the reply,
    empty if it is not. `peer`: an operator should know, for it wanted to be a node. `kind`: of the refusal,
    where who is refused has proven nothing: then it may put anything into the words. `differs`: what comes
    back may be the other side's configuration, and is worth hearing."""

    reply: Welcome | Refused
    sender: str = ""
    address: str = ""
    refusal: str = ""
    peer: bool = False
    kind: str = ""
    differs: bool = False


class Challenged(NamedTuple):
    """A node that has still to prove that it is one: what it said, and what it is answered."""

    hello: Hello
    reply: Challenge


# --- who accepts -----------------------------------------------------------------------------------


def answer(heard: object, own: Facts, nonce: bytes) -> Answer | Challenged:
    """Whether who says this first is let in, or has to prove itself. What hinders most comes first: another
    version may mean something else by the fields that follow."""
    if isinstance(heard, EarlyHello):
        reason = f"protocol version {heard.protocol} is not spoken here, only {own.versions}; upgrade"
        return _unproven(heard.sender, own, f"{reason} to release 0.2 or later")
    if not isinstance(heard, Hello):
        return refused("the first message must be a hello")
    spoken = own.among_members if heard.sender else own.versions
    version = spoken.common(heard.versions)
    if not version:
        older = "it" if heard.highest < spoken.lowest else own.name
        text = f"protocol version {heard.versions} is not spoken here, only {spoken}"
        if own.versions.common(heard.versions):  # to clients it is
            text += f", for the cluster's feature level is {own.level}"
        text += f"; upgrade {older}"
        return _unproven(heard.sender, own, text)
    if heard.sender:
        challenge = Challenge(*spoken, own.name, nonce, bytes(PROOF_BYTES))
        return Challenged(heard, challenge._replace(proof=_proof(own, _ACCEPTS, heard, challenge)))
    # A client that names no cluster takes what it finds.
    if heard.cluster not in (b"", own.welcome.cluster):
        text = f"this is a node of cluster {own.welcome.cluster.hex()}, not of {heard.cluster.hex():.100}"
        return refused(text, "a client of another cluster")
    return Answer(own.welcome.heard_in(version))


def answer_proof(
    heard: object, challenged: Challenged, own: Facts, hindered: Callable[[str, str], str]
) -> Answer:
    """What a challenged node is answered to its proof, or to whatever else it says. `hindered`: why a member
    of this name, which tells this address, is not let in just now, empty if nothing is in its way."""
    said, challenge = challenged
    name = said.sender
    if not isinstance(heard, Proof) or not compare_digest(
        heard.proof, _proof(own, _DIALS, said, challenge, heard.digest, heard.address.encode())
    ):
        return _unproven(name, own, KEYLESS, ADVICE)
    # Who follows the log, or is to, takes from there what the cluster is, whatever its file says.
    by_log = heard.digest[:-2] == BY_LOG[:-2]
    if not (own.logged or by_log or compare_digest(heard.digest, own.digest)):
        reason = "the cluster configurations differ"
        return Answer(
            Refused(reason, own.configuration), name, refusal=_told(name, reason), peer=True, differs=True
        )
    address, number = "", int.from_bytes(heard.digest[-2:]) - 1 if by_log else -1  # -1: it says none
    if name == own.name:
        reason = f"this is {name} itself; if two nodes run as {name}, stop one"
    elif own.formers.get(number) == name:
        reason = f"{name} {_HAS_LEFT}"
    elif name not in own.welcome.names.values():
        left = number < 0 and name in own.formers.values()
        reason = f"{name} {_HAS_LEFT}" if left else f"'{shown(name)}' is not a member"
    elif number not in (-1, number_in(own.welcome, name)):
        reason = _other_number(name, number, own)
    else:
        reason = hindered(name, heard.address)
        if not reason and name not in own.diallers:
            address = heard.address
            reason = f"{own.name} opens the connection to it, and has not yet: it tries {shown(address)} now"
    if reason:
        return Answer(Refused(reason, ""), name, address, _told(shown(name), reason), peer=True)
    version = own.among_members.common(said.versions)
    return Answer(own.welcome.heard_in(version), name, heard.address)


def number_in(welcome: Welcome, name: str) -> int | None:
    """The number of the member that is called so."""
    return next((member.number for member in welcome.members if member.name == name), None)


def _other_number(name: str, number: int, own: Facts) -> str:
    """Why who has this name is not who is known by it here."""
    return (
        f"it says that it is {name}, number {number}, and number {number_in(own.welcome, name)} has that "
        f"name in the cluster. If number {number} has left, stop it, and {JOIN_ANEW}. Otherwise correct its "
        f"file"
    )


def refused(reason: str, kind: str = "") -> Answer:
    """The answer to a client that is not let in."""
    return Answer(Refused(reason, ""), refusal=reason, kind=kind)


def _unproven(name: str, own: Facts, reason: str, advice: str = "") -> Answer:
    """The answer to who calls itself by this name, empty for a client. A name that is none of a member's is
    not logged: there is no end of such."""
    kind = "a proof that is none" if advice else "a version that is not spoken"
    if not name:
        return refused(reason, kind)
    who = name if name in own.welcome.names.values() else "a node"
    told = f"who called itself {who} was refused: {reason}{'; ' if advice else ''}{advice}"
    return Answer(Refused(reason, ""), refusal=told, peer=True, kind=f"{who}: {kind}")


def _told(name: str, reason: str) -> str:
    return f"{name} was refused: {reason}"


def _proof(own: Facts, role: bytes, hello: Hello, challenge: Challenge, *told: bytes) -> bytes:
    """That this role holds the key; and, where both sides speak such a version, that it is of a cluster of
    this id and so many partitions. Each part has its length before it: so no two lists of parts are the same
    bytes."""
    sides = [(side.sender.encode(), side.nonce, b"%d %d" % side.versions) for side in (hello, challenge)]
    if min(hello.highest, challenge.highest) >= FOR_LIFE_SINCE:
        told += own.welcome.cluster, b"%d" % own.partitions
    keyed = hashlib.blake2b(key=own.proof_key, digest_size=PROOF_BYTES, person=_PERSON)
    for part in (role, *sides[0], *sides[1], *told):
        keyed.update(len(part).to_bytes(4))
        keyed.update(part)
    return keyed.digest()


# --- who connects ----------------------------------------------------------------------------------


def hello(own: Facts, nonce: bytes) -> Hello:
    """The first words of a node."""
    return Hello(*own.among_members, b"", own.name, nonce)


def prove(heard: object, said: Hello, own: Facts, peer: str) -> tuple[Proof | Refused | None, str]:
    """What a node that has said hello, and meant it for `peer`, says to the answer; and why it then closes
    the connection, empty if it does not."""
    if isinstance(heard, Refused):
        return None, f"{peer} refuses: {shown(heard.reason)}"
    if not isinstance(heard, Challenge):
        return None, f"who answers at {peer}'s address does not speak as a node; check the addresses"
    if not compare_digest(heard.proof, _proof(own, _ACCEPTS, said, heard)):
        return Refused(KEYLESS, ""), f"who answers at {peer}'s address was refused: {KEYLESS}; {ADVICE}"
    if heard.sender != peer:
        return None, f"who answers at {peer}'s address is {shown(heard.sender)}; check the addresses"
    digest = own.told_digest(said.versions.common(heard.versions))
    proof = Proof(bytes(PROOF_BYTES), digest, own.address)
    return proof._replace(proof=_proof(own, _DIALS, said, heard, proof.digest, proof.address.encode())), ""


def judge(heard: object, agreed: int, own: Facts, peer: str) -> tuple[Differs | None, str]:
    """What a node makes of the answer to its proof: what it still says to it, and why it then closes the
    connection, empty if all is well. `agreed`: the highest version that both have said they speak, which
    their proofs cover."""
    if isinstance(heard, Refused) and heard.configuration:
        known = _digest_of_key(heard.configuration) == _digest_of_key(own.configuration)
        return Differs(own.configuration) if known else None, difference(own, peer, heard.configuration)
    if isinstance(heard, Refused):
        return None, f"{peer} refuses: {shown(heard.reason)}"
    if isinstance(heard, Welcome) and heard.version == agreed:
        number = number_in(heard, peer)
        if number is None:
            return None, f"{peer} says that it {_HAS_LEFT}"
        return None, "" if number == number_in(own.welcome, peer) else _other_number(peer, number, own)
    return None, f"{peer} does not answer a proof with a welcome"


def dismisses(heard: object, own: Facts) -> bool:
    """Whether who has proven itself, and is not let in with a proof, answers that this node has left."""
    return isinstance(heard, Refused) and heard.reason.startswith(f"{own.name} {LEFT}")


# --- what differs ----------------------------------------------------------------------------------


def difference(own: Facts, peer: str, theirs: str) -> str:
    """For the log: what two nodes' configurations disagree on."""
    found = differences(own.configuration, theirs)
    listed = "; ".join(map(shown, found[:DIFFERENCES_SHOWN]))
    if len(found) > DIFFERENCES_SHOWN:
        listed += f"; and {len(found) - DIFFERENCES_SHOWN} more"
    return f"{peer} has another cluster configuration: {listed}. Make both files agree and restart"


def _digest_of_key(configuration: str) -> object:
    """What it shows of the cluster's key; None where that is not to be read."""
    try:
        return json.loads(configuration).get("cluster key")
    except (ValueError, RecursionError, AttributeError):  # whoever answers may say anything
        return None


def shown(text: str) -> str:
    """The beginning of what somebody else says, as one line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:CHARACTERS_SHOWN])
