"""Where the program stands: chdir(2), getcwd(2), chroot(2), umask(2)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import syscall
from prong.cell.fs.calls.paths import CWD, find
from prong.cell.fs.dirs import Directory
from prong.cell.fs.files import NodeFile

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task


@syscall("chdir")
def chdir(kernel: Kernel, task: Task, path: int) -> int:
    """chdir(2)."""
    kernel.fs.set_cwd(find(kernel, CWD, path).existing())
    return 0


@syscall("fchdir")
def fchdir(kernel: Kernel, task: Task, fd: int) -> int:
    """fchdir(2)."""
    file = kernel.fds.get(fd)
    if not isinstance(file, NodeFile):
        raise SysErr(errno.ENOTDIR)
    kernel.fs.set_cwd(file.node)
    return 0


@syscall("getcwd")
def getcwd(kernel: Kernel, task: Task, buf: int, size: int) -> int:
    """getcwd(2): the length with its NUL; ENOENT if the directory was removed."""
    path = path_from_root(kernel)
    if len(path) + 1 > size:
        raise SysErr(errno.ERANGE)
    kernel.mem.write(buf, path + b"\0")
    return len(path) + 1


def path_from_root(kernel: Kernel) -> bytes:
    """The working directory as the program sees it, below its root directory."""
    fs = kernel.fs
    here: Directory = fs.cwd
    if here.dead:
        raise SysErr(errno.ENOENT)
    names: list[bytes] = []
    size = 0
    while here is not fs.root:
        size += len(here.name) + 1
        if size >= 4096:
            raise SysErr(errno.ENAMETOOLONG)
        if here.parent is here:
            return b"(unreachable)/" + b"/".join(reversed(names))
        names.append(here.name)
        here = here.parent
    return b"/" + b"/".join(reversed(names))


@syscall("chroot")
def chroot(kernel: Kernel, task: Task, path: int) -> int:
    """chroot(2); root of its own computer may."""
    kernel.fs.set_root(find(kernel, CWD, path).existing())
    return 0


@syscall("umask")
def umask(kernel: Kernel, task: Task, mask: int) -> int:
    """umask(2)."""
    before = kernel.fs.umask
    kernel.fs.umask = mask & 0o777
    return before
