"""Blocking connection: one socket, and the requests of many threads that are under way on it.

A thread sends its requests and waits for its answers. Of those that wait one reads, the leader (as in the
pattern leader/followers: Schmidt, O'Ryan et al. 2000): it hands each answer to whom it belongs, and when it
has its own another one leads. So a slow request of one thread holds up no other:

    thread A sends 7, nobody reads: it leads
    thread B sends 8: A reads, so B waits for its bell
    answer to 8 comes: A puts it into B's batch and rings
    A's time is up: it leaves; were B still waiting, it would be rung to lead

An answer that comes when nobody waits for it any more finds no entry in the table, and is dropped. If the
connection breaks, all that is under way on it gets ConnectionLost.

The socket never blocks: to wait is `poll`'s, so that each caller has a deadline of its own. Refuses to be
shared with a forked process: it is dropped there without a word to the node (`abandon`).
"""

import select
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

from basestore.client.calls import GRACE_S
from basestore.client.channel import Batch, Unsent, hear
from basestore.protocol.codec import Message
from basestore.protocol.envelopes import seal
from basestore.protocol.handshake import ANYBODY, BEFORE, Meant, Renewed, welcomed
from basestore.protocol.limits import ProtocolError
from basestore.results.answers import late, lost
from basestore.transport.endpoints import SILENT, crowded
from basestore.transport.frames import FrameReader, pack
from basestore.transport.window import Waiting, Window

RECEIVE_BYTES = 64 << 10  # for a larger buffer the allocator asks the system each time


class _Bell:
    """Wakes one thread, once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        self._lock.release()

    def wait(self, deadline: float) -> None:
        self._lock.acquire(timeout=max(0.0, deadline - monotonic()))


class Connection:
    """A connection whose handshake is done. `leaving`: it takes no more requests; `shunned`: its node is the
    last to be connected to again; `bulk`: nothing on it is urgent."""

    def __init__(
        self, endpoint: str, dialled: socket.socket, deadline: float, *, meant: Meant = ANYBODY
    ) -> None:
        """Shake hands; OSError or ProtocolError when that fails, or another answers than was meant, and
        nothing stays open."""
        self.endpoint = endpoint
        self.leaving = self.shunned = self.bulk = False
        self.under_way: dict[int, Batch] = {}  # by id of the request; guarded, as all below, by:
        self._table = threading.Lock()
        self.window = Window()
        self._leader: Batch | None = None
        self._frames = FrameReader()
        self._heard = 0.0
        self._socket = dialled
        self._readable, self._writable, self._stirred = select.poll(), select.poll(), select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._stirred.register(self._socket, select.POLLIN)
        self._writable.register(self._socket, select.POLLOUT)
        try:
            self._push(pack([meant.hello]), deadline)
            said: Message | None = None
            while said is None:
                if not self._readable.poll(_ms_until(deadline)):
                    raise TimeoutError(SILENT)
                said = self._frames.first(self._receive(f"it {BEFORE}; upgrade it"))
            self.welcome = welcomed(said, meant)
            self.rules = self.welcome.rules
            self.version = self.welcome.version
            self._frames.speak(self.version)
        except BaseException:
            self.abandon()
            raise

    def usable(self) -> bool:
        """Whether a request may be given to it. If it was quiet, what lies there is heard first: a late
        answer, or that the node has closed it."""
        if not self.leaving and not self.under_way and self._stirred.poll(0):
            try:
                while not self.leaving and self._stirred.poll(0):
                    self._hand_out(self._frames.feed(self._receive()))
            except (OSError, ProtocolError) as error:
                self.fail(str(error))
        return not self.leaving

    @property
    def pending(self) -> int:
        """How many requests wait and are under way."""
        window = self.window
        return len(self.under_way) + window.granted + window.held

    def send(self, batch: Batch, deadline: float, waiting: Waiting | None = None) -> Waiting | None:
        """Send a batch; one thread at a time. Unsent if nothing of it was: then it is as if never tried.
        Where there is no room for it, it waits now, and is to be sent once `let_in` says so."""
        with self._table:
            if self.leaving:
                raise Unsent
            if waiting is not None:
                self.window.enter(waiting)
            elif self.window.takes(len(self.under_way), batch.measure()) or batch.urgent:
                self.window.size += batch.size
            else:
                return self.window.join(batch.untold, batch.size, _Bell())
            batch.rules = self.rules
            batch.enter(self.under_way, monotonic(), deadline + GRACE_S)
        begun = False
        try:
            for frame in seal(batch.requests, self.version, bulk=self.bulk):
                self._push(frame, batch.deadline, begun)
                begun = True
        except Unsent:
            with self._table:
                batch.leave(self.under_way)
            self.fail("the network broke it")
            raise
        except BaseException as error:  # half a frame may have been sent: no other can follow
            if isinstance(error, TimeoutError):
                self._forget(batch)
            self.fail(str(error) or "it was interrupted")
            if not isinstance(error, OSError):
                raise
        return None

    def await_room(self, waiting: Waiting, until: float) -> None:
        """Until there is room, or the connection has ended; Overloaded when neither is so by then."""
        began = monotonic()
        try:
            assert isinstance(waiting.bell, _Bell)
            waiting.bell.wait(until)
            with self._table:
                if not waiting.let_in and not waiting.over:
                    raise crowded(self.endpoint, self.window, until - began)
        except BaseException:
            self.part(waiting)
            raise

    def part(self, waiting: Waiting) -> None:
        """It is not sent over this connection."""
        with self._table:
            self.window.part(waiting)
            self._let_in()

    def _let_in(self) -> None:
        """Those who wait, as far as there is room."""
        if self.window.line:
            self.window.let_in(len(self.under_way))

    def _push(self, data: bytes, deadline: float, begun: bool = True) -> None:
        """Send bytes; OSError, TimeoutError at the deadline. Unsent if none could be, unless `begun`."""
        left = memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
                begun = True
            except BlockingIOError:
                if not self._writable.poll(_ms_until(deadline)):
                    raise TimeoutError("the node takes nothing more") from None
            except OSError as error:
                if not begun:
                    raise Unsent from error
                raise

    def wait(self, batch: Batch) -> None:
        """Until every request of the batch has its answer, or an error in the place of one."""
        try:
            while batch.untold and monotonic() < batch.deadline:
                with self._table:
                    if not batch.untold:
                        break
                    bell = None
                    if self._leader is None:
                        self._leader = batch
                    else:
                        bell = batch.bell = _Bell()
                if bell is None:
                    self._lead(batch)
                else:
                    bell.wait(batch.deadline)
        finally:
            self._forget(batch)

    def _lead(self, batch: Batch) -> None:
        """Read for all, until this batch has its answers or its time is up."""
        while batch.untold and self._readable.poll(_ms_until(batch.deadline)):
            try:
                self._hand_out(self._frames.feed(self._receive()))
            except BaseException as error:
                self.fail(str(error) or "it was interrupted")
                if not isinstance(error, OSError | ProtocolError):
                    raise
        with self._table:
            self._leader = None

    def _receive(self, ended: str = "the node closed the connection") -> bytes:
        """What has come by now. OSError; `ended`: what its end means."""
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            raise ConnectionError(ended)
        self._heard = monotonic()
        return data

    def _hand_out(self, messages: Sequence[Message]) -> None:
        """Give answers to the batches that they belong to; what belongs to none is dropped."""
        with self._table:
            if hear(messages, self.under_way, self.window, self.endpoint, self._heard, self._renew):
                self._shun()
            self._let_in()
            if self.leaving and not self.under_way:
                self._close()

    def _renew(self, said: Renewed) -> None:
        self.welcome = self.welcome.renewed(said)
        self.rules = self.welcome.rules

    def _forget(self, batch: Batch) -> None:
        """Its thread waits no more. What it still lacks is overdue; if the node has said nothing at all since
        then, it has fallen silent."""
        with self._table:
            batch.bell = None
            untold = batch.leave(self.under_way) if batch.untold else []
            for number in untold:
                batch.fail(number, late(self.endpoint, batch.request(number)))
            if untold and self._heard < batch.sent and monotonic() >= batch.deadline:
                self._shun()
            self.window.size -= batch.size
            batch.size = 0
            self._let_in()
            if self._leader is batch:  # it was interrupted
                self._leader = None
            if self._leader is None and self.under_way:  # some of them may wait to be led on
                for other in self.under_way.values():
                    if other.bell is not None:
                        other.ring()
                        break
            if self.leaving and not self.under_way:
                self._close()

    def _shun(self) -> None:
        """It takes no more requests, and its node is the last to be connected to again."""
        self.leaving = self.shunned = True
        self.window.turn_away()

    def fail(self, why: str) -> None:
        """It has ended: all that is under way on it gets an error."""
        text = f"the connection to {self.endpoint} was lost: {why}"
        with self._table:
            self.leaving = True
            self.window.turn_away()
            for number, batch in self.under_way.items():
                batch.fail(number, lost(text, batch.request(number)))
            self.under_way.clear()
            self._close()

    def leave(self) -> None:
        """Take no more requests; what is under way may be answered yet."""
        with self._table:
            self.leaving = True
            self.window.turn_away()
            if not self.under_way:
                self._close()

    def _close(self) -> None:
        with suppress(OSError):  # first: another thread may wait for this socket
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def abandon(self) -> None:
        """Close this process's end of it alone: another process may go on with the connection."""
        self.leaving = True
        self._socket.close()


def _ms_until(deadline: float) -> int:
    """For `poll`: rounded up, so that it does not end just before the deadline."""
    return max(0, int((deadline - monotonic()) * 1e3) + 1)
