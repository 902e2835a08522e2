"""What all path calls share: from (dirfd, pointer) arguments to a :class:`Found`."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.fs.files import NodeFile
from prong.cell.fs.nodes import Node
from prong.cell.fs.opened import OpenedNode
from prong.cell.fs.walk import Found, walk

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_NO_AUTOMOUNT, AT_EMPTY_PATH = 0x100, 0x200, 0x400, 0x800, 0x1000
CWD = AT_FDCWD & 0xFFFFFFFF
"""AT_FDCWD as the low 32 bits of an argument."""


def base_of(kernel: Kernel, dirfd: int) -> Node:
    """Where a relative path starts; SysErr(EBADF), ENOTDIR if the descriptor is not one of a file on a volume."""
    dirfd &= 0xFFFFFFFF
    if dirfd == CWD:
        return kernel.fs.cwd
    file = kernel.fds.get(dirfd)
    if not isinstance(file, NodeFile):
        raise SysErr(errno.ENOTDIR)
    return file.node


def find(kernel: Kernel, dirfd: int, pointer: int, *, follow: bool = True, parent_only: bool = False) -> Found:
    """Read the path at ``pointer`` and walk it."""
    path = kernel.mem.cstr(pointer)
    if dirfd & 0xFFFFFFFF == CWD or path[:1] == b"/":
        return walk(kernel.fs, kernel.fs.cwd, path, follow=follow, parent_only=parent_only)
    if not path:
        raise SysErr(errno.ENOENT)
    return walk(kernel.fs, base_of(kernel, dirfd), path, follow=follow, parent_only=parent_only)


def node_at(kernel: Kernel, dirfd: int, pointer: int, flags: int = 0) -> Node:
    """The node a path call works on; ``flags`` AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH count."""
    path = kernel.mem.cstr(pointer) if pointer or not flags & AT_EMPTY_PATH else b""
    fs = kernel.fs
    if path:
        base = fs.cwd if path[0] == 0x2F or dirfd & 0xFFFFFFFF == CWD else base_of(kernel, dirfd)
        return walk(fs, base, path, follow=not flags & AT_SYMLINK_NOFOLLOW).existing()
    if not flags & AT_EMPTY_PATH:
        raise SysErr(errno.ENOENT)
    if dirfd & 0xFFFFFFFF == CWD:
        return fs.cwd
    return node_of(kernel, dirfd)


def node_of(kernel: Kernel, fd: int) -> Node:
    """The node behind a descriptor; a stand-in for files without one (pipes, sockets)."""
    file = kernel.fds.get(fd)
    if isinstance(file, NodeFile):
        return file.node
    return OpenedNode(kernel.fs.anon, file)
