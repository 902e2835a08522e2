"""The buffer of a pipe, page slot by page slot as Linux keeps it (pipe(7)), and the files that are its ends."""

from __future__ import annotations

import errno
import stat as _stat
from collections import deque
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import (
    O_ACCMODE,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDNORM,
    POLLWRNORM,
    File,
    Stat,
)
from prong.cell.core.saved import saved
from prong.cell.ipc.events import FIONREAD, PIPE_DEV, EventQueue, IpcFile, put_int

if TYPE_CHECKING:
    from prong.cell.ipc.net import Loopback
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

PAGE = 4096
PIPE_BUF = 4096
DEFAULT_SLOTS = 16
MAX_SLOTS = 256
O_DIRECT = 0o40000


@saved("pipe_slot")
class Slot:
    """One page's worth of a pipe: ``data`` from ``start`` on is unread. A ``packet`` is never merged nor split."""

    __slots__ = ("data", "packet", "start")

    def __init__(self, data: bytearray, packet: bool) -> None:
        self.data = data
        self.start = 0
        self.packet = packet


@saved("pipe_opening")
class Opening:
    """A FIFO open(2) in progress; it counts as an end while it is its task's ``scratch``."""

    __slots__ = ("mode", "seen", "task")

    def __init__(self, task: Task, mode: int, seen: int) -> None:
        self.task = task
        self.mode = mode
        self.seen = seen


@saved("pipe")
class Pipe:
    """What was written and not yet read, and how many ends there are.

    A write of up to a page goes into one slot (merged into the last one where it fits whole), so writes of up to
    PIPE_BUF bytes are atomic, and how much fits is exactly what Linux would take.
    """

    def __init__(self, net: Loopback) -> None:
        self.net = net
        self.limit = DEFAULT_SLOTS
        self.claimed = 0
        self.slots: deque[Slot] = deque()
        self.readers = 0
        self.writers = 0
        self.reader_opens = 0
        self.writer_opens = 0
        self.opening: list[Opening] = []
        self.read_queue = EventQueue()
        self.write_queue = EventQueue()
        self.open_queue = EventQueue()

    def size(self) -> int:
        """Unread bytes."""
        return sum(len(s.data) - s.start for s in self.slots)

    def full(self) -> bool:
        """No free slot."""
        return len(self.slots) >= self.limit

    def has_readers(self) -> bool:
        """Some end is open, or being opened, for reading."""
        return self.readers > 0 or self._opening(O_RDONLY)

    def has_writers(self) -> bool:
        """Some end is open, or being opened, for writing."""
        return self.writers > 0 or self._opening(O_WRONLY)

    def _opening(self, mode: int) -> bool:
        if not self.opening:
            return False
        self.opening = [o for o in self.opening if o.task.scratch is o]
        return any(o.mode == mode for o in self.opening)

    def put(self, data: bytes, packet: bool) -> int:
        """Append what fits; returns how many bytes that was."""
        slots = self.slots
        done = 0
        odd = len(data) & (PAGE - 1)
        if odd and slots and not packet:
            last = slots[-1]
            if not last.packet and len(last.data) + odd <= PAGE:
                last.data += data[:odd]
                done = odd
        while done < len(data) and len(slots) < self.limit:
            piece = bytearray(data[done : done + PAGE])
            slots.append(Slot(piece, packet))
            done += len(piece)
        return done

    def take(self, size: int) -> bytes:
        """Remove up to ``size`` bytes, or one packet, whose unread rest is lost."""
        slots = self.slots
        parts: list[bytes | bytearray] = []
        while slots and size > 0:
            slot = slots[0]
            left = len(slot.data) - slot.start
            if slot.packet:
                slots.popleft()
                parts.append(slot.data[:size])
                break
            if left > size:
                parts.append(slot.data[slot.start : slot.start + size])
                slot.start += size
                break
            slots.popleft()
            parts.append(slot.data[slot.start :] if slot.start else slot.data)
            size -= left
        return b"".join(parts)

    def resize(self, size: int) -> int:
        """F_SETPIPE_SZ: the new capacity in bytes. EBUSY below what is held, EPERM over 1 MiB or the cell's total."""
        if size > 1 << 31 or size < 0:
            raise SysErr(errno.EINVAL)
        slots = 1
        while slots * PAGE < size:
            slots *= 2
        if slots > MAX_SLOTS:
            raise SysErr(errno.EPERM)
        if slots < len(self.slots):
            raise SysErr(errno.EBUSY)
        if not self.net.claim_pipe(slots - self.claimed):
            raise SysErr(errno.EPERM)
        self.limit = self.claimed = slots
        self.write_queue.signal(POLLOUT | POLLWRNORM)
        return slots * PAGE

    def opened(self, mode: int) -> None:
        """One more end. The first one claims memory; when the cell's total is used up a pipe has only two pages."""
        if not self.has_readers() and not self.has_writers():
            self.slots.clear()
        if self.readers == 0 and self.writers == 0:
            self.claimed = DEFAULT_SLOTS if self.net.claim_pipe(DEFAULT_SLOTS) else 0
            self.limit = self.claimed or 2
        if mode in (O_RDONLY, O_RDWR):
            self.readers += 1
            self.reader_opens += 1
        if mode in (O_WRONLY, O_RDWR):
            self.writers += 1
            self.writer_opens += 1

    def closed(self, mode: int) -> None:
        """One end less; the other side hears of it, and with the last end the content goes."""
        if mode in (O_RDONLY, O_RDWR):
            self.readers -= 1
        if mode in (O_WRONLY, O_RDWR):
            self.writers -= 1
        if self.readers == 0 and self.writers == 0:
            self.net.claim_pipe(-self.claimed)
            self.claimed = 0
            # A reader still in open(2) will want what a writer that came and went has left.
            if not self.has_readers():
                self.slots.clear()
        if self.writers == 0:
            self.read_queue.signal(POLLIN | POLLRDNORM | POLLHUP)
        if self.readers == 0:
            self.write_queue.signal(POLLOUT | POLLWRNORM | POLLERR)


@saved("pipe_end")
class PipeEnd(IpcFile):
    """One open end of a pipe or FIFO. ``node`` is the FIFO's open inode for stat and names, None for pipe(2)."""

    kind = "pipe"
    mode = _stat.S_IFIFO | 0o600
    dev = PIPE_DEV

    def __init__(self, pipe: Pipe, flags: int, ino: int, node: File | None = None) -> None:
        super().__init__(flags, ino)
        self.pipe = pipe
        self.node = node
        self.access = flags & O_ACCMODE
        self.seen_writers = pipe.writer_opens
        if self.access == O_RDWR:
            pipe.read_queue.observe(self.queue)
            pipe.write_queue.observe(self.queue)
        else:
            self.queue = pipe.write_queue if self.access == O_WRONLY else pipe.read_queue
            self.waitq = self.queue
        pipe.opened(self.access)

    def read(self, size: int) -> bytes:
        """read(2): what there is; empty when no writer is left."""
        pipe = self.pipe
        if size == 0:
            return b""
        if not pipe.slots:
            if not pipe.has_writers():
                return b""
            raise WouldBlock(pipe.read_queue)
        was_full = pipe.full()
        data = pipe.take(size)
        if was_full and not pipe.full():
            pipe.write_queue.signal(POLLOUT | POLLWRNORM)
        return data

    def write(self, data: bytes) -> int:
        """write(2): what fits, all or nothing up to PIPE_BUF. EPIPE without readers (the caller sends SIGPIPE)."""
        if not data:
            return 0
        pipe = self.pipe
        if not pipe.has_readers():
            raise SysErr(errno.EPIPE)
        done = pipe.put(data, bool(self.flags & O_DIRECT))
        if not done:
            raise WouldBlock(pipe.write_queue)
        pipe.read_queue.signal(POLLIN | POLLRDNORM)
        return done

    def poll(self) -> int:
        """Readiness as pipe_poll() in fs/pipe.c tells it."""
        pipe = self.pipe
        events = 0
        if self.access != O_WRONLY:
            if pipe.slots:
                events = POLLIN | POLLRDNORM
            if not pipe.has_writers() and (self.node is None or self.seen_writers != pipe.writer_opens):
                events |= POLLHUP
        if self.access != O_RDONLY:
            if not pipe.full():
                events |= POLLOUT | POLLWRNORM
            if not pipe.has_readers():
                events |= POLLERR
        return events

    def ioctl(self, kernel: Kernel, task: Task, request: int, arg: int) -> int:
        """FIONREAD; anything else is ENOTTY."""
        if request == FIONREAD:
            return put_int(kernel, arg, self.pipe.size())
        raise SysErr(errno.ENOTTY)

    def stat(self) -> Stat:
        """fstat(2): of the FIFO's inode if there is one."""
        return self.node.stat() if self.node is not None else super().stat()

    def link_text(self) -> str:
        """``pipe:[N]`` or the FIFO's path."""
        return self.node.link_text() if self.node is not None else f"pipe:[{self.ino}]"

    def pipe_size(self) -> int:
        """F_GETPIPE_SZ, in bytes."""
        return self.pipe.limit * PAGE

    def set_pipe_size(self, size: int) -> int:
        """F_SETPIPE_SZ; returns the size given, in bytes. Raises SysErr as :meth:`Pipe.resize`."""
        return self.pipe.resize(size)

    def release(self) -> None:
        """The last descriptor of this end was closed."""
        super().release()
        if self.access == O_RDWR:
            self.pipe.read_queue.unobserve(self.queue)
            self.pipe.write_queue.unobserve(self.queue)
        self.pipe.closed(self.access)
        if self.node is not None:
            self.node.release()


def open_pipe(net: Loopback, flags: int) -> tuple[PipeEnd, PipeEnd]:
    """pipe2(2)'s two new files, (reader, writer); ``flags`` may hold O_NONBLOCK and O_DIRECT."""
    pipe = Pipe(net)
    ino = net.new_ino()
    keep = flags & (O_NONBLOCK | O_DIRECT)
    return PipeEnd(pipe, O_RDONLY | keep, ino), PipeEnd(pipe, O_WRONLY | keep, ino)
