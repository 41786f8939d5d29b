"""A bank: clients that move money between few accounts, a transaction each, and note what they are told.

Each transfer writes a key of its own with what it moves, in the same transaction. So what was done can be
read in the end: all that was told to be committed, nothing of what was told not to be, and of what is not
known all or nothing; and each account holds what these make together.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial

from basestore import sync
from basestore.errors import BasestoreError, Unavailable
from tests.cluster.working import Working
from tests.worlds.patience import eventually

BUCKET = "cas"
ACCOUNTS = [f"account/{number}" for number in range(5)]
BALANCE = 100
TRANSFERS = "transfer/"
CLIENTS = 3
AMOUNT_MAX = 20
AUDITS_SHARE = 0.2
PAUSE_S = 0.02
COMMITTED, NOT_DONE, UNKNOWN = "committed", "not done", "unknown"


class Bank(Working):
    """Clients at work for the length of a `with` block. `told`: by the key of each transfer; `counts`: of
    what."""

    def __init__(self, endpoints: Sequence[str], *, seed: int) -> None:
        super().__init__()
        self.told: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self._endpoints = list(endpoints)
        self._begin([self._work(client, random.Random(f"{seed} {client}")) for client in range(CLIENTS)])

    def open_accounts(self) -> None:
        """Before the block begins."""
        with sync.connect(self._endpoints) as store:
            for account in ACCOUNTS:
                eventually(partial(self._open, store, account), f"{account} is opened")

    def _open(self, store: sync.SyncStore, account: str) -> bool:
        with suppress(Unavailable):  # the bucket is made some seconds after the cluster
            return bool(store.set(account, str(BALANCE), bucket=BUCKET))
        return False

    def wait_for(self, transfers: int) -> None:
        """Until so many more have been committed."""
        goal = self.counts[COMMITTED] + transfers
        eventually(lambda: self.counts[COMMITTED] >= goal or self._failures, f"{transfers} more transfers")

    def _failed(self) -> None:
        self._stop.set()

    def _work(self, client: int, draw: random.Random) -> Callable[[], None]:
        def work() -> None:
            with ExitStack() as stack:
                stores = [stack.enter_context(sync.connect(each)) for each in self._endpoints]
                number = 0
                while not self._stop.is_set():
                    store = draw.choice(stores)
                    if draw.random() < AUDITS_SHARE:
                        self._audit(store)
                        continue
                    number += 1
                    self._transfer(store, f"{TRANSFERS}{client}/{number}", draw)

        return work

    def _transfer(self, store: sync.SyncStore, key: str, draw: random.Random) -> None:
        giver, taker = draw.sample(ACCOUNTS, 2)
        amount = draw.randint(1, AMOUNT_MAX)
        outcome = COMMITTED
        try:
            with store.transaction(timeout=draw.choice((0.5, 2.0))) as t:
                has, gets = (int(t.get(account).value or b"") for account in (giver, taker))
                t.set(giver, str(has - amount))
                t.set(taker, str(gets + amount))
                t.set(key, f"{giver} {taker} {amount}")
        except BasestoreError as error:
            outcome = NOT_DONE if error.definite else UNKNOWN
            self._stop.wait(PAUSE_S)
        with self._lock:
            self.told[key] = outcome
            self.counts[outcome] += 1

    def _audit(self, store: sync.SyncStore) -> None:
        try:
            with store.transaction(timeout=2.0) as t:
                held = [int(t.get(account).value or b"") for account in ACCOUNTS]
        except BasestoreError:
            self._stop.wait(PAUSE_S)
            return
        assert sum(held) == len(ACCOUNTS) * BALANCE, held
        with self._lock:
            self.counts["audits"] += 1

    # --- in the end ------------------------------------------------------------------------------

    @property
    def keys(self) -> list[str]:
        """All that may have been written."""
        return [*ACCOUNTS, *self.told]

    def complaints(self, found: Mapping[str, bytes]) -> list[str]:
        """What is otherwise than was told, by what the keys hold; those that are not there, nothing."""
        balances = dict.fromkeys(ACCOUNTS, BALANCE)
        complaints: list[str] = []
        for key, outcome in self.told.items():
            value = found[key]
            if outcome != UNKNOWN and bool(value) != (outcome == COMMITTED):
                complaints.append(f"{key} was told to be {outcome}, and holds {value!r}")
            if value:
                giver, taker, amount = value.decode().split()
                balances[giver] -= int(amount)
                balances[taker] += int(amount)
        for account, balance in balances.items():
            if found[account] != b"%d" % balance:
                complaints.append(f"{account} holds {found[account]!r}; its transfers make {balance}")
        return complaints
