"""Bugs of locks: when one may be taken, how long it is believed in, what is fenced, and what is left."""

from functools import partial

from basestore.client.calls import Calls
from basestore.client.coordination import lease
from basestore.client.coordination.tenure import Claim, Tenure
from basestore.transactions.ended_leases import EndedLeases
from basestore.transactions.transaction import Transaction
from tests.simulation.mutations.registry import reworded

LAW = {"locks"}
of_locks = partial(reworded, clients=None, locks=True)

of_locks(
    "locks: tokens are not counted", LAW, Claim, "look",
    "token=held.token + 1", "token=held.token",
)  # fmt: skip
of_locks(
    "locks: others end what is believed in yet", LAW, Claim, "look",
    "ENDED * held.lease_ms", "0.3 * held.lease_ms",
)  # fmt: skip
of_locks(
    "locks: who sees that a lock has changed counts on", LAW, Claim, "look",
    "if found.version != self._seen:", "if self._seen is None:",
)  # fmt: skip
of_locks(
    "locks: it is taken whatever it holds by now", LAW, Calls, "write_lock",
    "condition_of(UNSET if version is None else version, version is None, UNSET, False)",
    "condition_of(UNSET, False, UNSET, False)",
)  # fmt: skip
of_locks(
    "locks: a renewal counts from when it was answered", LAW, Tenure, "renewed",
    "max(sent_s, self._sent_s)", "max(sent_s, self._sent_s) + self.row.lease_ms / 1e3",
)  # fmt: skip
of_locks(
    "locks: a lock that is given back forgets its tokens", LAW, lease, "giving",
    "free, before = tenure.row.free.encode()", "free, before = tenure.row.free._replace(token=1).encode()",
)  # fmt: skip
of_locks(
    "locks: a fence that is passed holds nevertheless", LAW, Transaction, "_holds",
    "encode_token(token_held(record)) == part.expected", "True",
)  # fmt: skip
of_locks(
    "locks: a fence holds while anybody has the lock", LAW, Transaction, "_holds",
    "encode_token(token_held(record)) == part.expected", "token_held(record) > 0",
)  # fmt: skip
of_locks(
    "locks: the home ends what is believed in yet", LAW, EndedLeases, "_look",
    "ENDED * holding.lease_ms", "0.3 * holding.lease_ms",
)  # fmt: skip
of_locks(
    "locks: nobody ends what the dead have held", LAW, EndedLeases, "tick",
    "if is_home(self._context, partition):", "if False:",
)  # fmt: skip
of_locks(
    "locks: the home leaves what is ephemeral", LAW, EndedLeases, "_end",
    "for bucket, key in holding.keys:", "for bucket, key in ():",
)  # fmt: skip
of_locks(
    "locks: who takes a lock leaves what is ephemeral", LAW, lease, "_take",
    "rows = [Row(LOCKS, wanted.name, SET, take.version.encode(), row, 0), *_ended(take.ends.keys)]",
    "rows = [Row(LOCKS, wanted.name, SET, take.version.encode(), row, 0)]",
)  # fmt: skip
of_locks(
    "locks: who gives a lock back leaves what is ephemeral", LAW, lease, "giving",
    "*_ended(tenure.row.keys)]", "]",
)  # fmt: skip
of_locks(
    "locks: another's renewal is taken for its own", LAW, lease, "_found_anew",
    "(row.holder, row.token) != (tenure.row.holder, tenure.row.token)", "False",
)  # fmt: skip
of_locks(
    "locks: who may not stamp in that moment ends nothing", LAW, EndedLeases, "_end",
    "self._begin(parts, ENDING_S, now)",
    "context.stamper._clock.ready(now.wall_ms) and self._begin(parts, ENDING_S, now)",
)  # fmt: skip
