"""epoll_create(2), epoll_ctl(2), epoll_wait(2) and their kin."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, Wait
from prong.cell.core.file import O_PATH, File
from prong.cell.core.table import s32, syscall, u32
from prong.cell.ipc.epoll import EPOLL_CLOEXEC, EPOLLEXCLUSIVE, EXCLUSIVE_OK, Epoll
from prong.cell.task.timespec import read_timespec

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

ADD, DEL, MOD = 1, 2, 3
EVENT = struct.Struct("<IQ")
MAX_EVENTS = 0x7FFFFFFF // 12
MAX_BATCH = 4096


@syscall("epoll_create1")
def sys_epoll_create1(kernel: Kernel, task: Task, flags: int) -> int:
    """epoll_create1(2)."""
    flags = u32(flags)
    if flags & ~EPOLL_CLOEXEC:
        raise SysErr(errno.EINVAL)
    return kernel.fds.install(Epoll(kernel.net), cloexec=bool(flags))


@syscall("epoll_create")
def sys_epoll_create(kernel: Kernel, task: Task, size: int) -> int:
    """epoll_create(2)."""
    if s32(size) <= 0:
        raise SysErr(errno.EINVAL)
    return kernel.fds.install(Epoll(kernel.net))


def pollable(file: File) -> bool:
    """Whether the file has a readiness of its own; regular files and directories have none."""
    return type(file).poll is not File.poll and not file.flags & O_PATH


@syscall("epoll_ctl")
def sys_epoll_ctl(kernel: Kernel, task: Task, epfd: int, op: int, fd: int, address: int) -> int:
    """epoll_ctl(2)."""
    op, fd = u32(op), u32(fd)
    events, data = EVENT.unpack(kernel.mem.read(address, 12)) if op != DEL else (0, 0)
    epoll = kernel.fds.get(epfd)
    file = kernel.fds.get(fd)
    if not pollable(file):
        raise SysErr(errno.EPERM)
    if not isinstance(epoll, Epoll) or file is epoll:
        raise SysErr(errno.EINVAL)
    exclusive = events & EPOLLEXCLUSIVE
    if exclusive and (op == MOD or (op == ADD and (isinstance(file, Epoll) or events & ~EXCLUSIVE_OK))):
        raise SysErr(errno.EINVAL)
    item = epoll.find(file, fd)
    if op == ADD:
        if item is not None:
            raise SysErr(errno.EEXIST)
        epoll.add(file, fd, events, data)
    elif op in (DEL, MOD):
        if item is None:
            raise SysErr(errno.ENOENT)
        if op == DEL:
            epoll.drop(item)
        elif item.events & EPOLLEXCLUSIVE:
            raise SysErr(errno.EINVAL)
        else:
            epoll.modify(item, events, data)
    else:
        raise SysErr(errno.EINVAL)
    return 0


def wait(kernel: Kernel, task: Task, epfd: int, address: int, count: int, timeout: int | None) -> int:
    """The body of every epoll_wait; ``timeout`` in nanoseconds, None for ever."""
    count = s32(count)
    if count <= 0 or count > MAX_EVENTS:
        raise SysErr(errno.EINVAL)
    epoll = kernel.fds.get(epfd)
    if not isinstance(epoll, Epoll):
        raise SysErr(errno.EINVAL)
    found = epoll.harvest(min(count, MAX_BATCH)) if epoll.ready else None
    if found:
        pack = EVENT.pack
        try:
            kernel.mem.write(address, b"".join([pack(events, item.data) for item, events, _ in found]))
        except SysErr:
            epoll.restore(found)
            raise
        return len(found)
    if timeout == 0 or task.expired:
        return 0
    if task.scratch is None and timeout is not None:
        task.scratch = kernel.clock.monotonic() + timeout
    raise Wait((epoll.queue,), deadline=task.scratch, restart=False)


def masked_wait(
    kernel: Kernel, task: Task, epfd: int, address: int, count: int, timeout: int | None, mask: int, size: int
) -> int:
    """:func:`wait` with the signal mask at ``mask`` (0: none) in force while it lasts."""
    if mask:
        if size != 8:
            raise SysErr(errno.EINVAL)
        kernel.signals.temporary_mask(task, kernel.mem.u64(mask))
    try:
        result = wait(kernel, task, epfd, address, count, timeout)
    except SysErr:
        kernel.signals.restore_mask(task)
        raise
    kernel.signals.restore_mask(task)
    return result


def milliseconds(timeout: int) -> int | None:
    """A C int of milliseconds as nanoseconds; None when negative."""
    timeout = s32(timeout)
    return None if timeout < 0 else timeout * 1_000_000


@syscall("epoll_wait")
def sys_epoll_wait(kernel: Kernel, task: Task, epfd: int, address: int, count: int, timeout: int) -> int:
    """epoll_wait(2)."""
    return wait(kernel, task, epfd, address, count, milliseconds(timeout))


@syscall("epoll_pwait")
def sys_epoll_pwait(
    kernel: Kernel, task: Task, epfd: int, address: int, count: int, timeout: int, mask: int, size: int
) -> int:
    """epoll_pwait(2)."""
    return masked_wait(kernel, task, epfd, address, count, milliseconds(timeout), mask, size)


@syscall("epoll_pwait2")
def sys_epoll_pwait2(
    kernel: Kernel, task: Task, epfd: int, address: int, count: int, timeout: int, mask: int, size: int
) -> int:
    """epoll_pwait2(2): the timeout is a timespec."""
    nanoseconds = read_timespec(kernel.mem, timeout) if timeout else None
    return masked_wait(kernel, task, epfd, address, count, nanoseconds, mask, size)
