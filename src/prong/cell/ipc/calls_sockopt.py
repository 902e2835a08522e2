"""getsockopt(2) and setsockopt(2)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import s32, syscall
from prong.cell.ipc import options as o
from prong.cell.ipc.address import AF_INET, AF_INET6, AF_NETLINK, AF_UNIX
from prong.cell.ipc.calls_socket import get
from prong.cell.ipc.inet import InetSocket
from prong.cell.ipc.socket import Socket
from prong.cell.ipc.stream import CLOSED, CONNECTED, CONNECTING, LISTENING
from prong.cell.ipc.tcp import TcpSocket
from prong.cell.task.timespec import SECOND

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

MIN_SNDBUF, MIN_RCVBUF, MAX_SETTING = 4608, 2304, 212992
MAX_OPTION = 4096
TIMEOUTS = {o.SO_RCVTIMEO: "rcvtimeo", o.SO_SNDTIMEO: "sndtimeo", o.SO_RCVTIMEO_NEW: "rcvtimeo",
            o.SO_SNDTIMEO_NEW: "sndtimeo"}  # fmt: skip
READ_ONLY = (o.SO_TYPE, o.SO_ERROR, o.SO_PEERCRED, o.SO_PEERNAME, o.SO_ACCEPTCONN, o.SO_PEERSEC, o.SO_PROTOCOL,
             o.SO_DOMAIN, o.SO_SNDLOWAT, o.SO_PEERGROUPS, o.SO_COOKIE)  # fmt: skip
TCP_STATES = {CLOSED: 7, LISTENING: 10, CONNECTING: 2, CONNECTED: 1}
TCP_INFO_SIZE = 104


def known_level(socket: Socket, level: int) -> bool:
    """Whether a socket of this kind has options of ``level`` beside SOL_SOCKET."""
    if socket.domain == AF_NETLINK:
        return level == o.SOL_NETLINK
    if socket.domain == AF_UNIX:
        return False
    if level == o.SOL_IPV6:
        return socket.domain == AF_INET6
    # The transports' levels are their protocol numbers.
    return level in (o.SOL_IP, socket.protocol)


def check_level(socket: Socket, level: int, otherwise: tuple[int, ...]) -> None:
    """When there is no such level: SysErr(EOPNOTSUPP) for the domains in ``otherwise``, ENOPROTOOPT elsewhere."""
    if level != o.SOL_SOCKET and not known_level(socket, level):
        raise SysErr(errno.EOPNOTSUPP if socket.domain in otherwise else errno.ENOPROTOOPT)


@syscall("setsockopt")
def sys_setsockopt(kernel: Kernel, task: Task, fd: int, level: int, name: int, address: int, size: int) -> int:
    """setsockopt(2)."""
    socket, level, name, size = get(kernel, fd), s32(level), s32(name), s32(size)
    if size < 0:
        raise SysErr(errno.EINVAL)
    check_level(socket, level, (AF_UNIX,))
    raw = kernel.mem.read(address, min(size, MAX_OPTION)) if size else b""
    if level == o.SOL_SOCKET and _set_socket(kernel, socket, name, raw):
        return 0
    if (level, name) in o.BLOBS:
        if len(raw) < o.BLOBS[level, name]:
            raise SysErr(errno.EINVAL)
        return 0
    if (level, name) == (o.SOL_TCP, o.TCP_CONGESTION):
        if raw.split(b"\0")[0] not in (b"cubic", b"reno"):
            raise SysErr(errno.ENOENT)
        socket.options[level, name] = raw.split(b"\0")[0]
        return 0
    if (level, name) not in o.INTS:
        raise SysErr(errno.ENOPROTOOPT)
    _remember(socket, level, name, _int(raw, one_byte=level == o.SOL_IP))
    return 0


def _int(raw: bytes, *, one_byte: bool = False) -> int:
    if len(raw) < 4:
        if one_byte and raw:
            return raw[0]
        raise SysErr(errno.EINVAL)
    return int(struct.unpack("<i", raw[:4])[0])


def _remember(socket: Socket, level: int, name: int, value: int) -> None:
    low, high = o.RANGES.get((level, name), (-(1 << 31), (1 << 31) - 1))
    if not low <= value <= high or ((level, name) == (o.SOL_IP, 2) and value == 0):
        raise SysErr(errno.EINVAL)
    if value == -1 and (level, name) in o.DEFAULT_IF_NEGATIVE:
        value = o.DEFAULT_IF_NEGATIVE[level, name]
    if (level, name) in o.BOOLS:
        value = int(value != 0)
    if (level, name) == (o.SOL_IPV6, o.IPV6_V6ONLY):
        if isinstance(socket, InetSocket) and socket.bound:
            raise SysErr(errno.EINVAL)
        socket.v6only = bool(value)
        value = int(value != 0)
    socket.options[level, name] = o.i32(value)


def _set_socket(kernel: Kernel, socket: Socket, name: int, raw: bytes) -> bool:
    """The SOL_SOCKET options that do something; False for the others."""
    if name in READ_ONLY:
        raise SysErr(errno.ENOPROTOOPT)
    if name in TIMEOUTS:
        setattr(socket, TIMEOUTS[name], _timeout(raw))
    elif name == o.SO_LINGER:
        if len(raw) < 8:
            raise SysErr(errno.EINVAL)
        on, seconds = struct.unpack("<ii", raw[:8])
        socket.linger = (int(on != 0), seconds if on else socket.linger[1])
    elif name == o.SO_BINDTODEVICE:
        if raw.split(b"\0")[0] not in (b"", b"lo"):
            raise SysErr(errno.ENODEV)
    elif name in (o.SO_REUSEADDR, o.SO_REUSEPORT, o.SO_PASSCRED):
        flag = bool(_int(raw))
        if name == o.SO_PASSCRED and socket.domain not in (AF_UNIX, AF_NETLINK):
            raise SysErr(errno.EOPNOTSUPP)
        attribute = {o.SO_REUSEADDR: "reuse_addr", o.SO_REUSEPORT: "reuse_port", o.SO_PASSCRED: "passcred"}[name]
        setattr(socket, attribute, flag)
    elif name in (o.SO_SNDBUF, o.SO_RCVBUF, o.SO_SNDBUFFORCE, o.SO_RCVBUFFORCE):
        _set_buffer(socket, name, _int(raw))
    elif name == o.SO_RCVLOWAT:
        value = _int(raw)
        socket.rcvlowat = 0x7FFFFFFF if value < 0 else value or 1
    else:
        return False
    return True


def _set_buffer(socket: Socket, name: int, value: int) -> None:
    """Doubled, as the kernel doubles it for its own bookkeeping."""
    value = min(value & 0xFFFFFFFF, MAX_SETTING) * 2
    if name in (o.SO_SNDBUF, o.SO_SNDBUFFORCE):
        socket.sndbuf = max(value, MIN_SNDBUF)
    else:
        socket.rcvbuf = max(value, MIN_RCVBUF)
    if isinstance(socket, TcpSocket):
        socket.buffers_set = True
    socket.queue.signal(0)


def _timeout(raw: bytes) -> int | None:
    """A struct timeval; zero is for ever, a negative one at once."""
    if len(raw) < 16:
        raise SysErr(errno.EINVAL)
    seconds, micros = struct.unpack("<qq", raw[:16])
    if not 0 <= micros < 1_000_000:
        raise SysErr(errno.EDOM)
    if seconds < 0:
        return 0
    return min(seconds, 1 << 32) * SECOND + micros * 1000 or None


@syscall("getsockopt")
def sys_getsockopt(kernel: Kernel, task: Task, fd: int, level: int, name: int, address: int, size: int) -> int:
    """getsockopt(2)."""
    socket, level, name = get(kernel, fd), s32(level), s32(name)
    check_level(socket, level, (AF_UNIX, AF_INET))
    room = s32(kernel.mem.u32(size))
    if room < 0:
        raise SysErr(errno.EINVAL)
    value = _get_socket(socket, name) if level == o.SOL_SOCKET else _get_other(socket, level, name)
    if value is None:
        value = socket.options.get((level, name))
    if value is None:
        if (level, name) not in o.INTS:
            raise SysErr(errno.ENOPROTOOPT)
        value = o.i32(o.INTS[level, name])
    if level == o.SOL_IP and len(value) == 4 and 0 < room < 4:
        value = value[:1]
    kernel.mem.write(address, value[:room])
    kernel.mem.put_u32(size, min(len(value), room))
    return 0


def _get_socket(socket: Socket, name: int) -> bytes | None:
    """The SOL_SOCKET options with a home of their own."""
    if name in TIMEOUTS:
        ns = getattr(socket, TIMEOUTS[name]) or 0
        return struct.pack("<qq", ns // SECOND, ns % SECOND // 1000)
    if name == o.SO_LINGER:
        return struct.pack("<ii", *socket.linger)
    if name == o.SO_ERROR:
        return o.i32(socket.take_error())
    if name == o.SO_PEERCRED:
        return struct.pack("<iii", *socket.peer_creds)
    if name == o.SO_PEERNAME:
        return socket.peername()
    if name in (o.SO_BINDTODEVICE, o.SO_PEERGROUPS):
        return b""
    if name == o.SO_COOKIE:
        return struct.pack("<Q", socket.ino)
    if name == o.SO_PASSCRED and socket.domain not in (AF_UNIX, AF_NETLINK):
        raise SysErr(errno.EOPNOTSUPP)
    plain = {
        o.SO_TYPE: socket.type,
        o.SO_DOMAIN: socket.domain,
        o.SO_PROTOCOL: socket.protocol,
        o.SO_ACCEPTCONN: socket.listening,
        o.SO_REUSEADDR: socket.reuse_addr,
        o.SO_REUSEPORT: socket.reuse_port,
        o.SO_PASSCRED: socket.passcred,
        o.SO_SNDBUF: socket.sndbuf,
        o.SO_RCVBUF: socket.rcvbuf,
        o.SO_RCVLOWAT: socket.rcvlowat,
        o.SO_SNDLOWAT: 1,
    }
    return o.i32(plain[name]) if name in plain else None


def _get_other(socket: Socket, level: int, name: int) -> bytes | None:
    if level == o.SOL_TCP and isinstance(socket, TcpSocket):
        if name == o.TCP_INFO:
            return bytes([TCP_STATES[socket.state]]).ljust(TCP_INFO_SIZE, b"\0")
        if name == o.TCP_CONGESTION:
            return socket.options.get((level, name), b"cubic").ljust(16, b"\0")
        if name == o.TCP_MAXSEG and socket.state != CONNECTED:
            return o.i32(536)
    if level == o.SOL_IPV6 and name == o.IPV6_V6ONLY:
        return o.i32(socket.v6only)
    return None
