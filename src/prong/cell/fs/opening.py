"""open(2) without the system call: from flags and a path to an open file."""

from __future__ import annotations

import errno
import stat as st
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.file import O_ACCMODE, O_PATH, O_RDONLY, O_RDWR, O_WRONLY, File
from prong.cell.fs import inotify, ops
from prong.cell.fs.devices import open_device
from prong.cell.fs.dirs import Directory, OverlayDir
from prong.cell.fs.files import DirFile, PathFile, RegularFile, truncate_node
from prong.cell.fs.nodes import Node, Regular
from prong.cell.fs.opened import OpenedNode
from prong.cell.fs.proc.nodes import TextNode, open_text
from prong.cell.fs.special import open_fifo
from prong.cell.fs.walk import Found, walk

if TYPE_CHECKING:
    from prong.cell.fs.state import FsState
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC = 0o100, 0o200, 0o400, 0o1000
O_DIRECTORY, O_NOFOLLOW, O_TMPFILE_BIT, O_LARGEFILE = 0o200000, 0o400000, 0o20000000, 0o100000
O_TMPFILE = O_TMPFILE_BIT | O_DIRECTORY
STATUS_FLAGS = ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC)
"""Flags that stay with the open file, as F_GETFL shows them."""


def open_path(kernel: Kernel, task: Task, base: Node, path: bytes, flags: int, mode: int, *, resolve: int = 0) -> File:
    """open(2) of ``path`` from directory ``base``. Raises SysErr with the errno open(2) tells; Wait for a FIFO."""
    fs = kernel.fs
    if flags & O_PATH:
        flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | 0o2000000
    elif flags & O_TMPFILE_BIT:
        return _open_tmpfile(fs, base, path, flags, mode, resolve)
    follow = not flags & O_NOFOLLOW and not (flags & O_CREAT and flags & O_EXCL)
    if flags & O_CREAT and flags & O_DIRECTORY:
        raise SysErr(errno.EINVAL)
    found = walk(fs, base, path, follow=follow, creating=bool(flags & O_CREAT), resolve=resolve)
    node = found.node
    if node is None:
        return _create(fs, found, flags, mode)
    if flags & O_CREAT:
        if flags & O_EXCL:
            raise SysErr(errno.EEXIST)
        if node.is_dir:
            raise SysErr(errno.EISDIR)
    return open_node(kernel, task, node, flags, (found.parent, found.name))


def _create(fs: FsState, found: Found, flags: int, mode: int) -> File:
    if not flags & O_CREAT:
        raise SysErr(errno.ENOENT)
    node = ops.make_regular(fs, found, mode)
    inotify.touched(node, inotify.IN_OPEN)
    return RegularFile(fs, node, flags & STATUS_FLAGS | O_LARGEFILE, (found.parent, found.name))


def _open_tmpfile(fs: FsState, base: Node, path: bytes, flags: int, mode: int, resolve: int) -> File:
    if flags & O_TMPFILE != O_TMPFILE or flags & O_ACCMODE not in (O_WRONLY, O_RDWR) or flags & O_CREAT:
        raise SysErr(errno.EINVAL)
    where = walk(fs, base, path, resolve=resolve).existing()
    if not isinstance(where, Directory):
        raise SysErr(errno.ENOTDIR)
    if not isinstance(where, OverlayDir):
        raise SysErr(errno.EOPNOTSUPP)
    if where.dead:
        raise SysErr(errno.ENOENT)
    node = Regular(where.volume, where.volume.ino(), st.S_IFREG | mode & 0o7777 & ~fs.umask, fs.now())
    node.nlink = 0
    node.tmpfile = not flags & O_EXCL
    return RegularFile(fs, node, flags & STATUS_FLAGS | O_LARGEFILE, (where, b"#%d" % node.ino))


def open_node(kernel: Kernel, task: Task, node: Node, flags: int, where: tuple[Directory, bytes] | None) -> File:
    """Open an existing node; ``where`` is the place it was found at."""
    fs = kernel.fs
    kind = node.mode & 0o170000
    if kind == st.S_IFLNK:
        if flags & O_DIRECTORY or not flags & O_PATH:
            raise SysErr(errno.ENOTDIR if flags & O_DIRECTORY else errno.ELOOP)
        return PathFile(fs, node, flags, where)
    if flags & O_DIRECTORY and kind != st.S_IFDIR:
        raise SysErr(errno.ENOTDIR)
    if flags & O_PATH:
        return PathFile(fs, node, flags, where)
    status = flags & STATUS_FLAGS | O_LARGEFILE
    file: File
    if kind == st.S_IFREG:
        file = _open_regular(fs, node, flags, status, where)
    elif isinstance(node, Directory):
        if flags & O_ACCMODE != O_RDONLY or flags & O_TRUNC:
            raise SysErr(errno.EISDIR)
        file = DirFile(fs, node, status, where)
    elif isinstance(node, OpenedNode):
        file = node.reopen(status)
    elif kind == st.S_IFIFO:
        file = open_fifo(kernel, task, node, status, where)
    elif kind == st.S_IFCHR:
        file = open_device(fs, node, status, where)
    else:
        raise SysErr(errno.ENXIO)
    inotify.touched(node, inotify.IN_OPEN)
    return file


def _open_regular(fs: FsState, node: Node, flags: int, status: int, where: tuple[Directory, bytes] | None) -> File:
    if isinstance(node, TextNode):
        return open_text(fs, node, status, where)
    if isinstance(node, OpenedNode):
        return node.reopen(status)
    assert isinstance(node, Regular)
    if flags & O_TRUNC:
        truncate_node(fs, node, 0)
    return RegularFile(fs, node, status, where)
