"""sendto(2), recvfrom(2), sendmsg(2), recvmsg(2) and the calls for many messages."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.table import s32, syscall, u32
from prong.cell.ipc import control
from prong.cell.ipc.address import MAX_SOCKADDR, write_sockaddr
from prong.cell.ipc.calls_socket import get, park, resume
from prong.cell.ipc.socket import (
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_NOSIGNAL,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    MSG_WAITFORONE,
    Outgoing,
    Progress,
    Received,
    Socket,
)
from prong.cell.ipc.tcp import TcpSocket
from prong.cell.process import PID
from prong.cell.task.siginfo import SIGPIPE, SignalInfo
from prong.cell.task.timespec import read_timespec

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

Pieces = list[tuple[int, int]]
"""Program memory as (address, length) pairs."""
MAX_MESSAGE = 0x7FFFF000
MAX_VLEN = 1024
STEP = 256 << 10
MSGHDR = struct.Struct("<QI4xQQQQi4x")
MMSGHDR = 64


def gather(kernel: Kernel, pieces: Pieces, skip: int, limit: int) -> bytes:
    """Read up to ``limit`` bytes of ``pieces``, ``skip`` bytes from their start."""
    parts: list[bytes] = []
    for address, size in pieces:
        if skip >= size:
            skip -= size
            continue
        take = min(size - skip, limit)
        if take <= 0:
            break
        parts.append(kernel.mem.read(address + skip, take))
        limit -= take
        skip = 0
    return parts[0] if len(parts) == 1 else b"".join(parts)


def scatter(kernel: Kernel, pieces: Pieces, skip: int, data: bytes) -> None:
    """Write ``data`` over ``pieces``, ``skip`` bytes from their start."""
    at = 0
    for address, size in pieces:
        if at >= len(data):
            return
        if skip >= size:
            skip -= size
            continue
        part = data[at : at + size - skip]
        kernel.mem.write(address + skip, part)
        at += len(part)
        skip = 0


def broken_pipe(kernel: Kernel, task: Task) -> None:
    """SIGPIPE for the calling thread."""
    kernel.signals.post(SIGPIPE, task, SignalInfo(SIGPIPE, pid=PID))


def send(kernel: Kernel, task: Task, socket: Socket, pieces: Pieces, message: Outgoing, progress: Progress) -> int:
    """Send the bytes of ``pieces``: a message at once, a stream in steps as there is room."""
    total = sum(size for _, size in pieces)
    if not socket.stream and total > socket.send_limit():
        raise SysErr(errno.EMSGSIZE)
    while True:
        data = gather(kernel, pieces, progress.done, min(STEP, total - progress.done))
        try:
            progress.done += socket.send(data, message)
        except WouldBlock as block:
            try:
                park(kernel, task, socket, block, message.flags, socket.sndtimeo, progress)
            except SysErr:
                if progress.done:
                    return progress.done
                raise
        except SysErr as exc:
            if progress.done:
                return progress.done
            if exc.errno == errno.EPIPE and not message.flags & MSG_NOSIGNAL:
                broken_pipe(kernel, task)
            raise
        if progress.done >= total or not socket.stream:
            return progress.done


def receive(
    kernel: Kernel, task: Task, socket: Socket, pieces: Pieces, flags: int, progress: Progress
) -> tuple[int, Received]:
    """Receive into ``pieces``; returns (result, what came with the last bytes). The caller lands the descriptors."""
    if flags & MSG_ERRQUEUE:
        raise SysErr(errno.EAGAIN)
    total = min(sum(size for _, size in pieces), MAX_MESSAGE)
    lowest = min(total if flags & MSG_WAITALL else socket.rcvlowat, total) if socket.stream else 1
    discard = bool(flags & MSG_TRUNC) and isinstance(socket, TcpSocket)
    while True:
        try:
            got = socket.recv(total - progress.done, flags)
        except WouldBlock as block:
            try:
                park(kernel, task, socket, block, flags, socket.rcvtimeo, progress)
            except SysErr:
                if progress.done:
                    return progress.done, Received(b"")
                raise
        except SysErr:
            if progress.done:
                return progress.done, Received(b"")
            raise
        if not discard:
            try:
                scatter(kernel, pieces, progress.done, got.data)
            except SysErr:
                socket.net.land_files(got.files)
                raise
        if not socket.stream:
            return (got.size if flags & MSG_TRUNC else len(got.data)), got
        progress.done += len(got.data)
        if progress.done >= lowest or not got.data or got.files or flags & MSG_PEEK:
            return progress.done, got


@syscall("sendto")
def sys_sendto(kernel: Kernel, task: Task, fd: int, address: int, size: int, flags: int, to: int, to_size: int) -> int:
    """sendto(2)."""
    socket = get(kernel, fd)
    message = Outgoing(u32(flags))
    if to:
        raw = kernel.mem.read(to, _name_size(s32(to_size)))
        message.target = socket.resolve(kernel, raw) if raw else None
    return send(kernel, task, socket, [(address, min(size, MAX_MESSAGE))], message, resume(task))


def _name_size(size: int) -> int:
    if size < 0 or size > MAX_SOCKADDR:
        raise SysErr(errno.EINVAL)
    return size


@syscall("recvfrom")
def sys_recvfrom(
    kernel: Kernel, task: Task, fd: int, address: int, size: int, flags: int, source: int, source_size: int
) -> int:
    """recvfrom(2); descriptors that came along are closed."""
    socket = get(kernel, fd)
    pieces = [(address, min(size, MAX_MESSAGE))]
    result, got = receive(kernel, task, socket, pieces, u32(flags), resume(task))
    if got.files:
        socket.net.land_files(got.files)
    if source:
        write_sockaddr(kernel.mem, source, source_size, got.name)
    return result


class Header:
    """A struct msghdr, read and checked. SysErr: EFAULT, EMSGSIZE (too many pieces), EINVAL."""

    __slots__ = ("address", "control", "control_size", "name", "name_size", "pieces")

    def __init__(self, kernel: Kernel, address: int) -> None:
        raw = MSGHDR.unpack(kernel.mem.read(address, MSGHDR.size))
        self.address = address
        self.name, size, vector, count, self.control, self.control_size, _ = raw
        self.name_size = s32(size)
        if self.name_size < 0:
            raise SysErr(errno.EINVAL)
        if count > 1024:
            raise SysErr(errno.EMSGSIZE)
        self.pieces: Pieces = kernel.mem.iovecs(vector, count)


def send_message(kernel: Kernel, task: Task, socket: Socket, address: int, flags: int, progress: Progress) -> int:
    """One sendmsg."""
    header = Header(kernel, address)
    message = Outgoing(flags)
    if header.name and header.name_size:
        raw = kernel.mem.read(header.name, min(header.name_size, MAX_SOCKADDR))
        message.target = socket.resolve(kernel, raw)
    # A stream's descriptors left with its first bytes.
    if header.control and header.control_size and not progress.done:
        control.attach(kernel, socket, message, header.control, header.control_size)
    try:
        return send(kernel, task, socket, header.pieces, message, progress)
    finally:
        if message.files:
            socket.net.land_files(message.files)


def receive_message(kernel: Kernel, task: Task, socket: Socket, address: int, flags: int, progress: Progress) -> int:
    """One recvmsg."""
    header = Header(kernel, address)
    result, got = receive(kernel, task, socket, header.pieces, flags, progress)
    try:
        room = min(header.control_size, control.MAX_CONTROL)
        written, truncated = control.deliver(kernel, socket, got, header.control, room, flags)
    finally:
        if got.files:
            socket.net.land_files(got.files)
    mem = kernel.mem
    if header.name:
        if got.name:
            mem.write(header.name, got.name[: header.name_size])
        mem.put_u32(address + 8, len(got.name))
    mem.put_u64(address + 40, written)
    mem.put_u32(address + 48, got.flags | truncated | flags & MSG_CMSG_CLOEXEC)
    return result


@syscall("sendmsg")
def sys_sendmsg(kernel: Kernel, task: Task, fd: int, address: int, flags: int) -> int:
    """sendmsg(2)."""
    return send_message(kernel, task, get(kernel, fd), address, u32(flags), resume(task))


@syscall("recvmsg")
def sys_recvmsg(kernel: Kernel, task: Task, fd: int, address: int, flags: int) -> int:
    """recvmsg(2)."""
    return receive_message(kernel, task, get(kernel, fd), address, u32(flags), resume(task))


@syscall("sendmmsg")
def sys_sendmmsg(kernel: Kernel, task: Task, fd: int, address: int, count: int, flags: int) -> int:
    """sendmmsg(2)."""
    socket = get(kernel, fd)
    progress = resume(task)
    while progress.count < min(u32(count), MAX_VLEN):
        at = address + MMSGHDR * progress.count
        try:
            result = send_message(kernel, task, socket, at, u32(flags), progress)
            kernel.mem.put_u32(at + 56, result)
        except SysErr:
            if progress.count:
                return progress.count
            raise
        progress.count += 1
        progress.done = 0
    return progress.count


@syscall("recvmmsg")
def sys_recvmmsg(kernel: Kernel, task: Task, fd: int, address: int, count: int, flags: int, timeout: int) -> int:
    """recvmmsg(2); the timeout is looked at after each message only, as its BUGS section says."""
    socket = get(kernel, fd)
    flags = u32(flags)
    progress = resume(task)
    if timeout and progress.until is None:
        progress.until = kernel.clock.monotonic() + read_timespec(kernel.mem, timeout)
    while progress.count < min(u32(count), MAX_VLEN):
        at = address + MMSGHDR * progress.count
        wait = MSG_DONTWAIT if flags & MSG_WAITFORONE and progress.count else 0
        try:
            result = receive_message(kernel, task, socket, at, flags & ~MSG_WAITFORONE | wait, progress)
            kernel.mem.put_u32(at + 56, result)
        except SysErr:
            if progress.count:
                return progress.count
            raise
        progress.count += 1
        progress.done = 0
        if progress.until is not None and kernel.clock.monotonic() >= progress.until:
            break
    return progress.count
