"""Event counters (eventfd(2))."""

from __future__ import annotations

import errno

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import POLLERR, POLLIN, POLLOUT
from prong.cell.core.saved import saved
from prong.cell.ipc.events import IpcFile

EFD_SEMAPHORE = 1
MAX_COUNT = 0xFFFFFFFFFFFFFFFF


@saved("eventfd")
class EventFd(IpcFile):
    """A 64-bit counter; reading takes it all, or one with ``semaphore``."""

    kind = "eventfd"

    def __init__(self, flags: int, count: int, semaphore: bool) -> None:
        super().__init__(flags)
        self.count = count
        self.semaphore = semaphore

    def read(self, size: int) -> bytes:
        """Eight bytes; WouldBlock at zero."""
        if size < 8:
            raise SysErr(errno.EINVAL)
        if self.count == 0:
            raise WouldBlock
        value = 1 if self.semaphore else self.count
        self.count -= value
        self.queue.signal(POLLOUT)
        return value.to_bytes(8, "little")

    def write(self, data: bytes) -> int:
        """Add exactly eight bytes' value; WouldBlock when the sum would exceed 2**64 - 2."""
        if len(data) != 8:
            raise SysErr(errno.EINVAL)
        value = int.from_bytes(data, "little")
        if value == MAX_COUNT:
            raise SysErr(errno.EINVAL)
        if self.count + value >= MAX_COUNT:
            raise WouldBlock
        self.count += value
        self.queue.signal(POLLIN)
        return 8

    def poll(self) -> int:
        """Readable above zero, writable if one more fits."""
        events = POLLIN if self.count else 0
        if self.count == MAX_COUNT:
            events |= POLLERR
        if self.count < MAX_COUNT - 1:
            events |= POLLOUT
        return events
