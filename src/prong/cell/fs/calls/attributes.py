"""Changing attributes and lengths: chmod(2), chown(2), utimensat(2), truncate(2), fallocate(2), fsync(2) and friends."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.file import O_PATH, File
from prong.cell.core.table import s32, s64, syscall, u32
from prong.cell.fs import inotify
from prong.cell.fs.calls.paths import AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, CWD, find, node_at, node_of
from prong.cell.fs.calls.reading import RLIM_INFINITY, RLIMIT_FSIZE, SIGXFSZ
from prong.cell.fs.content import MAX_SIZE
from prong.cell.fs.files import F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_WRITE, RegularFile, truncate_node
from prong.cell.fs.nodes import Node

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
NS = 1_000_000_000
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE = 1, 2, 16


def _changed(kernel: Kernel, node: Node) -> None:
    node.ctime_ns = kernel.fs.now()
    node.dirty = True
    inotify.touched(node, inotify.IN_ATTRIB)


def _may_change(node: Node) -> None:
    if node.volume.readonly:
        raise SysErr(errno.EPERM if node.volume.kind == "proc" else errno.EROFS)


def set_mode(kernel: Kernel, node: Node, mode: int) -> int:
    """Change the permission bits; SysErr(EOPNOTSUPP) for a symbolic link."""
    _may_change(node)
    if node.is_link:
        raise SysErr(errno.EOPNOTSUPP)
    node.mode = node.mode & ~0o7777 | mode & 0o7777
    _changed(kernel, node)
    return 0


@syscall("chmod")
def chmod(kernel: Kernel, task: Task, path: int, mode: int) -> int:
    """chmod(2)."""
    return set_mode(kernel, find(kernel, CWD, path).existing(), mode)


@syscall("fchmodat")
def fchmodat(kernel: Kernel, task: Task, dirfd: int, path: int, mode: int) -> int:
    """The system call behind fchmodat(3): it has no flags."""
    return set_mode(kernel, find(kernel, dirfd, path).existing(), mode)


@syscall("fchmod")
def fchmod(kernel: Kernel, task: Task, fd: int, mode: int) -> int:
    """fchmod(2)."""
    return set_mode(kernel, _opened(kernel, fd), mode)


def _opened(kernel: Kernel, fd: int) -> Node:
    if kernel.fds.get(fd).flags & O_PATH:
        raise SysErr(errno.EBADF)
    return node_of(kernel, fd)


def set_owner(kernel: Kernel, node: Node, uid: int, gid: int) -> int:
    """Change owner and group; -1 keeps. Set-id bits of a file go."""
    _may_change(node)
    uid, gid = u32(uid), u32(gid)
    if uid != 0xFFFFFFFF:
        node.uid = uid
    if gid != 0xFFFFFFFF:
        node.gid = gid
    if not node.is_dir and node.mode & 0o6000:
        node.mode &= ~(0o6000 if node.mode & 0o010 else 0o4000)
    _changed(kernel, node)
    return 0


@syscall("chown")
def chown(kernel: Kernel, task: Task, path: int, uid: int, gid: int) -> int:
    """chown(2)."""
    return set_owner(kernel, find(kernel, CWD, path).existing(), uid, gid)


@syscall("lchown")
def lchown(kernel: Kernel, task: Task, path: int, uid: int, gid: int) -> int:
    """lchown(2)."""
    return set_owner(kernel, find(kernel, CWD, path, follow=False).existing(), uid, gid)


@syscall("fchown")
def fchown(kernel: Kernel, task: Task, fd: int, uid: int, gid: int) -> int:
    """fchown(2)."""
    return set_owner(kernel, _opened(kernel, fd), uid, gid)


@syscall("fchownat")
def fchownat(kernel: Kernel, task: Task, dirfd: int, path: int, uid: int, gid: int, flags: int) -> int:
    """fchownat(2)."""
    if u32(flags) & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise SysErr(errno.EINVAL)
    return set_owner(kernel, node_at(kernel, dirfd, path, flags), uid, gid)


def set_times(kernel: Kernel, node: Node, atime: int | None, mtime: int | None) -> int:
    """Change times (ns since the epoch; None keeps)."""
    _may_change(node)
    if atime is not None:
        node.atime_ns = atime
    if mtime is not None:
        node.mtime_ns = mtime
    if atime is not None or mtime is not None:
        _changed(kernel, node)
    return 0


@syscall("utimensat")
def utimensat(kernel: Kernel, task: Task, dirfd: int, path: int, times: int, flags: int) -> int:
    """utimensat(2); a null path means ``dirfd`` itself (futimens)."""
    if u32(flags) & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise SysErr(errno.EINVAL)
    now = kernel.fs.now()
    atime: int | None = now
    mtime: int | None = now
    if times:
        raw = struct.unpack("<qqqq", kernel.mem.read(times, 32))
        if raw[1] == raw[3] == UTIME_OMIT:
            return 0
        atime, mtime = _utime(raw[0], raw[1], now), _utime(raw[2], raw[3], now)
    if path:
        node = node_at(kernel, dirfd, path, flags)
    elif dirfd & 0xFFFFFFFF == CWD:
        raise SysErr(errno.EFAULT)
    elif flags & AT_SYMLINK_NOFOLLOW:
        raise SysErr(errno.EINVAL)
    else:
        node = _opened(kernel, dirfd)
    return set_times(kernel, node, atime, mtime)


def _utime(seconds: int, nanoseconds: int, now: int) -> int | None:
    if nanoseconds == UTIME_NOW:
        return now
    if nanoseconds == UTIME_OMIT:
        return None
    if not 0 <= nanoseconds < NS:
        raise SysErr(errno.EINVAL)
    return seconds * NS + nanoseconds if abs(seconds) < 1 << 40 else (1 << 40) * NS


@syscall("futimesat")
def futimesat(kernel: Kernel, task: Task, dirfd: int, path: int, times: int) -> int:
    """futimesat(2)."""
    now = kernel.fs.now()
    atime = mtime = now
    if times:
        raw = struct.unpack("<qqqq", kernel.mem.read(times, 32))
        if not (0 <= raw[1] < 1_000_000 and 0 <= raw[3] < 1_000_000) or max(abs(raw[0]), abs(raw[2])) >= 1 << 40:
            raise SysErr(errno.EINVAL)
        atime, mtime = raw[0] * NS + raw[1] * 1000, raw[2] * NS + raw[3] * 1000
    node = find(kernel, dirfd, path).existing() if path else _opened(kernel, dirfd)
    return set_times(kernel, node, atime, mtime)


@syscall("utimes")
def utimes(kernel: Kernel, task: Task, path: int, times: int) -> int:
    """utimes(2)."""
    return futimesat(kernel, task, CWD, path, times)


@syscall("utime")
def utime(kernel: Kernel, task: Task, path: int, times: int) -> int:
    """utime(2)."""
    atime = mtime = kernel.fs.now()
    if times:
        raw = struct.unpack("<qq", kernel.mem.read(times, 16))
        if max(abs(raw[0]), abs(raw[1])) >= 1 << 40:
            raise SysErr(errno.EINVAL)
        atime, mtime = raw[0] * NS, raw[1] * NS
    return set_times(kernel, find(kernel, CWD, path).existing(), atime, mtime)


def _check_limit(kernel: Kernel, task: Task, node: Node, size: int) -> None:
    limit = kernel.process.rlimits.get(RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY))[0]
    if limit != RLIM_INFINITY and size > max(limit, node.size):
        kernel.signals.post(SIGXFSZ, task)
        raise SysErr(errno.EFBIG)


@syscall("truncate")
def truncate(kernel: Kernel, task: Task, path: int, size: int) -> int:
    """truncate(2)."""
    length = s64(size)
    if length < 0:
        raise SysErr(errno.EINVAL)
    node = find(kernel, CWD, path).existing()
    _check_limit(kernel, task, node, length)
    truncate_node(kernel.fs, node, length)
    return 0


@syscall("ftruncate")
def ftruncate(kernel: Kernel, task: Task, fd: int, size: int) -> int:
    """ftruncate(2)."""
    length = s64(size)
    if length < 0:
        raise SysErr(errno.EINVAL)
    file = kernel.fds.get(fd)
    if file.flags & O_PATH:
        raise SysErr(errno.EBADF)
    if not file.writable:
        raise SysErr(errno.EINVAL)
    if isinstance(file, RegularFile):
        _check_limit(kernel, task, file.node, length)
    file.truncate(length)
    return 0


@syscall("fallocate")
def fallocate(kernel: Kernel, task: Task, fd: int, mode: int, offset: int, length: int) -> int:
    """fallocate(2): reserve (0, KEEP_SIZE), PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE."""
    start, size, mode = s64(offset), s64(length), u32(mode)
    file = kernel.fds.get(fd)
    if file.flags & O_PATH:
        raise SysErr(errno.EBADF)
    if start < 0 or size <= 0:
        raise SysErr(errno.EINVAL)
    if mode & ~0x13 or (mode & FALLOC_FL_PUNCH_HOLE and mode != FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE):
        raise SysErr(errno.EOPNOTSUPP)
    if not file.writable:
        raise SysErr(errno.EBADF)
    if not isinstance(file, RegularFile):
        raise SysErr(errno.ESPIPE if not file.seekable else errno.ENODEV)
    if start + size > MAX_SIZE:
        raise SysErr(errno.EFBIG)
    _allocate(kernel, task, file, mode, start, size)
    return 0


def _allocate(kernel: Kernel, task: Task, file: RegularFile, mode: int, start: int, size: int) -> None:
    node = file.node
    grows = not mode & FALLOC_FL_KEEP_SIZE and start + size > node.size
    if node.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) and mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE):
        raise SysErr(errno.EPERM)
    if grows and node.seals & F_SEAL_GROW:
        raise SysErr(errno.EPERM)
    if grows:
        _check_limit(kernel, task, node, start + size)
    content = node.content()
    if mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE):
        content.punch(start, size)
    else:
        content.allocate(start, size)
    if grows:
        content.truncate(start + size)
    node.mtime_ns = node.ctime_ns = kernel.fs.now()


def _sync(kernel: Kernel, fd: int) -> int:
    """Memory is always in sync; only what cannot be synced is an error."""
    file = kernel.fds.get(fd)
    if file.flags & O_PATH:
        raise SysErr(errno.EBADF)
    if not file.seekable:
        raise SysErr(errno.EINVAL)
    return 0


@syscall("fsync")
def fsync(kernel: Kernel, task: Task, fd: int) -> int:
    """fsync(2)."""
    return _sync(kernel, fd)


@syscall("fdatasync")
def fdatasync(kernel: Kernel, task: Task, fd: int) -> int:
    """fdatasync(2)."""
    return _sync(kernel, fd)


@syscall("sync")
def sync(kernel: Kernel, task: Task) -> int:
    """sync(2)."""
    return 0


@syscall("syncfs")
def syncfs(kernel: Kernel, task: Task, fd: int) -> int:
    """syncfs(2)."""
    if kernel.fds.get(fd).flags & O_PATH:
        raise SysErr(errno.EBADF)
    return 0


@syscall("sync_file_range")
def sync_file_range(kernel: Kernel, task: Task, fd: int, offset: int, size: int, flags: int) -> int:
    """sync_file_range(2)."""
    if s64(offset) < 0 or s64(size) < 0 or u32(flags) & ~7:
        raise SysErr(errno.EINVAL)
    return _positioned(kernel.fds.get(fd))


def _positioned(file: File) -> int:
    if file.flags & O_PATH:
        raise SysErr(errno.EBADF)
    if not file.seekable:
        raise SysErr(errno.ESPIPE)
    return 0


@syscall("fadvise64")
def fadvise64(kernel: Kernel, task: Task, fd: int, offset: int, size: int, advice: int) -> int:
    """posix_fadvise(2): checked, then ignored."""
    _positioned(kernel.fds.get(fd))
    if s64(size) < 0 or not 0 <= s32(advice) <= 5:
        raise SysErr(errno.EINVAL)
    return 0


@syscall("readahead")
def readahead(kernel: Kernel, task: Task, fd: int, offset: int, size: int) -> int:
    """readahead(2): checked, then ignored."""
    file = kernel.fds.get(fd)
    if not file.readable:
        raise SysErr(errno.EBADF)
    if not isinstance(file, RegularFile):
        raise SysErr(errno.EINVAL)
    return 0
