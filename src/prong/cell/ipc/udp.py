"""UDP on the loopback (udp(7)): delivered at once, or dropped when the receiver's buffer is full."""

from __future__ import annotations

import errno
import struct
from collections import deque
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP, POLLRDNORM, POLLWRBAND, POLLWRNORM
from prong.cell.core.saved import saved
from prong.cell.ipc.address import AF_INET, AF_INET6, AF_UNSPEC, InetAddress, family_of, format_inet, parse_inet
from prong.cell.ipc.events import READ_EVENTS
from prong.cell.ipc.inet import IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP, InetSocket
from prong.cell.ipc.ports import LOOP4, LOOP6
from prong.cell.ipc.socket import (
    MAX_BUFFER,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    SHUT_BOTH,
    SHUT_RD,
    SHUT_WR,
    SOCK_DGRAM,
    Ancillary,
    Outgoing,
    Received,
)

if TYPE_CHECKING:
    from prong.cell.ipc.net import Loopback
    from prong.cell.kernel import Kernel

OVERHEAD = 512
"""What a datagram counts as beside its bytes."""
MAX_PAYLOAD = {AF_INET: 65507, AF_INET6: 65527}
IP_TOS, IP_TTL, IP_PKTINFO, IP_RECVTTL, IP_RECVTOS = 1, 2, 8, 12, 13
IPV6_UNICAST_HOPS, IPV6_RECVPKTINFO, IPV6_PKTINFO = 16, 49, 50
IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT, IPV6_RECVTCLASS, IPV6_TCLASS = 51, 52, 66, 67


@saved("udp_datagram")
class Datagram:
    """One unread datagram: where it came from and went to, and the header fields a program may ask for."""

    __slots__ = ("data", "hops", "source", "target", "tos")

    def __init__(self, data: bytes, source: InetAddress, target: bytes, hops: int, tos: int) -> None:
        self.data = data
        self.source = source
        self.target = target
        self.hops = hops
        self.tos = tos


@saved("udp")
class UdpSocket(InetSocket):
    """A UDP socket; ``used`` bytes of its receive buffer are taken.

    UDP-Lite (RFC 3828) is the same with ports of its own: where nothing is ever damaged, what a checksum covers is moot.
    """

    def __init__(self, net: Loopback, domain: int, flags: int = 0, protocol: int = IPPROTO_UDP) -> None:
        super().__init__(net, domain, SOCK_DGRAM, protocol, flags)
        self.setup(net.udp if protocol == IPPROTO_UDP else net.udplite)
        self.inbox: deque[Datagram] = deque()
        self.used = 0

    def claim(self, ip: bytes, port: int) -> None:
        """Take a port, and be found on it."""
        super().claim(ip, port)
        self.receiving = True
        self.table.receive(self, True)

    def connect(self, kernel: Kernel, raw: bytes, nonblocking: bool) -> None:
        """connect(2): remember the peer, take datagrams from nobody else; AF_UNSPEC undoes it."""
        if family_of(raw) == AF_UNSPEC:
            self.remote = None
            if not self.chosen:
                self.unbind()
                self.local = (self.any, 0)
            return
        target = self.reach(kernel, "connect", raw)
        self.autobind(target[0])
        self.remote = target
        self.queue.signal(POLLOUT)

    def resolve(self, kernel: Kernel, raw: bytes) -> object:
        """The destination; an IPv6 socket takes IPv4 addresses too."""
        if self.domain == AF_INET6 and family_of(raw) == AF_INET:
            parse_inet(raw)
            raw = format_inet(AF_INET6, parse_inet(raw))
        target = self.reach(kernel, "sendto", raw)
        if target[1] == 0:
            raise SysErr(errno.EINVAL)
        return target

    def send_limit(self) -> int:
        """The largest datagram."""
        return MAX_PAYLOAD[self.domain]

    def send(self, data: bytes, message: Outgoing) -> int:
        """The whole datagram. A connected socket learns of an unused port by its next call (ECONNREFUSED)."""
        if len(data) > self.send_limit():
            raise SysErr(errno.EMSGSIZE)
        if message.flags & MSG_OOB:
            raise SysErr(errno.EOPNOTSUPP)
        if self.shut & SHUT_WR:
            raise SysErr(errno.EPIPE)
        target = message.target if isinstance(message.target, tuple) else self.remote
        if target is None:
            raise SysErr(errno.EDESTADDRREQ)
        self.raise_error()
        ip, port = target
        self.autobind()
        here = self.local[0] if any(self.local[0]) else (LOOP4 if len(ip) == 4 else LOOP6)
        source = (here, self.local[1])
        other = self.table.find(ip, port, source)
        if isinstance(other, UdpSocket):
            other.deliver(Datagram(data, source, ip, self._hops(message), self._tos(message)))
        elif self.remote is not None:
            self.error = errno.ECONNREFUSED
            self.queue.signal(POLLERR)
        return len(data)

    def _hops(self, message: Outgoing) -> int:
        v6 = self.domain == AF_INET6
        name = (IPPROTO_IPV6, IPV6_UNICAST_HOPS) if v6 else (IPPROTO_IP, IP_TTL)
        kinds = ((IPPROTO_IPV6, IPV6_HOPLIMIT), (IPPROTO_IP, IP_TTL))
        return self._header(message, kinds, name, 64)

    def _tos(self, message: Outgoing) -> int:
        v6 = self.domain == AF_INET6
        name = (IPPROTO_IPV6, IPV6_TCLASS) if v6 else (IPPROTO_IP, IP_TOS)
        return self._header(message, ((IPPROTO_IPV6, IPV6_TCLASS), (IPPROTO_IP, IP_TOS)), name, 0)

    def _header(self, message: Outgoing, kinds: tuple[tuple[int, int], ...], option: tuple[int, int], default: int) -> int:
        """A header field: from a control message, else the socket's option, else the default (also for -1)."""
        for level, kind, data in message.options:
            if (level, kind) in kinds and len(data) >= 4:
                value = struct.unpack("<i", data[:4])[0]
                return default if value == -1 else int(value) & 0xFF
        raw = self.options.get(option)
        value = struct.unpack("<i", raw)[0] if raw else default
        return default if value == -1 else int(value) & 0xFF

    def deliver(self, datagram: Datagram) -> None:
        """Put a datagram in the inbox; dropped without a word when it is full."""
        cost = len(datagram.data) + OVERHEAD
        if self.inbox and self.used + cost > min(self.rcvbuf, MAX_BUFFER):
            return
        try:
            self.net.charge(cost)
        except SysErr:
            return  # as any other lack of memory on the way: a lost datagram
        self.used += cost
        self.inbox.append(datagram)
        self.queue.signal(READ_EVENTS)

    def recv(self, size: int, flags: int) -> Received:
        """One datagram, cut to ``size``."""
        if flags & MSG_OOB:
            raise SysErr(errno.EOPNOTSUPP)
        self.raise_error()
        if not self.inbox:
            if self.shut & SHUT_RD and not self.nonblocking(flags):
                return Received(b"")
            raise WouldBlock
        first = self.inbox[0]
        got = Received(first.data[:size], len(first.data), format_inet(self.domain, first.source))
        got.ancillary = self._ancillary(first)
        if len(first.data) > size:
            got.flags |= MSG_TRUNC
        if not flags & MSG_PEEK:
            self._forget_first()
        return got

    def _ancillary(self, datagram: Datagram) -> list[Ancillary]:
        """The control messages asked for by IP_RECV… and IPV6_RECV… options, in the kernel's order."""
        out: list[Ancillary] = []
        flag = self.flag
        if not self.options:
            return out
        if len(datagram.target) == 4:
            if flag(IPPROTO_IP, IP_PKTINFO):
                out.append((IPPROTO_IP, IP_PKTINFO, struct.pack("<i4s4s", 1, datagram.target, datagram.target)))
            if flag(IPPROTO_IP, IP_RECVTTL):
                out.append((IPPROTO_IP, IP_TTL, struct.pack("<i", datagram.hops)))
            if flag(IPPROTO_IP, IP_RECVTOS):
                out.append((IPPROTO_IP, IP_TOS, bytes([datagram.tos])))
            return out
        if flag(IPPROTO_IPV6, IPV6_RECVPKTINFO):
            out.append((IPPROTO_IPV6, IPV6_PKTINFO, struct.pack("<16si", datagram.target, 1)))
        if flag(IPPROTO_IPV6, IPV6_RECVHOPLIMIT):
            out.append((IPPROTO_IPV6, IPV6_HOPLIMIT, struct.pack("<i", datagram.hops)))
        if flag(IPPROTO_IPV6, IPV6_RECVTCLASS):
            out.append((IPPROTO_IPV6, IPV6_TCLASS, struct.pack("<i", datagram.tos)))
        return out

    def _forget_first(self) -> None:
        cost = len(self.inbox.popleft().data) + OVERHEAD
        self.used -= cost
        self.net.discharge(cost)

    def shutdown(self, how: int) -> None:
        """shutdown(2); it happens and is still ENOTCONN on a socket without a peer."""
        self.shut |= how
        self.queue.signal(0)
        if self.remote is None:
            raise SysErr(errno.ENOTCONN)

    def pending_in(self) -> int:
        """Length of the next datagram."""
        return len(self.inbox[0].data) if self.inbox else 0

    def poll(self) -> int:
        """Readiness as datagram_poll() tells it."""
        events = POLLOUT | POLLWRNORM | POLLWRBAND
        if self.error:
            events |= POLLERR
        if self.shut & SHUT_RD:
            events |= POLLIN | POLLRDNORM | POLLRDHUP
        if self.shut == SHUT_BOTH:
            events |= POLLHUP
        if self.inbox:
            events |= POLLIN | POLLRDNORM
        return events

    def release(self) -> None:
        """Unread datagrams are lost."""
        super().release()
        self.unbind()
        while self.inbox:
            self._forget_first()
