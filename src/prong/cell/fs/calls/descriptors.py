"""dup(2), fcntl(2), ioctl(2), flock(2)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, Wait
from prong.cell.core.file import O_APPEND, O_CLOEXEC, O_NONBLOCK, O_PATH, File
from prong.cell.core.table import s32, s64, syscall, u32
from prong.cell.fs.files import F_SEAL_SEAL, F_SEAL_WRITE, NodeFile, RegularFile
from prong.cell.fs.locks import F_RDLCK, F_UNLCK, F_WRLCK, FileLocks
from prong.cell.fs.opened import PipeSized

if TYPE_CHECKING:
    from prong.cell.fs.nodes import Node
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW, F_SETOWN, F_GETOWN = range(10)
F_SETSIG, F_GETSIG, F_SETOWN_EX, F_GETOWN_EX = 10, 11, 15, 16
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
F_SETLEASE, F_GETLEASE, F_NOTIFY, F_DUPFD_CLOEXEC, F_SETPIPE_SZ, F_GETPIPE_SZ = 1024, 1025, 1026, 1030, 1031, 1032
F_ADD_SEALS, F_GET_SEALS, F_GET_RW_HINT, F_SET_FILE_RW_HINT = 1033, 1034, 1035, 1038
O_ASYNC, O_DIRECT, O_NOATIME = 0o20000, 0o40000, 0o1000000
SETTABLE = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME
FIONBIO, FIOASYNC, FIOCLEX, FIONCLEX, FIOQSIZE = 0x5421, 0x5452, 0x5451, 0x5450, 0x5460
LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8


@syscall("dup")
def dup(kernel: Kernel, task: Task, fd: int) -> int:
    """dup(2)."""
    return kernel.fds.install(kernel.fds.get(fd))


@syscall("dup2")
def dup2(kernel: Kernel, task: Task, old: int, new: int) -> int:
    """dup2(2)."""
    file = kernel.fds.get(old)
    if u32(old) != u32(new):
        kernel.fds.install_at(u32(new), file)
    return u32(new)


@syscall("dup3")
def dup3(kernel: Kernel, task: Task, old: int, new: int, flags: int) -> int:
    """dup3(2)."""
    if u32(flags) & ~O_CLOEXEC or u32(old) == u32(new):
        raise SysErr(errno.EINVAL)
    kernel.fds.install_at(u32(new), kernel.fds.get(old), cloexec=bool(flags & O_CLOEXEC))
    return u32(new)


@syscall("fcntl")
def fcntl(kernel: Kernel, task: Task, fd: int, command: int, arg: int) -> int:
    """fcntl(2)."""
    fds = kernel.fds
    file = fds.get(fd)
    command = u32(command)
    if command == F_GETFL:
        return file.flags
    if command == F_SETFL and not file.flags & O_PATH:
        return _set_flags(file, u32(arg))
    if command == F_GETFD:
        return int(u32(fd) in fds.cloexec)
    if command == F_SETFD:
        (fds.cloexec.add if arg & 1 else fds.cloexec.discard)(u32(fd))
        return 0
    if command in (F_DUPFD, F_DUPFD_CLOEXEC):
        if u32(arg) >= fds.limit:
            raise SysErr(errno.EINVAL)
        return fds.install(file, cloexec=command == F_DUPFD_CLOEXEC, lowest=u32(arg))
    if file.flags & O_PATH:
        raise SysErr(errno.EBADF)
    if command in (F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW):
        return _record_lock(kernel, file, command, arg)
    return _rare(kernel, file, command, arg)


def _set_flags(file: File, flags: int) -> int:
    file.flags = file.flags & ~SETTABLE | flags & SETTABLE
    return 0


def _rare(kernel: Kernel, file: File, command: int, arg: int) -> int:
    if command == F_GETOWN:
        return file.owner
    if command == F_SETOWN:
        file.owner = s32(arg)
        return 0
    if command == F_SETOWN_EX:
        kind, who = struct.unpack("<ii", kernel.mem.read(arg, 8))
        file.owner = -who if kind == 2 else who
        return 0
    if command == F_GETOWN_EX:
        kernel.mem.write(arg, struct.pack("<ii", 2 if file.owner < 0 else 1, abs(file.owner)))
        return 0
    if command in (F_GETSIG, F_SETSIG):
        if command == F_SETSIG and u32(arg) > 64:
            raise SysErr(errno.EINVAL)
        return 0
    if command == F_GETLEASE:
        return F_UNLCK
    if command in (F_ADD_SEALS, F_GET_SEALS):
        return _seals(file, command, arg)
    if command in (F_SETPIPE_SZ, F_GETPIPE_SZ):
        if not isinstance(file, PipeSized):
            raise SysErr(errno.EBADF)
        return file.set_pipe_size(u32(arg)) if command == F_SETPIPE_SZ else file.pipe_size()
    if F_GET_RW_HINT <= command <= F_SET_FILE_RW_HINT and isinstance(file, RegularFile):
        if command in (F_GET_RW_HINT, F_GET_RW_HINT + 2):
            kernel.mem.put_u64(arg, 0)
        return 0
    raise SysErr(errno.EINVAL)


def _seals(file: File, command: int, arg: int) -> int:
    if not isinstance(file, RegularFile) or not file.node.volume.kind == "anon":
        raise SysErr(errno.EINVAL)
    node = file.node
    if command == F_GET_SEALS:
        return node.seals
    if not file.writable or node.seals & F_SEAL_SEAL:
        raise SysErr(errno.EPERM)
    if u32(arg) & ~0x3F:
        raise SysErr(errno.EINVAL)
    if u32(arg) & F_SEAL_WRITE and node.data is not None and node.data.frames:
        raise SysErr(errno.EBUSY)
    node.seals |= u32(arg)
    return 0


def _locks(node: Node) -> FileLocks:
    if node.locks is None:
        node.locks = FileLocks()
    return node.locks


def _record_lock(kernel: Kernel, file: File, command: int, arg: int) -> int:
    kind, whence, start, length, pid = struct.unpack("<hhxxxxqqi4x", kernel.mem.read(arg, 32))
    if kind not in (F_RDLCK, F_WRLCK, F_UNLCK) or whence not in (0, 1, 2):
        raise SysErr(errno.EINVAL)
    size = file.node.size if isinstance(file, NodeFile) else 0
    start += (0, file.pos, size)[whence]
    if length < 0:
        start, length = start + length, -length
    if start < 0:
        raise SysErr(errno.EINVAL)
    if start + length >= 1 << 63:
        raise SysErr(errno.EOVERFLOW)
    getting = command in (F_GETLK, F_OFD_GETLK)
    if not getting and ((kind == F_RDLCK and not file.readable) or (kind == F_WRLCK and not file.writable)):
        raise SysErr(errno.EBADF)
    own = command >= F_OFD_GETLK
    if own and pid:
        raise SysErr(errno.EINVAL)
    end = start + length if length else 1 << 63
    if not own or not isinstance(file, NodeFile):
        if getting:
            kernel.mem.write(arg, struct.pack("<h", F_UNLCK))
        return 0
    return _own_lock(kernel, file, command, arg, (kind, start, end))


def _own_lock(kernel: Kernel, file: NodeFile, command: int, arg: int, wanted: tuple[int, int, int]) -> int:
    kind, start, end = wanted
    locks = _locks(file.node)
    other = locks.conflict(file, kind, start, end) if kind != F_UNLCK else None
    if command == F_OFD_GETLK:
        if other is None:
            kernel.mem.write(arg, struct.pack("<h", F_UNLCK))
        else:
            length = 0 if other.end == 1 << 63 else other.end - other.start
            kernel.mem.write(arg, struct.pack("<hhxxxxqqi4x", other.kind, 0, other.start, length, -1))
        return 0
    if other is not None:
        if command == F_OFD_SETLKW:
            raise Wait((locks.waitq,))
        raise SysErr(errno.EAGAIN)
    if not locks.set_range(file, kind, start, end):
        raise SysErr(errno.ENOLCK)
    return 0


@syscall("flock")
def flock(kernel: Kernel, task: Task, fd: int, operation: int) -> int:
    """flock(2)."""
    file = kernel.fds.get(fd)
    operation = u32(operation)
    kinds = {LOCK_SH: F_RDLCK, LOCK_EX: F_WRLCK, LOCK_UN: F_UNLCK}
    if operation & ~LOCK_NB not in kinds:
        raise SysErr(errno.EINVAL)
    if file.flags & O_PATH:
        raise SysErr(errno.EBADF)
    if not isinstance(file, NodeFile):
        return 0
    locks = _locks(file.node)
    if not locks.flock(file, kinds[operation & ~LOCK_NB]):
        if operation & LOCK_NB:
            raise SysErr(errno.EAGAIN)
        raise Wait((locks.waitq,))
    return 0


@syscall("ioctl")
def ioctl(kernel: Kernel, task: Task, fd: int, request: int, arg: int) -> int:
    """ioctl(2): what all files share, then the file's own."""
    file = kernel.fds.get(fd)
    request = u32(request)
    if file.flags & O_PATH:
        raise SysErr(errno.EBADF)
    if request == FIOCLEX:
        kernel.fds.cloexec.add(u32(fd))
        return 0
    if request == FIONCLEX:
        kernel.fds.cloexec.discard(u32(fd))
        return 0
    if request in (FIONBIO, FIOASYNC):
        flag = O_NONBLOCK if request == FIONBIO else O_ASYNC
        file.flags = file.flags | flag if s32(kernel.mem.u32(arg)) else file.flags & ~flag
        return 0
    if request == FIOQSIZE and isinstance(file, NodeFile):
        kernel.mem.put_u64(arg, s64(file.node.size))
        return 0
    return file.ioctl(kernel, task, request, arg)
