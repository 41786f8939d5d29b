"""Engines that are full for a while."""

from basestore.errors import StorageBusy
from basestore.storage.engine import Batch
from tests.worlds.world import World


class Stalling:
    """Makes an engine refuse its next batches. `refused`: how many it has."""

    def __init__(self, world: World, at: int) -> None:
        self.refused = 0
        self._engine = world.engines[at]
        self._apply = self._engine.apply
        self._engine.apply = self._refuse  # type: ignore[method-assign]

    def _refuse(self, batch: Batch) -> None:
        self.refused += 1
        raise StorageBusy("the store is stalled")

    def end(self) -> None:
        self._engine.apply = self._apply  # type: ignore[method-assign]
