"""Children: the nodes of a local cluster as child processes of this one.

A child stops when it is told to, and also when this process dies in whatever way: it watches a
pipe whose other end is here. It has a process group of its own, so that Ctrl-C in the terminal
reaches this process alone, which then stops the children in order. One that ends is not started again, and
nobody else's process is touched.
"""

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import trio

import basestore
from basestore.cli import exits
from basestore.config import NodeConfig
from basestore.errors import RequestFailed, Unreachable
from basestore.protocol.proof import LEFT
from basestore.results.nodes import NodeState

GRACE_S = 10.0
ANSWER_S_MAX = 2.0
POLL_S = 0.05
POLL_S_MAX = 1.0


class Child:
    """One node. `tell` gets each line that it writes to stderr."""

    def __init__(self, path: Path, config: NodeConfig, tell: Callable[[str, str], None]) -> None:
        self.path = path
        self.name = config.name
        self.endpoint = config.member.address
        self.metrics = config.metrics
        self._tell = tell
        self._last = ""
        self._said_left = False
        self._begun = b""
        self._process: trio.Process | None = None

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    @property
    def command(self) -> str:
        """What a user types to bring the node back."""
        return f"basestore serve --config {shlex.quote(str(self.path))}"

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the process and see it to its end. When this is cancelled, the process is stopped:
        SIGTERM, and SIGKILL if that does not help."""
        # -P: or files of the user's directory would take the place of Python's own modules.
        process = self._process = await trio.lowlevel.open_process(
            [sys.executable, "-P", "-m", "basestore", "serve", "--stop-at-eof", "--log-level", "warning",
             "--config", str(self.path)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0,
        )  # fmt: skip
        self._last = ""
        try:
            task_status.started()
            await self._relay_until_end(process)
        finally:
            with trio.CancelScope(shield=True):
                await self._stop(process)

    async def _relay_until_end(self, process: trio.Process) -> None:
        assert process.stderr is not None
        async for data in process.stderr:
            *lines, self._begun = (self._begun + data).split(b"\n")
            for line in lines:
                self.hear(line)
        if self._begun:
            self.hear(self._begun)
            self._begun = b""
        await process.wait()

    def hear(self, line: bytes) -> None:
        """A line that the process has said."""
        text = line.decode(errors="backslashreplace").rstrip()
        # Lines of bars and dashes, as are drawn around a group of exceptions, say nothing.
        if any(map(str.isalnum, text)):
            self._last = text.strip(" |")
            self._said_left |= f"this node {LEFT}" in text
        self._tell(self.name, text)

    async def _stop(self, process: trio.Process) -> None:
        if process.poll() is None:
            process.terminate()
            with trio.move_on_after(GRACE_S):
                await self._relay_until_end(process)
        if process.poll() is None:
            process.kill()
        await process.wait()
        for stream in (process.stdin, process.stderr):
            if stream is not None:
                await stream.aclose()

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        assert self._process is not None
        self._process.kill()

    @property
    def code(self) -> int | None:
        """That the process ended with; below 0 for a signal."""
        return None if self._process is None else self._process.returncode

    @property
    def reason(self) -> str:
        """Why the process ended, as it said last."""
        return self._last.removeprefix("Error: ")

    @property
    def has_left(self) -> bool:
        """Whether it has left the cluster, by its own words: as it ran, or as it did not start."""
        return self._said_left or (self.code == exits.USAGE and LEFT in self._last)

    @property
    def end(self) -> str:
        """How the process ended, with its last line that has words."""
        code = self.code
        if code is None:
            return "it has not ended"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}{f' ({self._last})' if self._last else ''}"


async def state_of(endpoint: str) -> NodeState | None:
    """What the node at this address says of itself, or None if it does not answer."""
    # Not as the store's timeout: that may be more than this cluster takes.
    with trio.move_on_after(ANSWER_S_MAX), suppress(Unreachable, RequestFailed):
        async with basestore.connect(endpoint) as store:
            return await store.node_status()
    return None


async def wait_linked(children: Sequence[Child]) -> None:
    """Until every node is up and sees all others alive. For one that has left the cluster nobody waits."""
    left = set[str]()
    pause_s = POLL_S
    for child in children:
        while True:
            state = await state_of(child.endpoint)
            left |= {each.name for each in children if each.has_left}
            left |= {child.name} if state and state.state == "left" else set()
            names = {each.name for each in children} - left
            if child.name in left or (state and state.state == "up" and names <= set(state.alive)):
                break
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 1.2, POLL_S_MAX)
