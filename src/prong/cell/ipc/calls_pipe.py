"""pipe(2), pipe2(2)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.file import O_CLOEXEC, O_NONBLOCK, File
from prong.cell.core.table import syscall, u32
from prong.cell.ipc.pipe import O_DIRECT, open_pipe

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task


def install_pair(kernel: Kernel, address: int, first: File, second: File, cloexec: bool) -> int:
    """Give two new files descriptors and store their numbers at ``address``; on failure neither stays open."""
    fds = kernel.fds
    try:
        one = fds.install(first, cloexec=cloexec)
    except SysErr:
        first.release()
        second.release()
        raise
    try:
        two = fds.install(second, cloexec=cloexec)
    except SysErr:
        second.release()
        fds.close(one)
        raise
    try:
        kernel.mem.write(address, struct.pack("<ii", one, two))
    except SysErr:
        fds.close(one)
        fds.close(two)
        raise
    return 0


@syscall("pipe2")
def sys_pipe2(kernel: Kernel, task: Task, address: int, flags: int) -> int:
    """pipe2(2)."""
    flags = u32(flags)
    if flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT):
        raise SysErr(errno.EINVAL)
    reader, writer = open_pipe(kernel.net, flags)
    return install_pair(kernel, address, reader, writer, bool(flags & O_CLOEXEC))


@syscall("pipe")
def sys_pipe(kernel: Kernel, task: Task, address: int) -> int:
    """pipe(2)."""
    return sys_pipe2(kernel, task, address, 0)
