"""Timers that are read (timerfd_create(2))."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import POLLIN
from prong.cell.core.saved import saved
from prong.cell.ipc.events import IpcFile

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.clock import Clock, TimerEntry
    from prong.cell.task.task import Task

CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM = 0, 1, 7, 8, 9
REAL_CLOCKS = (CLOCK_REALTIME, CLOCK_REALTIME_ALARM)
CLOCKS = (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM)
TFD_IOC_SET_TICKS = 0x40085400
SHORTEST = 50_000
"""A repeating timer wakes the cell at most this often (ns); all its expirations are counted."""


@saved("timerfd")
class TimerFd(IpcFile):
    """A timer: ``deadline`` is its next expiration (0: disarmed) and ``interval`` its period, in nanoseconds.

    With ``real`` the deadline is in CLOCK_REALTIME, otherwise in cell monotonic time. Expirations are counted when
    somebody looks; the clock's callback only makes them look.
    """

    kind = "timerfd"

    def __init__(self, clock: Clock, clockid: int, flags: int) -> None:
        super().__init__(flags)
        self.clock = clock
        self.clockid = clockid
        self.real = False
        self.deadline = 0
        self.interval = 0
        self.ticks = 0
        self.entry: TimerEntry | None = None

    def now(self) -> int:
        """The time the deadline is compared with."""
        return self.clock.realtime() if self.real else self.clock.monotonic()

    def set(self, value: int, interval: int, absolute: bool) -> None:
        """timerfd_settime(2); a ``value`` of 0 disarms."""
        if self.entry is not None:
            self.entry.cancelled = True
            self.entry = None
        self.real = absolute and self.clockid in REAL_CLOCKS
        self.ticks = 0
        self.interval = interval
        self.deadline = 0
        if value:
            self.deadline = value if absolute else self.now() + value
            self._arm(0)

    def _arm(self, soonest: int) -> None:
        wait = max(self.deadline - self.now(), soonest)
        self.entry = self.clock.arm(self.clock.monotonic() + wait, self)

    def left(self) -> tuple[int, int]:
        """(time to the next expiration or 0, interval)."""
        self._count()
        return (max(self.deadline - self.now(), 1) if self.deadline else 0), self.interval

    def _count(self) -> None:
        if not self.deadline:
            return
        late = self.now() - self.deadline
        if late < 0:
            return
        if self.interval:
            times = 1 + late // self.interval
            self.ticks = min(self.ticks + times, 0xFFFFFFFFFFFFFFFF)
            self.deadline += times * self.interval
        else:
            self.ticks += 1
            self.deadline = 0

    def due(self, now: int) -> None:
        """The clock's callback."""
        self.entry = None
        before = self.ticks
        self._count()
        if self.deadline:
            self._arm(SHORTEST if self.ticks > before else 0)
        if self.ticks:
            self.queue.signal(POLLIN)

    def read(self, size: int) -> bytes:
        """The number of expirations since the last read, eight bytes."""
        if size < 8:
            raise SysErr(errno.EINVAL)
        self._count()
        if not self.ticks:
            raise WouldBlock
        ticks, self.ticks = self.ticks, 0
        return ticks.to_bytes(8, "little")

    def poll(self) -> int:
        """Readable once expired."""
        self._count()
        return POLLIN if self.ticks else 0

    def ioctl(self, kernel: Kernel, task: Task, request: int, arg: int) -> int:
        """TFD_IOC_SET_TICKS."""
        if request != TFD_IOC_SET_TICKS:
            raise SysErr(errno.ENOTTY)
        ticks = kernel.mem.u64(arg)
        if not ticks:
            raise SysErr(errno.EINVAL)
        self.ticks = ticks
        self.queue.signal(POLLIN)
        return 0

    def release(self) -> None:
        """Disarm."""
        super().release()
        if self.entry is not None:
            self.entry.cancelled = True
            self.entry = None
