"""Threads that work for the length of a `with` block."""

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self


class Working:
    """A thread for each of these works, which end once `_stop` is set: that is at the end of the block. What
    one of them has failed of is raised there, unless the block has failed itself."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def _begin(self, works: Sequence[Callable[[], None]]) -> None:
        """To be begun with the block."""
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in works]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failures and error is None:
            raise self._failures[0]

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001 - shown by __exit__, in the test's own thread
            self._failures.append(failure)
            self._failed()

    def _failed(self) -> None:
        """One of them has. The others go on."""
