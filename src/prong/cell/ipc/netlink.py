"""NETLINK_ROUTE, as far as programs need it to learn that there is a loopback interface (rtnetlink(7))."""

from __future__ import annotations

import errno
import struct
from collections import deque
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import POLLIN, POLLOUT, POLLRDNORM, POLLWRBAND, POLLWRNORM
from prong.cell.core.saved import saved
from prong.cell.ipc import interfaces
from prong.cell.ipc.address import AF_INET, AF_INET6, AF_NETLINK, AF_UNSPEC, family_of
from prong.cell.ipc.events import READ_EVENTS
from prong.cell.ipc.ports import LOOP4, LOOP6
from prong.cell.ipc.socket import MSG_PEEK, MSG_TRUNC, Outgoing, Received, Socket

if TYPE_CHECKING:
    from prong.cell.ipc.net import Loopback
    from prong.cell.kernel import Kernel

NETLINK_ROUTE = 0
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_DUMP = 1, 2, 4, 0x300
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR, RTM_GETROUTE = 16, 18, 20, 22, 26
IFLA_ADDRESS, IFLA_BROADCAST, IFLA_IFNAME, IFLA_MTU = 1, 2, 3, 4
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_FLAGS = 1, 2, 3, 8
SCOPE_HOST, PERMANENT = 254, 0x80
MAX_REPLIES = 64
_HEADER = struct.Struct("<IHHII")


def attribute(kind: int, data: bytes) -> bytes:
    """One struct rtattr, padded."""
    return struct.pack("<HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def message(kind: int, flags: int, seq: int, port: int, body: bytes) -> bytes:
    """One netlink message, padded."""
    return _HEADER.pack(16 + len(body), kind, flags, seq, port) + body + bytes(-len(body) % 4)


def link_body() -> bytes:
    """RTM_NEWLINK's payload for ``lo``."""
    info = struct.pack("<BxHiII", 0, interfaces.ARPHRD_LOOPBACK, interfaces.INDEX, interfaces.FLAGS | 0x10000, 0)
    return (
        info
        + attribute(IFLA_IFNAME, interfaces.NAME + b"\0")
        + attribute(IFLA_MTU, struct.pack("<I", interfaces.MTU))
        + attribute(IFLA_ADDRESS, bytes(6))
        + attribute(IFLA_BROADCAST, bytes(6))
    )


def address_body(family: int) -> bytes:
    """RTM_NEWADDR's payload for 127.0.0.1/8 or ::1/128."""
    ip, bits = (LOOP4, 8) if family == AF_INET else (LOOP6, 128)
    body = struct.pack("<BBBBi", family, bits, PERMANENT, SCOPE_HOST, interfaces.INDEX) + attribute(IFA_ADDRESS, ip)
    if family == AF_INET:
        body += attribute(IFA_LOCAL, ip) + attribute(IFA_LABEL, interfaces.NAME + b"\0")
    return body + attribute(IFA_FLAGS, struct.pack("<I", PERMANENT))


@saved("netlink")
class NetlinkSocket(Socket):
    """Requests are answered while they are sent; the answers wait here, each one datagram."""

    def __init__(self, net: Loopback, type_: int, flags: int = 0) -> None:
        super().__init__(net, AF_NETLINK, type_, NETLINK_ROUTE, flags)
        self.port = 0
        self.inbox: deque[bytes] = deque()

    def bind(self, kernel: Kernel, raw: bytes) -> None:
        """bind(2); multicast groups stay silent, since nothing ever changes."""
        if len(raw) < 12 or family_of(raw) != AF_NETLINK:
            raise SysErr(errno.EINVAL)
        wanted = struct.unpack_from("<I", raw, 4)[0]
        if self.port and wanted != self.port:
            raise SysErr(errno.EINVAL)
        self.port = wanted or self.port or self._choose()

    def _choose(self) -> int:
        """A port id nobody else has."""
        return self.ino

    def connect(self, kernel: Kernel, raw: bytes, nonblocking: bool) -> None:
        """connect(2), to the kernel only."""
        if family_of(raw) == AF_UNSPEC:
            return
        self.resolve(kernel, raw)
        self.port = self.port or self._choose()

    def resolve(self, kernel: Kernel, raw: bytes) -> object:
        """The only address is the kernel's, 0."""
        if len(raw) < 12 or family_of(raw) != AF_NETLINK:
            raise SysErr(errno.EINVAL)
        if any(raw[4:12]):
            raise SysErr(errno.ECONNREFUSED)
        return None

    def send_limit(self) -> int:
        """Requests are small."""
        return 65536

    def send(self, data: bytes, outgoing: Outgoing) -> int:
        """Answer every request in ``data``."""
        if len(self.inbox) >= MAX_REPLIES:
            raise SysErr(errno.ENOBUFS)
        self.port = self.port or self._choose()
        at = 0
        while at + 16 <= len(data) and len(self.inbox) < MAX_REPLIES:
            size, kind, flags, seq, _ = _HEADER.unpack_from(data, at)
            if size < 16 or at + size > len(data):
                break
            if flags & NLM_F_REQUEST:
                self._answer(data[at : at + size], kind, flags, seq)
            at += size + 3 & ~3
        if self.inbox:
            self.queue.signal(READ_EVENTS)
        return len(data)

    def _answer(self, request: bytes, kind: int, flags: int, seq: int) -> None:
        family = request[16] if len(request) > 16 else AF_UNSPEC
        bodies: list[tuple[int, bytes]] = []
        error = 0
        if kind == RTM_GETLINK:
            bodies = [(RTM_NEWLINK, link_body())]
        elif kind == RTM_GETADDR and flags & NLM_F_DUMP:
            bodies = [(RTM_NEWADDR, address_body(f)) for f in (AF_INET, AF_INET6) if family in (AF_UNSPEC, f)]
        elif kind != RTM_GETROUTE or not flags & NLM_F_DUMP:
            # Reading is answered; RTM_NEW…, RTM_DEL… and RTM_SET… would change the network.
            error = errno.EOPNOTSUPP if kind % 4 == 2 else errno.EPERM
        if error:
            self.inbox.append(message(NLMSG_ERROR, 0, seq, self.port, struct.pack("<i", -error) + request[:16]))
            return
        multi = NLM_F_MULTI if flags & NLM_F_DUMP else 0
        answer = b"".join(message(k, multi, seq, self.port, body) for k, body in bodies)
        if answer:
            self.inbox.append(answer)
        if multi:
            self.inbox.append(message(NLMSG_DONE, NLM_F_MULTI, seq, self.port, bytes(4)))
        elif flags & NLM_F_ACK:
            self.inbox.append(message(NLMSG_ERROR, 0, seq, self.port, bytes(4) + request[:16]))

    def recv(self, size: int, flags: int) -> Received:
        """One answer, from port 0."""
        if not self.inbox:
            raise WouldBlock
        data = self.inbox[0] if flags & MSG_PEEK else self.inbox.popleft()
        got = Received(data[:size], len(data), struct.pack("<HHII", AF_NETLINK, 0, 0, 0))
        if len(data) > size:
            got.flags |= MSG_TRUNC
        return got

    def sockname(self) -> bytes:
        """sockaddr_nl."""
        return struct.pack("<HHII", AF_NETLINK, 0, self.port, 0)

    def peername(self) -> bytes:
        """The kernel."""
        return struct.pack("<HHII", AF_NETLINK, 0, 0, 0)

    def pending_in(self) -> int:
        """Length of the next answer."""
        return len(self.inbox[0]) if self.inbox else 0

    def poll(self) -> int:
        """Always writable."""
        readable = POLLIN | POLLRDNORM if self.inbox else 0
        return readable | POLLOUT | POLLWRNORM | POLLWRBAND
