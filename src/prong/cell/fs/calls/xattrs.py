"""Extended attributes (xattr(7)): ``user.`` and ``trusted.`` ones, kept in memory and charged to the quota."""

from __future__ import annotations

import errno
import stat as st
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.file import O_PATH
from prong.cell.core.table import syscall, u32
from prong.cell.fs import inotify
from prong.cell.fs.calls.paths import CWD, find, node_of
from prong.cell.fs.opened import OpenedNode
from prong.cell.fs.volume import Volume

if TYPE_CHECKING:
    from prong.cell.fs.nodes import Node
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

XATTR_CREATE, XATTR_REPLACE = 1, 2
SIZE_MAX, LIST_MAX, NAME_MAX = 65536, 65536, 255
PREFIXES = (b"user.", b"trusted.")


def _name(kernel: Kernel, pointer: int) -> bytes:
    try:
        name = kernel.mem.cstr(pointer, NAME_MAX + 1)
    except SysErr as error:
        raise SysErr(errno.ERANGE if error.errno == errno.ENAMETOOLONG else error.errno) from None
    if not name:
        raise SysErr(errno.ERANGE)
    return name


def _by_path(kernel: Kernel, path: int, follow: bool) -> Node:
    return find(kernel, CWD, path, follow=follow).existing()


def _by_fd(kernel: Kernel, fd: int) -> Node:
    if kernel.fds.get(fd).flags & O_PATH:
        raise SysErr(errno.EBADF)
    return node_of(kernel, fd)


def _check(node: Node, name: bytes, *, change: bool) -> Volume:
    volume = node.volume
    if not name.startswith(PREFIXES) or name in PREFIXES or volume.readonly or isinstance(node, OpenedNode):
        raise SysErr(errno.EINVAL if name in PREFIXES else errno.EOPNOTSUPP)
    if name.startswith(b"user.") and st.S_IFMT(node.mode) not in (st.S_IFREG, st.S_IFDIR):
        raise SysErr(errno.EPERM if change else errno.ENODATA)
    return volume


def _set(kernel: Kernel, node: Node, name_at: int, value_at: int, size: int, flags: int) -> int:
    flags = u32(flags)
    if flags & ~3 or flags == 3:
        raise SysErr(errno.EINVAL)
    name = _name(kernel, name_at)
    if size > SIZE_MAX:
        raise SysErr(errno.E2BIG)
    value = kernel.mem.read(value_at, size) if size else b""
    volume = _check(node, name, change=True)
    have = node.xattrs or {}
    if flags == XATTR_CREATE and name in have:
        raise SysErr(errno.EEXIST)
    if flags == XATTR_REPLACE and name not in have:
        raise SysErr(errno.ENODATA)
    if name not in have and sum(len(n) + 1 for n in have) + len(name) + 1 > LIST_MAX:
        raise SysErr(errno.ENOSPC)
    old = len(have[name]) + len(name) if name in have else 0
    volume.quota.charge(len(name) + len(value) - old)
    node.xattrs = have | {name: value}
    return _touch(kernel, node)


def _touch(kernel: Kernel, node: Node) -> int:
    node.dirty = True
    node.ctime_ns = kernel.fs.now()
    inotify.touched(node, inotify.IN_ATTRIB)
    return 0


def _get(kernel: Kernel, node: Node, name_at: int, value_at: int, size: int) -> int:
    name = _name(kernel, name_at)
    _check(node, name, change=False)
    value = (node.xattrs or {}).get(name)
    if value is None:
        raise SysErr(errno.ENODATA)
    return _give(kernel, value, value_at, size)


def _give(kernel: Kernel, data: bytes, at: int, size: int) -> int:
    if size:
        if len(data) > size:
            raise SysErr(errno.ERANGE)
        kernel.mem.write(at, data)
    return len(data)


def _list(kernel: Kernel, node: Node, at: int, size: int) -> int:
    return _give(kernel, b"".join(n + b"\0" for n in node.xattrs or ()), at, size)


def _remove(kernel: Kernel, node: Node, name_at: int) -> int:
    name = _name(kernel, name_at)
    volume = _check(node, name, change=True)
    have = node.xattrs or {}
    if name not in have:
        raise SysErr(errno.ENODATA)
    volume.quota.refund(len(have[name]) + len(name))
    node.xattrs = {n: v for n, v in have.items() if n != name} or None
    return _touch(kernel, node)


@syscall("setxattr")
def setxattr(kernel: Kernel, task: Task, path: int, name: int, value: int, size: int, flags: int) -> int:
    """setxattr(2)."""
    return _set(kernel, _by_path(kernel, path, True), name, value, size, flags)


@syscall("lsetxattr")
def lsetxattr(kernel: Kernel, task: Task, path: int, name: int, value: int, size: int, flags: int) -> int:
    """lsetxattr(2)."""
    return _set(kernel, _by_path(kernel, path, False), name, value, size, flags)


@syscall("fsetxattr")
def fsetxattr(kernel: Kernel, task: Task, fd: int, name: int, value: int, size: int, flags: int) -> int:
    """fsetxattr(2)."""
    return _set(kernel, _by_fd(kernel, fd), name, value, size, flags)


@syscall("getxattr")
def getxattr(kernel: Kernel, task: Task, path: int, name: int, value: int, size: int) -> int:
    """getxattr(2)."""
    return _get(kernel, _by_path(kernel, path, True), name, value, size)


@syscall("lgetxattr")
def lgetxattr(kernel: Kernel, task: Task, path: int, name: int, value: int, size: int) -> int:
    """lgetxattr(2)."""
    return _get(kernel, _by_path(kernel, path, False), name, value, size)


@syscall("fgetxattr")
def fgetxattr(kernel: Kernel, task: Task, fd: int, name: int, value: int, size: int) -> int:
    """fgetxattr(2)."""
    return _get(kernel, _by_fd(kernel, fd), name, value, size)


@syscall("listxattr")
def listxattr(kernel: Kernel, task: Task, path: int, at: int, size: int) -> int:
    """listxattr(2)."""
    return _list(kernel, _by_path(kernel, path, True), at, size)


@syscall("llistxattr")
def llistxattr(kernel: Kernel, task: Task, path: int, at: int, size: int) -> int:
    """llistxattr(2)."""
    return _list(kernel, _by_path(kernel, path, False), at, size)


@syscall("flistxattr")
def flistxattr(kernel: Kernel, task: Task, fd: int, at: int, size: int) -> int:
    """flistxattr(2)."""
    return _list(kernel, _by_fd(kernel, fd), at, size)


@syscall("removexattr")
def removexattr(kernel: Kernel, task: Task, path: int, name: int) -> int:
    """removexattr(2)."""
    return _remove(kernel, _by_path(kernel, path, True), name)


@syscall("lremovexattr")
def lremovexattr(kernel: Kernel, task: Task, path: int, name: int) -> int:
    """lremovexattr(2)."""
    return _remove(kernel, _by_path(kernel, path, False), name)


@syscall("fremovexattr")
def fremovexattr(kernel: Kernel, task: Task, fd: int, name: int) -> int:
    """fremovexattr(2)."""
    return _remove(kernel, _by_fd(kernel, fd), name)
