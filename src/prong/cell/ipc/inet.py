"""AF_INET and AF_INET6 on the cell's loopback: local and remote addresses (ip(7), ipv6(7))."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.ipc.address import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    InetAddress,
    destination,
    family_of,
    format_inet,
    ip_text,
    is_local,
    parse_inet,
    parse_inet6,
)
from prong.cell.ipc.ports import ANY4, ANY6, LOOP4, LOOP6, PortTable
from prong.cell.ipc.socket import Socket

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel

IPPROTO_IP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_IPV6, IPPROTO_UDPLITE = 0, 6, 17, 41, 136


class InetSocket(Socket):
    """A socket with an internet address. ``local`` is ((wildcard), 0) until bound; ``remote`` is set by connect.

    ``bound``: it holds a port. ``chosen``: its local address was asked for, not just derived by connect.
    """

    def setup(self, table: PortTable) -> None:
        """The part of construction that the transports share; call it after Socket's."""
        self.table = table
        self.any = ANY4 if self.domain == AF_INET else ANY6
        self.local: InetAddress = (self.any, 0)
        self.remote: InetAddress | None = None
        self.bound = False
        self.chosen = False
        self.receiving = False

    def parse(self, raw: bytes) -> InetAddress:
        """The address in a sockaddr of this socket's family. SysErr: EINVAL, EAFNOSUPPORT."""
        family = family_of(raw)
        if self.domain == AF_INET:
            address = parse_inet(raw)
            if family != AF_INET and not (family == AF_UNSPEC and address[0] == ANY4):
                raise SysErr(errno.EAFNOSUPPORT)
            return address
        if family == AF_INET6 and len(raw) < 24:
            raise SysErr(errno.EINVAL)
        if family != AF_INET6:
            raise SysErr(errno.EAFNOSUPPORT if len(raw) >= 16 else errno.EINVAL)
        return parse_inet6(raw)

    def reach(self, kernel: Kernel, call: str, raw: bytes) -> InetAddress:
        """Where a connect or send goes; what is outside the cell is refused by design with ENETUNREACH."""
        ip, port = self.parse(raw)
        ip = destination(ip)
        if not is_local(ip):
            raise kernel.refusals.refuse("network", call, f"{ip_text(ip)} port {port}", error=errno.ENETUNREACH)
        if self.domain == AF_INET6 and (len(ip) == 4) != (len(self.local[0]) == 4) and any(self.local[0]):
            raise SysErr(errno.ENETUNREACH)
        if len(ip) == 4 and self.v6only:
            raise SysErr(errno.ENETUNREACH)
        return ip, port

    def bind(self, kernel: Kernel, raw: bytes) -> None:
        """bind(2). SysErr: EADDRNOTAVAIL for an address that is not the cell's, EADDRINUSE, EINVAL when bound."""
        family_of(raw)
        ip, port = self.parse(raw)
        if not is_local(ip):
            raise SysErr(errno.EADDRNOTAVAIL)
        if self.domain == AF_INET6 and self.v6only and len(ip) == 4:
            raise SysErr(errno.EINVAL)
        if self.bound or self.remote is not None:
            raise SysErr(errno.EINVAL)
        self.claim(ip, port)
        self.chosen = True

    def claim(self, ip: bytes, port: int) -> None:
        """Take a port."""
        port = self.table.claim(self, ip, port)
        self.local = (ip, port)
        self.bound = True

    def autobind(self, target: bytes | None = None) -> None:
        """Take an ephemeral port; for a connection to ``target`` also the address packets to it come from."""
        if not self.bound:
            try:
                self.claim(self.local[0], 0)
            except SysErr as exc:
                raise SysErr(errno.EADDRNOTAVAIL if target is not None else errno.EAGAIN) from exc
        if target is not None and not any(self.local[0]):
            self.local = (LOOP4 if len(target) == 4 else LOOP6, self.local[1])

    def unbind(self) -> None:
        """Give the port back."""
        self.table.release(self)
        self.bound = False
        self.receiving = False

    def sockname(self) -> bytes:
        """The local sockaddr."""
        return format_inet(self.domain, self.local)

    def peername(self) -> bytes:
        """The remote sockaddr."""
        if self.remote is None:
            raise SysErr(errno.ENOTCONN)
        return format_inet(self.domain, self.remote)
