"""stat(2) and its kin, access(2), readlink(2), statfs(2)."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import s32, syscall, u32
from prong.cell.fs.calls.paths import (
    AT_EMPTY_PATH,
    AT_NO_AUTOMOUNT,
    AT_SYMLINK_NOFOLLOW,
    CWD,
    find,
    node_at,
    node_of,
)
from prong.cell.fs.content import NAME_COST
from prong.cell.fs.files import NodeFile
from prong.cell.fs.nodes import MagicLink, Node, Symlink
from prong.cell.fs.opened import OpenedNode
from prong.cell.fs.proc.nodes import TextDir
from prong.cell.fs.volume import Volume

if TYPE_CHECKING:
    from prong.cell.core.file import Stat
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

STAT = struct.Struct("<QQQIII4xQqqqqqqqqq24x")
"""struct stat of x86-64 (144 bytes)."""
NS = 1_000_000_000


def pack_stat(node: Node) -> bytes:
    """A node as struct stat."""
    if isinstance(node, OpenedNode):
        return pack_info(node.stat())
    return STAT.pack(
        node.volume.dev,
        node.ino,
        node.nlink,
        node.mode,
        node.uid,
        node.gid,
        node.rdev,
        node.size,
        4096,
        (node.allocated() + 511) // 512,
        *divmod(node.atime_ns, NS),
        *divmod(node.mtime_ns, NS),
        *divmod(node.ctime_ns, NS),
    )


def pack_info(info: Stat) -> bytes:
    """What a File told of itself, as struct stat."""
    return STAT.pack(
        info.dev,
        info.ino,
        info.nlink,
        info.mode,
        info.uid,
        info.gid,
        info.rdev,
        info.size,
        info.blksize,
        info.blocks,
        *divmod(info.atime_ns, NS),
        *divmod(info.mtime_ns, NS),
        *divmod(info.ctime_ns, NS),
    )


@syscall("fstat")
def fstat(kernel: Kernel, task: Task, fd: int, buf: int) -> int:
    """fstat(2)."""
    file = kernel.fds.get(fd)
    kernel.mem.write(buf, pack_stat(file.node) if isinstance(file, NodeFile) else pack_info(file.stat()))
    return 0


@syscall("newfstatat")
def newfstatat(kernel: Kernel, task: Task, dirfd: int, path: int, buf: int, flags: int) -> int:
    """fstatat(2)."""
    if u32(flags) & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT):
        raise SysErr(errno.EINVAL)
    kernel.fs.tidy()
    kernel.mem.write(buf, pack_stat(node_at(kernel, dirfd, path, flags)))
    return 0


@syscall("stat")
def stat(kernel: Kernel, task: Task, path: int, buf: int) -> int:
    """stat(2)."""
    return newfstatat(kernel, task, CWD, path, buf, 0)


@syscall("lstat")
def lstat(kernel: Kernel, task: Task, path: int, buf: int) -> int:
    """lstat(2)."""
    return newfstatat(kernel, task, CWD, path, buf, AT_SYMLINK_NOFOLLOW)


STATX_BASIC, STATX_BTIME, STATX_MNT_ID = 0x7FF, 0x800, 0x1000
STATX = struct.Struct("<IIQIIIHxxQQQQ")
STATX_TIME = struct.Struct("<qIxxxx")


@syscall("statx")
def statx(kernel: Kernel, task: Task, dirfd: int, path: int, flags: int, mask: int, buf: int) -> int:
    """statx(2); everything of STATX_BASIC_STATS is always told."""
    flags = u32(flags)
    if flags & ~(0x7900 | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) or flags & 0x6000 == 0x6000 or u32(mask) & 0x80000000:
        raise SysErr(errno.EINVAL)
    node = node_at(kernel, dirfd, path, flags)
    info = node.stat()
    blocks = info.blocks if isinstance(node, OpenedNode) else (node.allocated() + 511) // 512
    out = STATX.pack(
        STATX_BASIC,
        info.blksize,
        0,
        info.nlink,
        info.uid,
        info.gid,
        info.mode,
        info.ino,
        info.size,
        blocks,
        0,
    )
    for when in (info.atime_ns, 0, info.ctime_ns, info.mtime_ns):
        out += STATX_TIME.pack(*divmod(when, NS))
    out += struct.pack("<IIII", os.major(info.rdev), os.minor(info.rdev), os.major(info.dev), os.minor(info.dev))
    kernel.mem.write(buf, out + bytes(256 - len(out)))
    return 0


@syscall("access")
def access(kernel: Kernel, task: Task, path: int, mode: int) -> int:
    """access(2)."""
    return _access(kernel, CWD, path, mode, 0)


@syscall("faccessat")
def faccessat(kernel: Kernel, task: Task, dirfd: int, path: int, mode: int) -> int:
    """The system call behind faccessat(3): it has no flags."""
    return _access(kernel, dirfd, path, mode, 0)


@syscall("faccessat2")
def faccessat2(kernel: Kernel, task: Task, dirfd: int, path: int, mode: int, flags: int) -> int:
    """faccessat(2)."""
    if u32(flags) & ~(0x200 | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise SysErr(errno.EINVAL)
    return _access(kernel, dirfd, path, mode, flags)


def _access(kernel: Kernel, dirfd: int, path: int, mode: int, flags: int) -> int:
    """Root may read and write everything, and execute what anybody may."""
    if u32(mode) & ~7:
        raise SysErr(errno.EINVAL)
    kernel.fs.tidy()
    node = node_at(kernel, dirfd, path, flags)
    if mode & 1 and not node.is_dir and not node.mode & 0o111:
        raise SysErr(errno.EACCES)
    if mode & 2 and node.volume.readonly and (node.volume.kind == "sysfs" or isinstance(node, TextDir)):
        raise SysErr(errno.EROFS if node.volume.kind == "sysfs" else errno.EACCES)
    return 0


@syscall("readlink")
def readlink(kernel: Kernel, task: Task, path: int, buf: int, size: int) -> int:
    """readlink(2)."""
    return readlinkat(kernel, task, CWD, path, buf, size)


@syscall("readlinkat")
def readlinkat(kernel: Kernel, task: Task, dirfd: int, path: int, buf: int, size: int) -> int:
    """readlinkat(2); an empty path reads the link that ``dirfd`` (opened with O_PATH | O_NOFOLLOW) is."""
    if s32(size) <= 0:
        raise SysErr(errno.EINVAL)
    if kernel.mem.cstr(path):
        node = find(kernel, dirfd, path, follow=False).existing()
        error = errno.EINVAL
    else:
        if dirfd & 0xFFFFFFFF == CWD:
            raise SysErr(errno.ENOENT)
        node, error = node_of(kernel, dirfd), errno.ENOENT
    if isinstance(node, MagicLink):
        target = node.text()
    elif isinstance(node, Symlink):
        target = node.target
    else:
        raise SysErr(error)
    target = target[: s32(size)]
    kernel.mem.write(buf, target)
    return len(target)


@syscall("statfs")
def statfs(kernel: Kernel, task: Task, path: int, buf: int) -> int:
    """statfs(2)."""
    kernel.mem.write(buf, _pack_statfs(find(kernel, CWD, path).existing().volume))
    return 0


@syscall("fstatfs")
def fstatfs(kernel: Kernel, task: Task, fd: int, buf: int) -> int:
    """fstatfs(2)."""
    kernel.mem.write(buf, _pack_statfs(node_of(kernel, fd).volume))
    return 0


def _pack_statfs(volume: Volume) -> bytes:
    quota = volume.quota
    writable = not volume.readonly
    total = quota.limit // 4096 if writable else 0
    free = max(0, quota.limit - quota.used) // 4096 if writable else 0
    files, left = total * 4096 // NAME_COST, free * 4096 // NAME_COST
    flags = 0x20 | (0 if writable else 1)
    head = struct.pack("<7q", volume.magic, 4096, total, free, free, files, left)
    return head + struct.pack("<iiqqq32x", volume.dev, 0, 255, 4096, flags)
