"""Disk space: whether there is room for more on the disk that the store lies on.

A store that fills its disk cannot write down even what would make room again. So some of the disk is kept in
reserve, and who fills it is told before anything was done:

    free space         what is still taken
    the reserve        everything
    down to its half   no new values: deletes, and copies of what others hold (repair, hints, anti-entropy)
    less               nothing that others ask for; reads, purge and compaction go on

The driver reads the figures from time to time and tells them; nothing is measured here. A store without a
disk is told none, and is never short.
"""

from basestore.config import NodeConfig
from basestore.replica.group_commit import GroupCommit

RESERVE_SHARE = 20  # without a setting: a twentieth of the disk, at most RESERVE_BYTES_MAX
RESERVE_BYTES_MAX = 1 << 30


class DiskSpace:
    """Of one node's store, in bytes. `size`: of the disk; 0 while nothing was told."""

    def __init__(self, config: NodeConfig, group_commit: GroupCommit) -> None:
        self._where = f"the disk of {config.name} ({config.directory})"
        self._setting = config.disk_reserve_bytes
        self._group_commit = group_commit
        self.free = self.size = self.reserve = 0

    def tell(self, free: int, size: int) -> None:
        """How much of the disk is free now."""
        self.free, self.size, self.reserve = free, size, self._setting
        if self._setting < 0:
            self.reserve = min(RESERVE_BYTES_MAX, size // RESERVE_SHARE)
        short = self._text() if free < self.reserve else ""
        self._group_commit.note_room(short, cramped=free < self.reserve // 2)

    def _text(self) -> str:
        return (
            f"{self._where} is nearly full: {self.free >> 10} KiB of {self.size >> 10} KiB are free, and "
            f"{self.reserve >> 10} KiB are kept in reserve (disk_reserve_bytes)"
        )

    def facts(self) -> dict[str, str]:
        """For `basestore status`, as names and values."""
        if not self.size:
            return {}
        return {"disk free bytes": str(self.free), "disk reserve bytes": str(self.reserve)}
