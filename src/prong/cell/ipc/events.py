"""Readiness: wait queues that know what changed, and the base class of files that live only in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from prong.cell.core.file import (
    O_RDWR,
    POLLIN,
    POLLOUT,
    POLLRDBAND,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
    File,
    Stat,
)
from prong.cell.core.saved import saved
from prong.cell.core.waiting import WaitQueue

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel

READ_EVENTS = POLLIN | POLLRDNORM | POLLRDBAND
WRITE_EVENTS = POLLOUT | POLLWRNORM | POLLWRBAND
FIONREAD = 0x541B

ANON_DEV, PIPE_DEV, SOCK_DEV = 14, 13, 8
"""Device numbers of the kernel's internal file systems, as stat(2) shows them."""


class Watch(WaitQueue):
    """An observer that wants to know which events a change may have brought; epoll's registrations derive from it."""

    __slots__ = ()

    def notify(self, events: int) -> None:
        """Something changed; ``events`` are the poll(2) events it may have brought, 0 when not known."""
        raise NotImplementedError

    def closed(self, file: File) -> None:
        """The last descriptor of ``file`` was closed."""
        raise NotImplementedError


@saved("ipc_events")
class EventQueue(WaitQueue):
    """A wait queue whose owner says what changed, so that edge-triggered epoll reports no edge that was not there."""

    __slots__ = ()

    def signal(self, events: int) -> None:
        """Wake every waiter; tell watches that only ``events`` may have become true."""
        for queue in self.observers:
            if isinstance(queue, Watch):
                queue.notify(events)
            else:
                queue.wake()
        if self.waiters:
            for task in self.waiters[:]:
                task.wake()


def forget(file: File) -> None:
    """Remove ``file`` from every epoll set that watches it; for :meth:`File.release`."""
    for queue in file.waitq.observers[:]:
        if isinstance(queue, Watch):
            queue.closed(file)


class IpcFile(File):
    """An open file description with nothing on any disk behind it.

    ``queue`` is the same object as ``waitq``, typed. ``mode`` and ``dev`` are what fstat(2) shows.
    """

    mode: ClassVar[int] = 0o600
    dev: ClassVar[int] = ANON_DEV

    def __init__(self, flags: int = O_RDWR, ino: int = 1) -> None:
        super().__init__(flags)
        self.ino = ino
        self.queue = EventQueue()
        self.waitq = self.queue

    def stat(self) -> Stat:
        """fstat(2): size 0, owned by root."""
        return Stat(ino=self.ino, mode=self.mode, dev=self.dev)

    def release(self) -> None:
        """The last descriptor was closed: leave every epoll set."""
        forget(self)


def put_int(kernel: Kernel, address: int, value: int) -> int:
    """Store a C int for an ioctl that answers one; returns 0."""
    kernel.mem.put_u32(address, value)
    return 0
