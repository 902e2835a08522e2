"""open(2), openat(2), openat2(2), creat(2), close(2), close_range(2)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.file import O_CLOEXEC, O_PATH
from prong.cell.core.table import syscall, u32
from prong.cell.fs.calls.paths import CWD, base_of
from prong.cell.fs.dirs import Directory
from prong.cell.fs.opening import O_CREAT, O_TMPFILE_BIT, O_TRUNC, open_path

if TYPE_CHECKING:
    from prong.cell.fs.nodes import Node
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

KNOWN_FLAGS = 0o37777703
"""Every O_* bit Linux defines; openat2(2) refuses others."""
CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC = 2, 4


@syscall("openat")
def openat(kernel: Kernel, task: Task, dirfd: int, path: int, flags: int, mode: int) -> int:
    """openat(2)."""
    fs = kernel.fs
    fs.tidy()
    name = kernel.mem.cstr(path)
    base = fs.cwd if dirfd & 0xFFFFFFFF == CWD or name[:1] == b"/" else base_of(kernel, dirfd)
    return _open(kernel, task, base, name, u32(flags), mode & 0o7777, 0)


def _open(kernel: Kernel, task: Task, base: Node, name: bytes, flags: int, mode: int, resolve: int) -> int:
    fds = kernel.fds
    if len(fds.files) >= fds.limit and len(fds.files) - len(fds.hidden) >= fds.limit:
        raise SysErr(errno.EMFILE)
    file = open_path(kernel, task, base, name, flags, mode, resolve=resolve)
    try:
        return fds.install(file, cloexec=bool(flags & O_CLOEXEC))
    except SysErr:
        if file.refs == 0:
            file.release()
        raise


@syscall("open")
def open_(kernel: Kernel, task: Task, path: int, flags: int, mode: int) -> int:
    """open(2)."""
    return openat(kernel, task, CWD, path, flags, mode)


@syscall("creat")
def creat(kernel: Kernel, task: Task, path: int, mode: int) -> int:
    """creat(2)."""
    return openat(kernel, task, CWD, path, O_CREAT | O_TRUNC | 1, mode)


@syscall("openat2")
def openat2(kernel: Kernel, task: Task, dirfd: int, path: int, how: int, size: int) -> int:
    """openat2(2), with its RESOLVE_* flags."""
    if size < 24:
        raise SysErr(errno.EINVAL)
    if size > 4096:
        raise SysErr(errno.E2BIG)
    raw = kernel.mem.read(how, size)
    if any(raw[24:]):
        raise SysErr(errno.E2BIG)
    flags, mode, resolve = struct.unpack_from("<QQQ", raw)
    if flags & ~KNOWN_FLAGS or resolve & ~0x3F or mode & ~0o7777 or resolve & 0x18 == 0x18:
        raise SysErr(errno.EINVAL)
    if mode and not flags & (O_CREAT | O_TMPFILE_BIT):
        raise SysErr(errno.EINVAL)
    if flags & O_PATH and flags & ~(O_PATH | 0o200000 | 0o400000 | O_CLOEXEC):
        raise SysErr(errno.EINVAL)
    if resolve & 0x20 and flags & (O_CREAT | O_TRUNC | O_TMPFILE_BIT):
        raise SysErr(errno.EAGAIN)
    name = kernel.mem.cstr(path)
    kernel.fs.tidy()
    anchored = name[:1] == b"/" and not resolve & 0x18
    base = kernel.fs.cwd if anchored or dirfd & 0xFFFFFFFF == CWD else base_of(kernel, dirfd)
    if resolve & 0x18 and not isinstance(base, Directory):
        raise SysErr(errno.ENOTDIR)
    return _open(kernel, task, base, name, flags, mode, resolve)


@syscall("close")
def close(kernel: Kernel, task: Task, fd: int) -> int:
    """close(2)."""
    kernel.fds.close(fd)
    return 0


@syscall("close_range")
def close_range(kernel: Kernel, task: Task, first: int, last: int, flags: int) -> int:
    """close_range(2); UNSHARE changes nothing where there is one process."""
    first, last = u32(first), u32(last)
    if first > last or u32(flags) & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC):
        raise SysErr(errno.EINVAL)
    fds = kernel.fds
    if flags & CLOSE_RANGE_CLOEXEC:
        fds.cloexec.update(fd for fd in fds.visible() if first <= fd <= last)
    else:
        fds.close_range(first, last)
    return 0
