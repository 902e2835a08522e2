"""Channels: files whose other end is the host (stdin, stdout, stderr, and the runtime's control stream).

To the program they look like pipes: no position, not a terminal, and a reader waits until the host feeds bytes.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from prong.cell.core.errors import SysErr, Wait, WouldBlock
from prong.cell.core.file import (
    O_ACCMODE,
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
from prong.guest.messages import EXCHANGE

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

FIONREAD = 0x541B
EXCHANGE_ROOM = 65536
OUTBOX_LIMIT = 1 << 20
"""Bytes kept for a host that has not set a sink yet; a program that writes more waits."""
INBOX_LIMIT = 64 << 20
"""Bytes the host may feed ahead of the program."""

Sink = Callable[[int, bytes], None]
"""``sink(channel, data)``: takes everything, or raises SysErr (EPIPE when nobody wants it) or a limit's error."""


class _Channel(File):
    """What both directions share. ``channel`` is the number the host knows it by."""

    kind: ClassVar[str] = "pipe"

    def __init__(self, channel: int, flags: int) -> None:
        super().__init__(flags)
        self.channel = channel

    def stat(self) -> Stat:
        """A FIFO without a name."""
        return Stat(ino=0x70000000 + self.channel, mode=0o010600, dev=13)

    def link_text(self) -> str:
        """As a pipe's."""
        return f"pipe:[{0x70000000 + self.channel}]"

    def reopen(self, flags: int) -> File:
        """/dev/stdout and such: the same channel once more; SysErr(EACCES) for the direction it does not have."""
        wanted, have = flags & O_ACCMODE, self.flags & O_ACCMODE
        if have not in (wanted, O_RDWR):
            raise SysErr(errno.EACCES)
        return self


@saved("fs.channel.in")
class ChannelIn(_Channel):
    """Bytes from the host to the program."""

    def __init__(self, channel: int = 0, flags: int = O_RDONLY) -> None:
        super().__init__(channel, flags)
        self.inbox = bytearray()
        self.closed = False

    def feed(self, data: bytes) -> None:
        """Host side: more input. SysErr(ENOBUFS) over 64 MiB unread, and then nothing was taken."""
        if len(self.inbox) + len(data) > INBOX_LIMIT:
            raise SysErr(errno.ENOBUFS)
        self.inbox += data
        self.waitq.wake()

    def close_input(self) -> None:
        """Host side: no more input; the program reads what is left and then the end."""
        self.closed = True
        self.waitq.wake()

    def reopen_input(self) -> None:
        """Host side: unread input goes, and new input may come (the next call of a long-lived program)."""
        self.inbox.clear()
        self.closed = False

    def read(self, size: int) -> bytes:
        """What is there, up to ``size``."""
        if size == 0:
            return b""
        if not self.inbox:
            if self.closed:
                return b""
            raise WouldBlock
        data = bytes(self.inbox[:size])
        del self.inbox[:size]
        return data

    def poll(self) -> int:
        """Readable with bytes, hung up at the end."""
        return (POLLIN | POLLRDNORM if self.inbox else 0) | (POLLHUP if self.closed else 0)

    def ioctl(self, kernel: Kernel, task: Task, request: int, arg: int) -> int:
        """FIONREAD."""
        if request == FIONREAD:
            kernel.mem.write(arg, struct.pack("<i", len(self.inbox)))
            return 0
        raise SysErr(errno.ENOTTY)


@saved("fs.channel.out", skip=("sink",))
class ChannelOut(_Channel):
    """Bytes from the program to the host.

    ``sink`` is set by the host and gets every write at once; without one, up to 1 MiB waits in ``outbox``.
    """

    sink: Sink | None = None

    def __init__(self, channel: int = 1, flags: int = O_WRONLY) -> None:
        super().__init__(channel, flags)
        self.outbox: list[bytes] = []
        self.held = 0
        self.broken = False

    def after_load(self, env: object) -> None:
        """The host sets its sink anew."""
        self.sink = None

    def set_sink(self, sink: Sink | None) -> None:
        """Host side: where writes go from now on; what waited goes first."""
        self.sink = sink
        if sink is not None and self.outbox:
            waiting, self.outbox, self.held = self.outbox, [], 0
            for data in waiting:
                sink(self.channel, data)
            self.waitq.wake()

    def drain(self) -> bytes:
        """Host side: take what waits in the outbox."""
        data = b"".join(self.outbox)
        self.outbox, self.held = [], 0
        self.waitq.wake()
        return data

    def break_pipe(self) -> None:
        """Host side: nobody reads any more; writes fail with EPIPE."""
        self.broken = True
        self.waitq.wake()

    def write(self, data: bytes) -> int:
        """All of it to the sink, or what fits into the outbox."""
        if not data:
            return 0
        if self.broken:
            raise SysErr(errno.EPIPE)
        if self.sink is not None:
            self.sink(self.channel, data)
            return len(data)
        room = OUTBOX_LIMIT - self.held - 64 * len(self.outbox)
        if room <= 0:
            raise WouldBlock
        data = data[:room]
        self.outbox.append(data)
        self.held += len(data)
        return len(data)

    def poll(self) -> int:
        """Writable unless the outbox is full."""
        if self.broken:
            return POLLERR
        return POLLOUT | POLLWRNORM if self.sink is not None or self.held < OUTBOX_LIMIT else 0


@saved("fs.channel.duplex", skip=("sink",))
class ChannelDuplex(ChannelIn, ChannelOut):
    """Both directions on one descriptor: the control stream."""

    def __init__(self, channel: int = 3, flags: int = O_RDWR) -> None:
        ChannelIn.__init__(self, channel, flags)
        self.outbox: list[bytes] = []
        self.held = 0
        self.broken = False

    def ioctl(self, kernel: Kernel, task: Task, request: int, arg: int) -> int:
        """EXCHANGE: write and wait for input in one call, of prong's own runtime. EINTR means: written, nothing read."""
        if request != EXCHANGE:
            return ChannelIn.ioctl(self, kernel, task, request, arg)
        size, address = struct.unpack("<QQ", kernel.mem.read(arg, 16))
        if task.scratch is None:
            if size > EXCHANGE_ROOM:
                raise SysErr(errno.EINVAL)
            if size:
                self.write(kernel.mem.read(address, size))
            task.scratch = True
        if not self.inbox:
            if self.closed:
                return 0
            raise Wait((self.waitq,), restart=False)
        data = self.read(EXCHANGE_ROOM)
        kernel.mem.write(address, data)
        return len(data)

    def poll(self) -> int:
        """Either side's."""
        return ChannelIn.poll(self) | ChannelOut.poll(self)

    def stat(self) -> Stat:
        """A socket without a name."""
        return Stat(ino=0x70000000 + self.channel, mode=0o140600, dev=8)

    def link_text(self) -> str:
        """As a socket's."""
        return f"socket:[{0x70000000 + self.channel}]"
