"""getdents64(2) and getdents(2)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import syscall, u32
from prong.cell.fs.files import DirFile

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

MAX_COPY = 1 << 20


def _directory(kernel: Kernel, fd: int) -> DirFile:
    file = kernel.fds.get(fd)
    if isinstance(file, DirFile):
        return file
    raise SysErr(errno.EBADF if file.flags & 0o10000000 else errno.ENOTDIR)


@syscall("getdents64")
def getdents64(kernel: Kernel, task: Task, fd: int, buf: int, size: int) -> int:
    """getdents64(2): the listing already has the records, so whole ones are copied."""
    file = _directory(kernel, fd)
    listing = file.records()
    at = end = file.pos
    limit = at + min(u32(size), MAX_COPY)
    total = len(listing)
    while end < total:
        step = listing[end + 16] | listing[end + 17] << 8
        if end + step > limit:
            break
        end += step
    if end == at:
        if at < total:
            raise SysErr(errno.EINVAL)
        return 0
    kernel.mem.write(buf, listing[at:end])
    file.pos = end
    return end - at


@syscall("getdents")
def getdents(kernel: Kernel, task: Task, fd: int, buf: int, size: int) -> int:
    """getdents(2), the old layout: the type is the record's last byte."""
    file = _directory(kernel, fd)
    listing = file.records()
    at, total, limit = file.pos, len(listing), min(u32(size), MAX_COPY)
    out = bytearray()
    while at < total:
        ino, following, step, kind = struct.unpack_from("<QqHB", listing, at)
        name = listing[at + 19 : at + step].split(b"\0", 1)[0]
        length = (20 + len(name) + 7) & ~7
        if len(out) + length > limit:
            break
        out += struct.pack("<QqH", ino, following, length) + name + bytes(length - 19 - len(name)) + bytes([kind])
        at += step
    if not out and at < total:
        raise SysErr(errno.EINVAL)
    kernel.mem.write(buf, out)
    file.pos = at
    return len(out)
