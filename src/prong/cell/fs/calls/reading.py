"""read(2), write(2) and their vector and positioned forms, and lseek(2).

A regular file is moved in steps of 1 MiB until the whole request is done; a stream gives what it has. A write that had to
wait keeps the number of bytes already taken in ``task.scratch``, and starts after them when it runs again.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, Wait, WouldBlock
from prong.cell.core.file import O_APPEND, O_NONBLOCK, O_PATH, File
from prong.cell.core.saved import saved
from prong.cell.core.table import s32, s64, syscall
from prong.cell.fs.files import NodeFile, RegularFile

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

MAX_RW = 0x7FFFF000
STEP, STREAM_STEP = 1 << 20, 1 << 18
"""Bytes moved at once: for files, and for streams (which hold less than that)."""
SIGPIPE, SIGXFSZ = 13, 25
RLIMIT_FSIZE, RLIM_INFINITY = 1, 0xFFFFFFFFFFFFFFFF
RWF_HIPRI, RWF_DSYNC, RWF_SYNC, RWF_NOWAIT, RWF_APPEND = 1, 2, 4, 8, 16


@saved("fs.progress")
class Progress:
    """How far a call got before it had to wait, and until when it may wait (cell ns; None is for ever)."""

    def __init__(self, done: int = 0, deadline: int | None = None) -> None:
        self.done = done
        self.deadline = deadline


def reader(kernel: Kernel, fd: int) -> File:
    """The file behind ``fd``, open for reading; SysErr(EBADF)."""
    file = kernel.fds.get(fd)
    if file.flags & 3 == 1 or file.flags & O_PATH:
        raise SysErr(errno.EBADF)
    return file


def writer(kernel: Kernel, fd: int) -> File:
    """The file behind ``fd``, open for writing; SysErr(EBADF)."""
    file = kernel.fds.get(fd)
    if file.flags & 3 not in (1, 2) or file.flags & O_PATH:
        raise SysErr(errno.EBADF)
    return file


def would_block(
    kernel: Kernel, task: Task, file: File, blocked: WouldBlock, *, writing: bool = False, done: int = 0
) -> SysErr | Wait:
    """What to raise when ``file`` cannot go on: EAGAIN if it is non-blocking or its SO_…TIMEO has passed, else a wait."""
    if file.flags & O_NONBLOCK or task.expired:
        return SysErr(errno.EAGAIN)
    progress = task.scratch if isinstance(task.scratch, Progress) else Progress()
    timeout: int | None = getattr(file, "sndtimeo" if writing else "rcvtimeo", None)  # only sockets have them
    if timeout is not None and progress.deadline is None:
        progress.deadline = kernel.clock.monotonic() + timeout
    progress.done = done
    if done or timeout is not None:
        task.scratch = progress
    queues = blocked.queues or (file.waitq,)
    return Wait(queues, deadline=progress.deadline, restart=timeout is None, partial=done)


@syscall("read")
def read(kernel: Kernel, task: Task, fd: int, buf: int, count: int) -> int:
    """read(2)."""
    file = reader(kernel, fd)
    if count > STEP or count > MAX_RW:
        return _read_long(kernel, task, file, buf, min(count, MAX_RW))
    try:
        data = file.read(count)
    except WouldBlock as blocked:
        raise would_block(kernel, task, file, blocked) from None
    if data:
        kernel.mem.write(buf, data)
    return len(data)


def _read_long(kernel: Kernel, task: Task, file: File, buf: int, count: int) -> int:
    done = 0
    while done < count:
        step = min(STEP, count - done)
        try:
            data = file.read(step)
        except WouldBlock as blocked:
            if done:
                return done
            raise would_block(kernel, task, file, blocked) from None
        try:
            if data:
                kernel.mem.write(buf + done, data)
        except SysErr:
            if not done:
                raise
            return done
        done += len(data)
        if len(data) < step or not isinstance(file, NodeFile):
            break
    return done


@syscall("write")
def write(kernel: Kernel, task: Task, fd: int, buf: int, count: int) -> int:
    """write(2)."""
    return write_pieces(kernel, task, writer(kernel, fd), [(buf, min(count, MAX_RW))])


def write_pieces(kernel: Kernel, task: Task, file: File, pieces: list[tuple[int, int]]) -> int:
    """Write guest memory pieces one after the other; the body of write(2) and writev(2). Small pieces go as one."""
    total = sum(n for _, n in pieces)
    done = task.scratch.done if isinstance(task.scratch, Progress) else 0
    step = STREAM_STEP
    if isinstance(file, NodeFile):
        total = size_limit(kernel, task, file, file.node.size if file.flags & O_APPEND else file.pos, total)
        step = STEP
    try:
        if total == 0:
            return file.write(b"")
        while done < total:
            data = gather(kernel, pieces, done, min(step, total - done))
            taken = file.write(data)
            done += taken
            if taken < len(data) and isinstance(file, NodeFile):
                break
    except WouldBlock as blocked:
        reason = would_block(kernel, task, file, blocked, writing=True, done=done)
        if done and isinstance(reason, SysErr):
            return done
        raise reason from None
    except SysErr as error:
        if error.errno == errno.EPIPE:
            kernel.signals.post(SIGPIPE, task)
        if done:
            return done
        raise
    return done


def gather(kernel: Kernel, pieces: list[tuple[int, int]], start: int, size: int) -> bytes:
    """``size`` bytes from byte ``start`` of the concatenated pieces. A fault ends it early unless nothing was read."""
    if len(pieces) == 1:
        return kernel.mem.read(pieces[0][0] + start, size)
    out = bytearray()
    for pointer, length in pieces:
        if start >= length:
            start -= length
            continue
        part = min(length - start, size - len(out))
        try:
            out += kernel.mem.read(pointer + start, part)
        except SysErr:
            if out:
                break
            raise
        start = 0
        if len(out) == size:
            break
    return bytes(out)


def size_limit(kernel: Kernel, task: Task, file: NodeFile, at: int, size: int) -> int:
    """How much of a write RLIMIT_FSIZE allows; SIGXFSZ and SysErr(EFBIG) if nothing."""
    limits = kernel.process.rlimits
    if RLIMIT_FSIZE not in limits or not isinstance(file, RegularFile) or not size:
        return size
    limit = limits[RLIMIT_FSIZE][0]
    if limit == RLIM_INFINITY:
        return size
    if at >= limit:
        kernel.signals.post(SIGXFSZ, task)
        raise SysErr(errno.EFBIG)
    return min(size, limit - at)


def scatter(kernel: Kernel, pieces: list[tuple[int, int]], start: int, data: bytes) -> None:
    """Store ``data`` at byte ``start`` of the concatenated pieces."""
    at = 0
    for pointer, length in pieces:
        if start >= length:
            start -= length
            continue
        part = min(length - start, len(data) - at)
        kernel.mem.write(pointer + start, data[at : at + part])
        at += part
        start = 0
        if at == len(data):
            return


@syscall("readv")
def readv(kernel: Kernel, task: Task, fd: int, iov: int, count: int) -> int:
    """readv(2)."""
    file = reader(kernel, fd)
    return _read_pieces(kernel, task, file, kernel.mem.iovecs(iov, s32(count)), None)


def _read_pieces(kernel: Kernel, task: Task, file: File, pieces: list[tuple[int, int]], offset: int | None) -> int:
    total = min(sum(n for _, n in pieces), MAX_RW)
    done = 0
    while done < total or total == 0:
        step = min(STEP, total - done)
        try:
            data = file.read(step) if offset is None else file.pread(step, offset + done)
        except WouldBlock as blocked:
            if done:
                return done
            raise would_block(kernel, task, file, blocked) from None
        scatter(kernel, pieces, done, data)
        done += len(data)
        if len(data) < step or not isinstance(file, NodeFile) or total == 0:
            break
    return done


@syscall("writev")
def writev(kernel: Kernel, task: Task, fd: int, iov: int, count: int) -> int:
    """writev(2)."""
    file = writer(kernel, fd)
    return write_pieces(kernel, task, file, kernel.mem.iovecs(iov, s32(count)))


@syscall("pread64")
def pread64(kernel: Kernel, task: Task, fd: int, buf: int, count: int, offset: int) -> int:
    """pread(2)."""
    if s64(offset) < 0:
        raise SysErr(errno.EINVAL)
    return _read_pieces(kernel, task, reader(kernel, fd), [(buf, min(count, MAX_RW))], offset)


@syscall("pwrite64")
def pwrite64(kernel: Kernel, task: Task, fd: int, buf: int, count: int, offset: int) -> int:
    """pwrite(2)."""
    if s64(offset) < 0:
        raise SysErr(errno.EINVAL)
    return _pwrite_pieces(kernel, task, writer(kernel, fd), [(buf, min(count, MAX_RW))], offset)


def _pwrite_pieces(kernel: Kernel, task: Task, file: File, pieces: list[tuple[int, int]], offset: int) -> int:
    total = sum(n for _, n in pieces)
    if isinstance(file, NodeFile):
        total = size_limit(kernel, task, file, file.node.size if file.flags & O_APPEND else offset, total)
    if total == 0:
        return file.pwrite(b"", offset)
    done = 0
    while done < total:
        try:
            data = gather(kernel, pieces, done, min(STEP, total - done))
            taken = file.pwrite(data, offset + done)
        except SysErr:
            if done:
                return done
            raise
        done += taken
        if taken < len(data):
            break
    return done


@syscall("preadv")
def preadv(kernel: Kernel, task: Task, fd: int, iov: int, count: int, low: int, high: int) -> int:
    """preadv(2); on x86-64 the whole offset is in ``low``."""
    file = reader(kernel, fd)
    if s64(low) < 0:
        raise SysErr(errno.EINVAL)
    return _read_pieces(kernel, task, file, kernel.mem.iovecs(iov, s32(count)), low)


@syscall("pwritev")
def pwritev(kernel: Kernel, task: Task, fd: int, iov: int, count: int, low: int, high: int) -> int:
    """pwritev(2)."""
    file = writer(kernel, fd)
    if s64(low) < 0:
        raise SysErr(errno.EINVAL)
    return _pwrite_pieces(kernel, task, file, kernel.mem.iovecs(iov, s32(count)), low)


@syscall("preadv2")
def preadv2(kernel: Kernel, task: Task, fd: int, iov: int, count: int, low: int, high: int, flags: int) -> int:
    """preadv2(2): offset -1 uses the position; RWF_NOWAIT answers EAGAIN where it would wait."""
    if flags & ~0x1F:
        raise SysErr(errno.EOPNOTSUPP)
    if s64(low) == -1:
        return readv(kernel, task, fd, iov, count)
    return preadv(kernel, task, fd, iov, count, low, high)


@syscall("pwritev2")
def pwritev2(kernel: Kernel, task: Task, fd: int, iov: int, count: int, low: int, high: int, flags: int) -> int:
    """pwritev2(2): offset -1 uses the position; RWF_APPEND writes at the end."""
    if flags & ~0x1F:
        raise SysErr(errno.EOPNOTSUPP)
    file = writer(kernel, fd)
    if flags & RWF_APPEND and isinstance(file, NodeFile):
        pieces = kernel.mem.iovecs(iov, s32(count))
        done = _pwrite_pieces(kernel, task, file, pieces, file.node.size)
        if s64(low) == -1:
            file.pos = file.node.size
        return done
    if s64(low) == -1:
        return writev(kernel, task, fd, iov, count)
    return pwritev(kernel, task, fd, iov, count, low, high)


@syscall("lseek")
def lseek(kernel: Kernel, task: Task, fd: int, offset: int, whence: int) -> int:
    """lseek(2)."""
    return kernel.fds.get(fd).seek(s64(offset), whence & 0xFFFFFFFF)
