"""poll(2) and ppoll(2)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, Wait
from prong.cell.core.file import POLLERR, POLLHUP, POLLNVAL
from prong.cell.core.table import s32, syscall, u32
from prong.cell.ipc.calls_epoll import milliseconds
from prong.cell.task.timespec import read_timespec, write_timespec

if TYPE_CHECKING:
    from prong.cell.core.waiting import WaitQueue
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

_POLLFD = struct.Struct("<iHH")
MAX_NFDS = 1 << 16


def poll(kernel: Kernel, task: Task, address: int, count: int, timeout: int | None) -> int:
    """The body of poll and ppoll; ``timeout`` in nanoseconds, None for ever."""
    count = u32(count)
    if count > max(kernel.fds.limit, 0) or count > MAX_NFDS:
        raise SysErr(errno.EINVAL)
    entries = list(_POLLFD.iter_unpack(kernel.mem.read(address, 8 * count))) if count else []
    files = kernel.fds.files
    queues: list[WaitQueue] = []
    out: list[bytes] = []
    ready = 0
    for fd, events, _ in entries:
        found = 0
        if fd >= 0:
            file = files.get(fd)
            if file is None:
                found = POLLNVAL
            else:
                found = file.poll() & (events | POLLERR | POLLHUP)
                queues.append(file.waitq)
            ready += found != 0
        out.append(_POLLFD.pack(fd, events, found))
    if not ready and timeout != 0 and not task.expired:
        if task.scratch is None and timeout is not None:
            task.scratch = kernel.clock.monotonic() + timeout
        raise Wait(unique(queues), deadline=task.scratch, restart=False)
    if count:
        kernel.mem.write(address, b"".join(out))
    return ready


def unique(queues: list[WaitQueue]) -> list[WaitQueue]:
    """Each queue once, so that a task is parked once on it."""
    return queues if len(queues) < 2 else list({id(q): q for q in queues}.values())


@syscall("poll")
def sys_poll(kernel: Kernel, task: Task, address: int, count: int, timeout: int) -> int:
    """poll(2)."""
    return poll(kernel, task, address, count, milliseconds(timeout))


@syscall("ppoll")
def sys_ppoll(kernel: Kernel, task: Task, address: int, count: int, timeout: int, mask: int, size: int) -> int:
    """ppoll(2); as in Linux the timespec is left with the time that remains."""
    wait = None
    if timeout:
        wait = read_timespec(kernel.mem, timeout)
    if mask:
        if s32(size) != 8:
            raise SysErr(errno.EINVAL)
        kernel.signals.temporary_mask(task, kernel.mem.u64(mask))
    try:
        result = poll(kernel, task, address, count, wait)
    except SysErr:
        kernel.signals.restore_mask(task)
        raise
    kernel.signals.restore_mask(task)
    if wait is not None:
        left = wait if task.scratch is None else max(task.scratch - kernel.clock.monotonic(), 0)
        write_timespec(kernel.mem, timeout, left)
    return result
