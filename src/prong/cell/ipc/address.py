"""sockaddr_in, sockaddr_in6 and sockaddr_nl: bytes ↔ values (ip(7), ipv6(7), netlink(7))."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.ipc.ports import ANY4, ANY6, LOOP4, LOOP6

if TYPE_CHECKING:
    from prong.cell.core.memory import GuestMemory

AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET = 0, 1, 2, 10, 16, 17
MAX_SOCKADDR = 128
MAPPED = bytes(10) + b"\xff\xff"

InetAddress = tuple[bytes, int]
"""(4 or 16 address bytes, port); a v4-mapped IPv6 address is kept as its 4 bytes."""


def read_sockaddr(mem: GuestMemory, address: int, size: int) -> bytes:
    """Copy a sockaddr in; ``size`` is a signed int. SysErr(EINVAL) when negative or over 128 bytes."""
    if size < 0 or size > MAX_SOCKADDR:
        raise SysErr(errno.EINVAL)
    return mem.read(address, size) if size else b""


def write_sockaddr(mem: GuestMemory, address: int, size_address: int, raw: bytes) -> None:
    """Copy a sockaddr out, cut to the caller's room, and store its true size (getsockname(2))."""
    room = mem.u32(size_address)
    if room & 0x80000000:
        raise SysErr(errno.EINVAL)
    if room:
        mem.write(address, raw[:room])
    mem.put_u32(size_address, len(raw))


def family_of(raw: bytes) -> int:
    """sa_family; SysErr(EINVAL) when the address is too short to have one."""
    if len(raw) < 2:
        raise SysErr(errno.EINVAL)
    return raw[0] | raw[1] << 8


def parse_inet(raw: bytes) -> InetAddress:
    """A sockaddr_in, whatever its family says; SysErr(EINVAL) if too short."""
    if len(raw) < 16:
        raise SysErr(errno.EINVAL)
    return raw[4:8], raw[2] << 8 | raw[3]


def parse_inet6(raw: bytes) -> InetAddress:
    """A sockaddr_in6 (24 bytes do); SysErr(EINVAL) if too short."""
    if len(raw) < 24:
        raise SysErr(errno.EINVAL)
    ip = raw[8:24]
    return (ip[12:] if ip.startswith(MAPPED) else ip), raw[2] << 8 | raw[3]


def format_inet(domain: int, address: InetAddress) -> bytes:
    """A sockaddr for a socket of ``domain`` (AF_INET or AF_INET6)."""
    ip, port = address
    if domain == AF_INET:
        return struct.pack("<H", AF_INET) + port.to_bytes(2, "big") + (ip if len(ip) == 4 else ANY4) + bytes(8)
    if len(ip) == 4:
        ip = MAPPED + ip
    return struct.pack("<H", AF_INET6) + port.to_bytes(2, "big") + bytes(4) + ip + bytes(4)


def is_local(ip: bytes) -> bool:
    """Whether the cell has this address: 127.0.0.0/8, ::1, or the wildcard."""
    return (ip[0] == 127 or ip == ANY4) if len(ip) == 4 else ip in (LOOP6, ANY6)


def destination(ip: bytes) -> bytes:
    """Where a packet for ``ip`` goes: the wildcard means the cell itself."""
    if any(ip):
        return ip
    return LOOP4 if len(ip) == 4 else LOOP6


def ip_text(ip: bytes) -> str:
    """Dotted or colon text of an address, for reports."""
    if len(ip) == 4:
        return ".".join(str(b) for b in ip)
    return ":".join(f"{ip[i] << 8 | ip[i + 1]:x}" for i in range(0, 16, 2))
