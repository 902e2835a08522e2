"""Control messages of sendmsg(2) and recvmsg(2): descriptors, credentials, header fields (cmsg(3), unix(7))."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.ipc.address import AF_UNIX
from prong.cell.ipc.socket import MSG_CMSG_CLOEXEC, MSG_CTRUNC, Outgoing, Received, Socket

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel

SOL_SOCKET, SCM_RIGHTS, SCM_CREDENTIALS = 1, 1, 2
HEADER = 16
MAX_CONTROL = 20480
"""net.core.optmem_max of old: more control bytes in one message are ENOBUFS."""
MAX_FILES = 253
"""SCM_MAX_FD."""
_CMSG = struct.Struct("<QII")
_UCRED = struct.Struct("<iII")
NOBODY = (0, 65534, 65534)


def align(size: int) -> int:
    """CMSG_ALIGN."""
    return size + 7 & ~7


def parse(raw: bytes) -> list[tuple[int, int, bytes]]:
    """Split a control buffer; SysErr(EINVAL) for a message whose length makes no sense."""
    out: list[tuple[int, int, bytes]] = []
    at = 0
    while at + HEADER <= len(raw):
        size, level, kind = _CMSG.unpack_from(raw, at)
        if size < HEADER or at + size > len(raw):
            raise SysErr(errno.EINVAL)
        out.append((level, kind, raw[at + HEADER : at + size]))
        at += align(size)
    return out


def attach(kernel: Kernel, socket: Socket, message: Outgoing, address: int, size: int) -> None:
    """Read a control buffer into ``message``; descriptors are put in flight.

    SysErr: ENOBUFS (too long), EINVAL, EBADF, ETOOMANYREFS. On an error nothing stays in flight.
    """
    if size > MAX_CONTROL:
        raise SysErr(errno.ENOBUFS)
    if size < HEADER:
        return
    try:
        for level, kind, data in parse(kernel.mem.read(address, size)):
            if socket.domain != AF_UNIX:
                message.options.append((level, kind, data))
            elif level == SOL_SOCKET:
                _attach_unix(kernel, socket, message, kind, data)
    except SysErr:
        socket.net.land_files(message.files)
        message.files = []
        raise


def _attach_unix(kernel: Kernel, socket: Socket, message: Outgoing, kind: int, data: bytes) -> None:
    if kind == SCM_RIGHTS:
        count = len(data) // 4
        if count + len(message.files) > MAX_FILES:
            raise SysErr(errno.EINVAL)
        files = [kernel.fds.get(fd) for fd in struct.unpack(f"<{count}I", data[: 4 * count])]
        socket.net.hold_files(files, kernel.fds.limit)
        message.files += files
    elif kind == SCM_CREDENTIALS and len(data) == _UCRED.size:
        pid, uid, gid = _UCRED.unpack(data)
        message.creds = (pid, uid, gid)
    else:
        raise SysErr(errno.EINVAL)


class ControlWriter:
    """Fills a control buffer of ``room`` bytes at ``address``; ``flags`` gets MSG_CTRUNC when it is too small."""

    def __init__(self, kernel: Kernel, address: int, room: int) -> None:
        self.kernel = kernel
        self.address = address
        self.room = room if address else 0
        self.written = 0
        self.flags = 0

    def put(self, level: int, kind: int, data: bytes) -> None:
        """One message, cut if it does not fit (put_cmsg() in net/core/scm.c)."""
        if self.room < HEADER:
            self.flags |= MSG_CTRUNC
            return
        size = HEADER + len(data)
        if size > self.room:
            self.flags |= MSG_CTRUNC
            size = self.room
        raw = _CMSG.pack(size, level, kind) + data[: size - HEADER]
        self.kernel.mem.write(self.address, raw)
        self._advance(align(HEADER + len(data)))

    def _advance(self, size: int) -> None:
        size = min(size, self.room)
        self.address += size
        self.room -= size
        self.written += size

    def put_files(self, got: Received, cloexec: bool) -> None:
        """SCM_RIGHTS: as many descriptors as there is room for; the others are closed."""
        if not got.files:
            return
        fit = max((self.room - HEADER) // 4, 0)
        numbers: list[int] = []
        for file in got.files[:fit]:
            try:
                numbers.append(self.kernel.fds.install(file, cloexec=cloexec))
            except SysErr:
                break
        if len(numbers) < len(got.files):
            self.flags |= MSG_CTRUNC
        if numbers:
            data = struct.pack(f"<{len(numbers)}i", *numbers)
            self.kernel.mem.write(self.address, _CMSG.pack(HEADER + len(data), SOL_SOCKET, SCM_RIGHTS) + data)
            self._advance(align(HEADER + len(data)))


def deliver(kernel: Kernel, socket: Socket, got: Received, address: int, room: int, flags: int) -> tuple[int, int]:
    """Store what came with a message; returns (bytes of control data, MSG_CTRUNC or 0)."""
    writer = ControlWriter(kernel, address, room)
    for level, kind, data in got.ancillary:
        writer.put(level, kind, data)
    if socket.passcred:
        writer.put(SOL_SOCKET, SCM_CREDENTIALS, _UCRED.pack(*(got.creds or NOBODY)))
    writer.put_files(got, bool(flags & MSG_CMSG_CLOEXEC))
    return writer.written, writer.flags
