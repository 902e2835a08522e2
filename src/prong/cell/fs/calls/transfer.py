"""Moving bytes between descriptors: sendfile(2), copy_file_range(2), splice(2).

tee(2) and vmsplice(2) answer EINVAL, as for files that cannot do it; callers fall back to read and write.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import O_APPEND, O_PATH, File
from prong.cell.core.table import s64, syscall, u32
from prong.cell.fs.calls.reading import MAX_RW, SIGPIPE, reader, would_block, writer
from prong.cell.fs.files import NodeFile, RegularFile

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

STEP = 1 << 16
SPLICE_F_NONBLOCK = 2


def _offset(kernel: Kernel, pointer: int) -> int | None:
    if not pointer:
        return None
    offset = s64(kernel.mem.u64(pointer))
    if offset < 0:
        raise SysErr(errno.EINVAL)
    return offset


@syscall("sendfile")
def sendfile(kernel: Kernel, task: Task, out_fd: int, in_fd: int, offset_at: int, count: int) -> int:
    """sendfile(2): from a file that has positions to any file. What did not fit stays in the source."""
    source = reader(kernel, in_fd)
    target = writer(kernel, out_fd)
    offset = _offset(kernel, offset_at)
    if isinstance(source, NodeFile) and source.node.is_dir:
        raise SysErr(errno.EINVAL)
    if not isinstance(source, NodeFile) or (isinstance(target, RegularFile) and target.flags & O_APPEND):
        raise SysErr(errno.EINVAL)
    done = 0
    at = source.pos if offset is None else offset
    count = min(count, MAX_RW)
    try:
        while done < count:
            data = source.pread(min(STEP, count - done), at)
            if not data:
                break
            taken = target.write(data)
            done, at = done + taken, at + taken
            _moved(kernel, source, offset_at, at)
            if taken < len(data):
                if isinstance(target, NodeFile):
                    break
                raise WouldBlock
    except WouldBlock as blocked:
        if done:
            return done
        raise would_block(kernel, task, target, blocked, writing=True) from None
    except SysErr as error:
        if error.errno == errno.EPIPE:
            kernel.signals.post(SIGPIPE, task)
        if not done:
            raise
    return done


def _moved(kernel: Kernel, source: File, offset_at: int, at: int) -> None:
    if offset_at:
        kernel.mem.put_u64(offset_at, at)
    else:
        source.pos = at


@syscall("copy_file_range")
def copy_file_range(
    kernel: Kernel, task: Task, in_fd: int, in_at: int, out_fd: int, out_at: int, count: int, flags: int
) -> int:
    """copy_file_range(2): between regular files."""
    if u32(flags):
        raise SysErr(errno.EINVAL)
    files = [kernel.fds.get(in_fd), kernel.fds.get(out_fd)]
    if any(f.flags & O_PATH for f in files):
        raise SysErr(errno.EBADF)
    if any(isinstance(f, NodeFile) and f.node.is_dir for f in files):
        raise SysErr(errno.EISDIR)
    source, target = files
    if not isinstance(source, RegularFile) or not isinstance(target, RegularFile):
        raise SysErr(errno.EINVAL)
    if not source.readable or not target.writable or target.flags & O_APPEND:
        raise SysErr(errno.EBADF)
    given, wanted = _offset(kernel, in_at), _offset(kernel, out_at)
    start = source.pos if given is None else given
    to = target.pos if wanted is None else wanted
    count = max(0, min(count, MAX_RW, source.node.size - start))
    if source.node is target.node and start < to + count and to < start + count:
        raise SysErr(errno.EINVAL)
    done = 0
    while done < count:
        data = source.pread(min(1 << 20, count - done), start + done)
        if not data:
            break
        try:
            taken = target.pwrite(data, to + done)
        except SysErr:
            if not done:
                raise
            break
        done += taken
        if taken < len(data):
            break
    _moved(kernel, source, in_at, start + done)
    _moved(kernel, target, out_at, to + done)
    return done


@syscall("splice")
def splice(kernel: Kernel, task: Task, in_fd: int, in_at: int, out_fd: int, out_at: int, count: int, flags: int) -> int:
    """splice(2) between a regular file and a pipe; other pairs are EINVAL."""
    source, target = reader(kernel, in_fd), writer(kernel, out_fd)
    piped = [f for f in (source, target) if not isinstance(f, NodeFile)]
    if len(piped) != 1 or u32(flags) & ~15:
        raise SysErr(errno.EINVAL)
    if piped[0].kind not in ("pipe", "fifo"):
        raise SysErr(errno.EINVAL)
    if (in_at and source is piped[0]) or (out_at and target is piped[0]):
        raise SysErr(errno.ESPIPE)
    if isinstance(target, RegularFile) and target.flags & O_APPEND:
        raise SysErr(errno.EINVAL)
    try:
        if target is piped[0]:
            return _into_pipe(kernel, task, source, target, in_at, count)
        return _out_of_pipe(kernel, source, target, out_at, count)
    except WouldBlock as blocked:
        if flags & SPLICE_F_NONBLOCK:
            raise SysErr(errno.EAGAIN) from None
        raise would_block(kernel, task, piped[0], blocked, writing=target is piped[0]) from None


def _into_pipe(kernel: Kernel, task: Task, source: File, target: File, in_at: int, count: int) -> int:
    given = _offset(kernel, in_at)
    start = source.pos if given is None else given
    data = source.pread(min(count, STEP), start)
    if not data:
        return 0
    try:
        taken = target.write(data)
    except SysErr as error:
        if error.errno == errno.EPIPE:
            kernel.signals.post(SIGPIPE, task)
        raise
    _moved(kernel, source, in_at, start + taken)
    return taken


def _out_of_pipe(kernel: Kernel, source: File, target: File, out_at: int, count: int) -> int:
    wanted = _offset(kernel, out_at)
    to = target.pos if wanted is None else wanted
    if isinstance(target, RegularFile):
        target.pwrite(b"", to)
    data = source.read(min(count, STEP))
    done = 0
    while done < len(data):
        done += target.pwrite(data[done:], to + done)
    _moved(kernel, target, out_at, to + done)
    return done


@syscall("tee")
def tee(kernel: Kernel, task: Task, in_fd: int, out_fd: int, count: int, flags: int) -> int:
    """tee(2): not between these files."""
    reader(kernel, in_fd)
    writer(kernel, out_fd)
    raise SysErr(errno.EINVAL)


@syscall("vmsplice")
def vmsplice(kernel: Kernel, task: Task, fd: int, iov: int, count: int, flags: int) -> int:
    """vmsplice(2): not with these files."""
    kernel.fds.get(fd)
    raise SysErr(errno.EINVAL)
