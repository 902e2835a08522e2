"""Calls on files that a cell refuses by design, because they configure a kernel it does not have."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import Handler, syscall
from prong.cell.fs.calls.paths import node_at

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

PRIVILEGED = (
    "mount", "umount2", "pivot_root", "quotactl", "quotactl_fd", "open_tree", "move_mount",
    "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "fanotify_init", "fanotify_mark", "open_by_handle_at",
    "nfsservctl",
)  # fmt: skip


def _refuser(name: str) -> Handler:
    def refused(kernel: Kernel, task: Task) -> int:
        raise kernel.refusals.refuse("privilege", name)

    return refused


for _name in PRIVILEGED:
    syscall(_name)(_refuser(_name))


@syscall("name_to_handle_at")
def name_to_handle_at(kernel: Kernel, task: Task, dirfd: int, path: int, handle: int, mount_id: int, flags: int) -> int:
    """name_to_handle_at(2): the file systems here have no handles."""
    node_at(kernel, dirfd, path, flags & 0x1000 | (0 if flags & 0x400 else 0x100))
    raise SysErr(errno.EOPNOTSUPP)


@syscall("ustat")
def ustat(kernel: Kernel, task: Task, dev: int, buf: int) -> int:
    """ustat(2): obsolete, and no device here has one."""
    raise SysErr(errno.EINVAL)
