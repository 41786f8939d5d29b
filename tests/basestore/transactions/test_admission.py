"""What is refused of a transaction, and what is left out of it: an ephemeral key that has gone with its
bucket keeps nobody from the lock whose row names it. Covers `transactions/admission.py`."""

from typing import Any

import pytest

from basestore.client.calls import Calls
from basestore.client.coordination.lease import Wanted, changing, giving, taking
from basestore.client.coordination.tenure import Tenure
from basestore.client.coordination.transaction import Row
from basestore.errors import BasestoreError, InvalidRequest
from basestore.leases import LOCKS, Holding
from basestore.protocol.client import SET
from basestore.protocol.handshake import Names
from basestore.repair.version import Version
from tests.worlds.changing import create, drop
from tests.worlds.transactions import TransactionWorld, deletes, sets

HOLDER = b"h" * 16
WANTED = Wanted.of(b"jobs", 60.0, 0.0, "ada", 1.0)
AT = 1
READ_AS = Version(1, 1, 1).encode()


class Held:
    """A lock that is held by a client, with an ephemeral key in a bucket that is dropped then."""

    def __init__(self) -> None:
        self.world, self._calls = TransactionWorld(), Calls("quorum", 1.0)
        create(self.world, "carts", rule="register")
        self.tenure: Tenure = self.carry(taking(self._calls, WANTED, HOLDER))
        for bucket in ("carts", "cas"):
            change = Row(bucket, b"e", SET, b"", b"here", 0)
            self.carry(changing(self._calls, WANTED, self.tenure, change))
        drop(self.world, "carts")

    def carry(self, steps: Any) -> Any:
        """What they return; each is asked of the same node."""
        try:
            call = next(steps)
            while True:
                try:
                    told = call.read(self.world.answered(self.world.ask(AT, call.make)), Names())
                except BasestoreError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(told)
        except StopIteration as end:
            return end.value

    def give(self) -> None:
        self.carry(giving(self._calls, WANTED, self.tenure))

    def take(self) -> Tenure:
        """As its holder, who need not wait for its end."""
        tenure: Tenure = self.carry(taking(self._calls, WANTED, HOLDER))
        return tenure

    def row(self) -> Holding:
        record = self.world.stored(AT, "jobs", "\1l")
        assert record is not None
        return Holding.decode(record.value)


class TestAnEphemeralKeyWhoseBucketIsGone:
    def test_the_lock_is_given_back(self) -> None:
        held = Held()
        held.give()
        assert (held.row().holder, held.row().keys) == (b"", ())
        assert held.world.found_at(0, "e") is None

    def test_the_lock_is_taken(self) -> None:
        held = Held()
        assert held.take().row.token == 2
        assert (held.row().token, held.row().keys) == (2, ())
        assert held.world.found_at(0, "e") is None

    def test_it_is_gone_too_where_the_bucket_was_made_anew_with_another_rule(self) -> None:
        held = Held()
        create(held.world, "carts")
        held.give()
        assert not held.row().holder

    def test_it_is_not_where_this_node_may_not_know_the_bucket_yet(self) -> None:
        held = Held()
        peers = held.world.node(AT).peers
        peers.tell_epoch(peers.others[0].index, peers.epoch + 1)
        with pytest.raises(InvalidRequest, match="is behind what is decided"):
            held.give()
        assert held.row().holder

    def test_nothing_else_is_left_out(self) -> None:
        held = Held()
        lock, plain = sets("other", "1", bucket=LOCKS), sets("a", "1")
        dropped = [
            step._replace(bucket="carts") for step in (deletes("e"), deletes("e", READ_AS), sets("e", "1"))
        ]
        for steps in ((plain, dropped[0]), (lock, dropped[1]), (lock, dropped[2])):
            refused = held.world.refused(AT, *steps)
            assert refused.code == InvalidRequest.code
            assert "there is no bucket 'carts'" in refused.text
