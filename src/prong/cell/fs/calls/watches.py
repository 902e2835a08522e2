"""inotify_init1(2), inotify_add_watch(2), inotify_rm_watch(2)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.file import O_CLOEXEC, O_NONBLOCK
from prong.cell.core.table import s32, syscall, u32
from prong.cell.fs import inotify
from prong.cell.fs.calls.paths import CWD, find
from prong.cell.fs.inotify import InotifyFile

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task


@syscall("inotify_init1")
def inotify_init1(kernel: Kernel, task: Task, flags: int) -> int:
    """inotify_init1(2)."""
    if u32(flags) & ~(O_CLOEXEC | O_NONBLOCK):
        raise SysErr(errno.EINVAL)
    instance = InotifyFile(kernel.fs, flags & O_NONBLOCK)
    try:
        return kernel.fds.install(instance, cloexec=bool(flags & O_CLOEXEC))
    except SysErr:
        instance.release()
        raise


@syscall("inotify_init")
def inotify_init(kernel: Kernel, task: Task) -> int:
    """inotify_init(2)."""
    return inotify_init1(kernel, task, 0)


def _instance(kernel: Kernel, fd: int) -> InotifyFile:
    file = kernel.fds.get(fd)
    if not isinstance(file, InotifyFile):
        raise SysErr(errno.EINVAL)
    return file


@syscall("inotify_add_watch")
def inotify_add_watch(kernel: Kernel, task: Task, fd: int, path: int, mask: int) -> int:
    """inotify_add_watch(2)."""
    mask = u32(mask)
    if not mask & inotify.IN_ALL_EVENTS or (mask & inotify.IN_MASK_ADD and mask & inotify.IN_MASK_CREATE):
        raise SysErr(errno.EINVAL)
    instance = _instance(kernel, fd)
    node = find(kernel, CWD, path, follow=not mask & inotify.IN_DONT_FOLLOW).existing()
    if mask & inotify.IN_ONLYDIR and not node.is_dir:
        raise SysErr(errno.ENOTDIR)
    return instance.watch(node, mask)


@syscall("inotify_rm_watch")
def inotify_rm_watch(kernel: Kernel, task: Task, fd: int, wd: int) -> int:
    """inotify_rm_watch(2)."""
    _instance(kernel, fd).unwatch(s32(wd))
    return 0
