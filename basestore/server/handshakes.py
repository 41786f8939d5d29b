"""Handshakes: carries the first words between this node and whoever connects to it, or whom it connects to.

Owns the nonces, which are drawn here, and what this node says of itself and of its cluster, the addresses of
the members included. What is said and who is let in is decided in `protocol/handshake.py` and
`protocol/proof.py`; whether there is room, and what becomes of the connection afterwards, is for
`connections`.
"""

import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from basestore.cluster.addresses import Addresses
from basestore.cluster.peer import Peer
from basestore.config import NodeConfig
from basestore.errors import ConfigurationError
from basestore.protocol.handshake import (
    BEFORE,
    NONCE_BYTES,
    Challenge,
    Differs,
    MemberRow,
    Versions,
    Welcome,
    rows_of_buckets,
)
from basestore.protocol.limits import WIRE_LOWEST, ProtocolError
from basestore.protocol.membership import NOWHERE
from basestore.protocol.proof import (
    Answer,
    Challenged,
    Facts,
    answer,
    answer_proof,
    difference,
    dismisses,
    hello,
    judge,
    number_in,
    prove,
    shown,
)
from basestore.server.link import Ended, Link, dial
from basestore.topology.buckets import Buckets
from basestore.topology.topology import Topology
from basestore.transport.frames import WELCOME_BYTES_MAX

HANDSHAKE_S_MAX = 5.0
_ANYBODY = "who joins"  # no member has a name with a space
Complain = Callable[[int, str], None]


class NotMet(ProtocolError):
    """A handshake came to nothing. `kind`: of refusal, where the other side has proven nothing, so that the
    words may be any; `peer`: it was to be a node, and an operator should know."""

    def __init__(self, text: str, kind: str = "", *, peer: bool = True) -> None:
        super().__init__(text)
        self.kind = kind
        self.peer = peer


class Dismissed(NotMet):
    """A member that has proven to hold the cluster's key says that this node has left the cluster."""


class Handshakes:
    """Of one node. `seat`: the answer to a client, or another one where there is no slot for it; `stir`: a
    stranger has said something; `hindered`: why a member, which tells an address, is not let in just now;
    `known`: the cluster's feature level, and its topology if it has one."""

    def __init__(
        self,
        config: NodeConfig,
        complain: Complain,
        seat: Callable[[Answer], Answer],
        stir: Callable[[Link], None],
        hindered: Callable[[str, str], str],
        known: Callable[[], tuple[int, Topology | None]],
    ) -> None:
        self._complain = complain
        self._seat = seat
        self._stir = stir
        self._hindered = hindered
        self._number = config.member.number
        self._addresses = Addresses(config.cluster.members, self._number)
        self._known = known
        self._facts, self._epoch = facts_of(config), NOWHERE

    @property
    def addresses(self) -> Addresses:
        """Of the members that there are at the moment, as far as they are known."""
        self._follow()
        return self._addresses

    @property
    def _own(self) -> Facts:
        """What this node says of itself, as things are at the moment."""
        self._follow()
        return self._facts

    def _follow(self) -> None:
        """By the level and the topology that are in use."""
        level, topology = self._known()
        epoch = NOWHERE if topology is None else topology.epoch
        if level == self._facts.level and epoch == self._epoch:
            return
        self._facts, self._epoch = replace(self._facts, level=level, logged=topology is not None), epoch
        if topology is not None:
            rows = rows_of_buckets(Buckets({}, topology=topology).rows())
            members = [MemberRow(each.number, each.name, each.address) for each in topology.present]
            last = topology.members[-1].number  # who has a later one has yet to come, by entries that follow
            members += [each for each in self._facts.welcome.members if each.number > last]
            welcome = self._facts.welcome._replace(members=members, buckets=rows)
            diallers = frozenset(each.name for each in members if each.number < self._number)
            self._facts = replace(self._facts, welcome=welcome, diallers=diallers, formers=topology.formers)
            self._addresses.adopt({each.number: each.address for each in members})

    async def admit(self, link: Link) -> str:
        """Hear a hello and answer it. Returns the node's name, or "" for a client; ProtocolError when it was
        refused."""
        own = self._own
        answered = answer(await link.receive_one(), own, secrets.token_bytes(NONCE_BYTES))
        if isinstance(answered, Challenged):
            self._stir(link)
            await link.send(answered.reply)
            answered = answer_proof(await link.receive_one(), answered, own, self._hindered)
        elif isinstance(answered.reply, Welcome):
            answered = self._seat(answered)
        if answered.address:
            self._tell(answered.sender, answered.address)
        reply, refusal = answered.reply, answered.refusal
        if isinstance(reply, Welcome):
            link.speak(reply.version)
            reply = reply._replace(members=self._members(reply))
        await link.send(reply)
        if answered.differs:
            link.hear_out(WELCOME_BYTES_MAX)
            heard = await link.receive_one()
            if isinstance(heard, Differs):
                refusal = difference(own, answered.sender, heard.configuration)
        if refusal:
            raise NotMet(refusal, answered.kind, peer=answered.peer)
        return answered.sender

    async def introduce(self, link: Link, peer: str) -> None:
        """Say hello to a member, and prove to it who this is as it does; ProtocolError when it refuses, or is
        another; Dismissed when it has proven itself, and says that this node has left."""
        own = self._own
        said = hello(own, secrets.token_bytes(NONCE_BYTES))
        await link.send(said)
        unproven = f"what answers at {peer}'s address"
        try:
            heard = await link.receive_one()
        except Ended as error:
            text = f"{peer} {BEFORE}, which cannot be in one cluster with this one: upgrade it"
            raise NotMet(text, unproven) from error
        except ProtocolError as error:
            raise NotMet(str(error), unproven) from error
        word, complaint = prove(heard, said, own, peer)
        if word is not None:
            await link.send(word)
        if complaint or not isinstance(heard, Challenge):
            raise NotMet(complaint, unproven)
        link.hear_out(WELCOME_BYTES_MAX)
        welcome = await link.receive_one()
        last_word, complaint = judge(welcome, said.versions.common(heard.versions), own, peer)
        if last_word is not None:
            await link.send(last_word)
        if complaint:
            raise (Dismissed if dismisses(welcome, own) else NotMet)(complaint)
        if isinstance(welcome, Welcome):  # it is, if there is no complaint
            link.speak(welcome.version)
            for member in welcome.members:
                if member.name == peer:
                    self._tell(peer, member.address)

    @asynccontextmanager
    async def met(self, peer: Peer) -> AsyncIterator[Link]:
        """A connection to a member that has proven to be it, and let this node in."""
        met, number = False, peer.number
        try:
            link = await dial(address := self.addresses.to_dial(number))
            try:
                with link.scope:
                    with trio.fail_after(HANDSHAKE_S_MAX):
                        await self.introduce(link, peer.name)
                    met = True
                    self.addresses.found(number, address)
                    yield link
            finally:
                link.close()
        finally:
            if not met:
                self.addresses.missed(number)

    def _members(self, welcome: Welcome) -> list[MemberRow]:
        """The members, where they are to be found, as far as this node knows, less those that have left while
        that was made."""
        addresses = self.addresses
        there = [member for member in welcome.members if member.number in addresses]
        return [member._replace(address=addresses.known(member.number)) for member in there]

    def _tell(self, peer: str, address: str) -> None:
        """A member that has proven itself says where it can be reached."""
        number = number_in(self._own.welcome, peer)
        if number is None:  # it has just left
            return
        try:
            if self.addresses.tell(number, address):
                text = f"{peer} says that its address is {address}, and is looked for there from now on"
                self._complain(logging.INFO, f"{text}; correct it in this node's file")
        except ConfigurationError as error:
            text = f"{peer} tells an address that is none: {shown(str(error))}. Correct its file"
            known = self.addresses.known(number)
            self._complain(logging.WARNING, f"{text}; meanwhile it is looked for at {known}")


async def meet(address: str, config: NodeConfig) -> None:
    """Have whoever is there prove that it holds the key of this cluster, and part. NotMet if it does not;
    OSError, ProtocolError, TooSlowError."""
    link, own = await dial(address), facts_of(config)
    try:
        with trio.fail_after(HANDSHAKE_S_MAX):
            said = hello(own, secrets.token_bytes(NONCE_BYTES))._replace(sender=_ANYBODY)
            await link.send(said)
            heard = await link.receive_one()
    finally:
        link.close()
    peer = heard.sender if isinstance(heard, Challenge) else address
    _, complaint = prove(heard, said, own, peer)
    if complaint:
        raise NotMet(complaint)


def facts_of(config: NodeConfig) -> Facts:
    """What this node says of itself and of its cluster in a handshake."""
    cluster = config.cluster
    members = [MemberRow(member.number, member.name, member.address) for member in cluster.members]
    buckets = rows_of_buckets(Buckets(cluster.buckets).rows())
    versions = Versions(WIRE_LOWEST, config.wire_highest)
    welcome = Welcome(versions.highest, cluster.id, config.name, cluster.timeout_ms_max, members, buckets)
    # The members before this one open the connection to it.
    diallers = frozenset(member.name for member in cluster.members[: cluster.member_index(config.name)])
    address, key = config.member.address, cluster.proof_key
    return Facts(
        versions, welcome, cluster.digest, cluster.canonical(), diallers, address, key,
        partitions=cluster.partitions,
    )  # fmt: skip
