"""select(2) and pselect(2)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, Wait
from prong.cell.core.file import (
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLPRI,
    POLLRDBAND,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
)
from prong.cell.core.table import s32, s64, syscall
from prong.cell.ipc.calls_poll import unique
from prong.cell.task.timespec import LONGEST, SECOND, pack_timeval, read_timespec, write_timespec

if TYPE_CHECKING:
    from prong.cell.core.waiting import WaitQueue
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

SETS = (
    POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR,
    POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR,
    POLLPRI,
)
"""The poll events that make a descriptor appear in the read, write and exception set."""
MAX_NFDS = 1 << 16


def select(kernel: Kernel, task: Task, count: int, sets: tuple[int, int, int], timeout: int | None) -> int:
    """The body of select and pselect: three bit sets in place; ``timeout`` in nanoseconds, None for ever."""
    count = s32(count)
    if count < 0:
        raise SysErr(errno.EINVAL)
    count = min(count, max(kernel.fds.limit, 64), MAX_NFDS)
    size = (count + 63) // 64 * 8
    asked = [int.from_bytes(kernel.mem.read(a, size), "little") if a and size else 0 for a in sets]
    asked = [bits & ((1 << count) - 1) for bits in asked]
    found = [0, 0, 0]
    queues: list[WaitQueue] = []
    ready = 0
    every = asked[0] | asked[1] | asked[2]
    while every:
        flag = every & -every
        every ^= flag
        file = kernel.fds.files.get(flag.bit_length() - 1)
        if file is None:
            raise SysErr(errno.EBADF)
        events = file.poll()
        queues.append(file.waitq)
        for i in (0, 1, 2):
            if asked[i] & flag and events & SETS[i]:
                found[i] |= flag
                ready += 1
    if not ready and timeout != 0 and not task.expired:
        if task.scratch is None and timeout is not None:
            task.scratch = kernel.clock.monotonic() + timeout
        raise Wait(unique(queues), deadline=task.scratch, restart=False)
    for address, bits in zip(sets, found, strict=True):
        if address and size:
            kernel.mem.write(address, bits.to_bytes(size, "little"))
    return ready


def remaining(kernel: Kernel, task: Task, timeout: int) -> int:
    """Nanoseconds left of ``timeout``."""
    return timeout if task.scratch is None else max(task.scratch - kernel.clock.monotonic(), 0)


@syscall("select")
def sys_select(kernel: Kernel, task: Task, count: int, read: int, write: int, other: int, timeout: int) -> int:
    """select(2); as in Linux the timeval is left with the time that remains."""
    wait = None
    if timeout:
        seconds, micros = struct.unpack("<qq", kernel.mem.read(timeout, 16))
        # Unlike elsewhere more than a second of microseconds is taken (poll_select_set_timeout in fs/select.c).
        seconds += micros // 1_000_000
        if seconds < 0 or s64(micros) < 0:
            raise SysErr(errno.EINVAL)
        wait = min(seconds * SECOND + micros % 1_000_000 * 1000, LONGEST)
    result = select(kernel, task, count, (read, write, other), wait)
    if wait is not None:
        kernel.mem.write(timeout, pack_timeval(remaining(kernel, task, wait)))
    return result


@syscall("pselect6")
def sys_pselect6(
    kernel: Kernel, task: Task, count: int, read: int, write: int, other: int, timeout: int, argument: int
) -> int:
    """pselect(2); ``argument`` points at the signal mask's address and size."""
    wait = read_timespec(kernel.mem, timeout) if timeout else None
    if argument:
        mask, size = kernel.mem.u64(argument), kernel.mem.u64(argument + 8)
        if mask:
            if size != 8:
                raise SysErr(errno.EINVAL)
            kernel.signals.temporary_mask(task, kernel.mem.u64(mask))
    try:
        result = select(kernel, task, count, (read, write, other), wait)
    except SysErr:
        kernel.signals.restore_mask(task)
        raise
    kernel.signals.restore_mask(task)
    if wait is not None:
        write_timespec(kernel.mem, timeout, remaining(kernel, task, wait))
    return result
