"""eventfd(2), timerfd_create(2) and its kin, signalfd(2)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.file import O_CLOEXEC, O_NONBLOCK, O_RDWR
from prong.cell.core.table import s32, syscall, u32
from prong.cell.ipc.eventfd import EFD_SEMAPHORE, EventFd
from prong.cell.ipc.signalfd import SignalFd
from prong.cell.ipc.timerfd import CLOCKS, TimerFd
from prong.cell.task.siginfo import UNBLOCKABLE
from prong.cell.task.timespec import LONGEST, SECOND

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET = 1, 2
_ITIMERSPEC = struct.Struct("<qqqq")


@syscall("eventfd2")
def sys_eventfd2(kernel: Kernel, task: Task, count: int, flags: int) -> int:
    """eventfd(2)."""
    flags = u32(flags)
    if flags & ~(EFD_SEMAPHORE | O_NONBLOCK | O_CLOEXEC):
        raise SysErr(errno.EINVAL)
    file = EventFd(O_RDWR | flags & O_NONBLOCK, u32(count), bool(flags & EFD_SEMAPHORE))
    return kernel.fds.install(file, cloexec=bool(flags & O_CLOEXEC))


@syscall("eventfd")
def sys_eventfd(kernel: Kernel, task: Task, count: int) -> int:
    """The older eventfd without flags."""
    return sys_eventfd2(kernel, task, count, 0)


@syscall("timerfd_create")
def sys_timerfd_create(kernel: Kernel, task: Task, clockid: int, flags: int) -> int:
    """timerfd_create(2)."""
    clockid, flags = s32(clockid), u32(flags)
    if flags & ~(O_NONBLOCK | O_CLOEXEC) or clockid not in CLOCKS:
        raise SysErr(errno.EINVAL)
    file = TimerFd(kernel.clock, clockid, O_RDWR | flags & O_NONBLOCK)
    return kernel.fds.install(file, cloexec=bool(flags & O_CLOEXEC))


def _timer(kernel: Kernel, fd: int) -> TimerFd:
    file = kernel.fds.get(fd)
    if not isinstance(file, TimerFd):
        raise SysErr(errno.EINVAL)
    return file


def _pack(left: int, interval: int) -> bytes:
    return _ITIMERSPEC.pack(interval // SECOND, interval % SECOND, left // SECOND, left % SECOND)


@syscall("timerfd_settime")
def sys_timerfd_settime(kernel: Kernel, task: Task, fd: int, flags: int, new: int, old: int) -> int:
    """timerfd_settime(2). TFD_TIMER_CANCEL_ON_SET is accepted; a cell's clock is set only by the program itself."""
    flags = u32(flags)
    seconds = _ITIMERSPEC.unpack(kernel.mem.read(new, 32))
    if flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET):
        raise SysErr(errno.EINVAL)
    if min(seconds) < 0 or seconds[1] >= SECOND or seconds[3] >= SECOND:
        raise SysErr(errno.EINVAL)
    timer = _timer(kernel, fd)
    before = _pack(*timer.left()) if old else b""
    interval = min(seconds[0] * SECOND + seconds[1], LONGEST)
    value = min(seconds[2] * SECOND + seconds[3], LONGEST)
    timer.set(value, interval, bool(flags & TFD_TIMER_ABSTIME))
    if old:
        kernel.mem.write(old, before)
    return 0


@syscall("timerfd_gettime")
def sys_timerfd_gettime(kernel: Kernel, task: Task, fd: int, current: int) -> int:
    """timerfd_gettime(2)."""
    kernel.mem.write(current, _pack(*_timer(kernel, fd).left()))
    return 0


@syscall("signalfd4")
def sys_signalfd4(kernel: Kernel, task: Task, fd: int, mask: int, size: int, flags: int) -> int:
    """signalfd(2)."""
    flags = u32(flags)
    if size != 8 or flags & ~(O_NONBLOCK | O_CLOEXEC):
        raise SysErr(errno.EINVAL)
    wanted = kernel.mem.u64(mask) & ~UNBLOCKABLE
    if s32(fd) == -1:
        file = SignalFd(kernel.signals, O_RDWR | flags & O_NONBLOCK, wanted)
        return kernel.fds.install(file, cloexec=bool(flags & O_CLOEXEC))
    present = kernel.fds.get(fd)
    if not isinstance(present, SignalFd):
        raise SysErr(errno.EINVAL)
    present.mask = wanted
    present.waitq.wake()
    return s32(fd)


@syscall("signalfd")
def sys_signalfd(kernel: Kernel, task: Task, fd: int, mask: int, size: int) -> int:
    """The older signalfd without flags."""
    return sys_signalfd4(kernel, task, fd, mask, size, 0)
