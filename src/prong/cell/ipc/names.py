"""Names of AF_UNIX sockets: sockaddr_un, paths in the file system, abstract names (unix(7))."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Protocol

from prong.cell.core.errors import SysErr
from prong.cell.ipc.address import AF_UNIX

if TYPE_CHECKING:
    from prong.cell.ipc.net import Loopback
    from prong.cell.ipc.unix import UnixSocket
    from prong.cell.kernel import Kernel

HEADER = AF_UNIX.to_bytes(2, "little")
MAX_SOCKADDR_UN = 110


class SocketNode(Protocol):
    """The inode of a bound path; ``state`` is the socket while it lives."""

    state: Any


def parse(raw: bytes) -> bytes:
    """The name in a sockaddr_un: a path without its NUL, an abstract name, or empty when only a family is given."""
    if len(raw) < 2 or len(raw) > MAX_SOCKADDR_UN or raw[:2] != HEADER:
        raise SysErr(errno.EINVAL)
    name = raw[2:]
    if name and name[0]:
        end = name.find(0)
        return name if end < 0 else name[:end]
    return name


def pack(name: bytes) -> bytes:
    """A sockaddr_un, exactly as long as getsockname(2) reports it."""
    return HEADER + name + (b"\0" if name and name[0] else b"")


def choose(net: Loopback, type_: int) -> bytes:
    """An unused abstract name of five hexadecimal digits (unix(7), "Autobind feature")."""
    for _ in range(1 << 20):
        net.next_auto = (net.next_auto + 1) & 0xFFFFF
        name = b"\0%05x" % net.next_auto
        if (type_, name) not in net.abstract:
            return name
    raise SysErr(errno.ENOSPC)


def bind_path(kernel: Kernel, path: bytes, socket: UnixSocket) -> SocketNode:
    """Make the socket file. SysErr: EADDRINUSE if the name exists, or what walking the path raises."""
    from prong.cell.fs import special  # the file-system room is large, and itself uses this one for FIFOs

    node = special.bind_socket(kernel, path)
    node.state = socket
    return node


def find_path(kernel: Kernel, path: bytes) -> UnixSocket:
    """The socket bound to a path. SysErr: ECONNREFUSED if it is none or its owner is gone, or the walk's."""
    from prong.cell.fs import special

    socket: UnixSocket = special.find_socket(kernel, path).state
    return socket
