"""An established TCP connection on the loopback (tcp(7)): data, the urgent byte, how either half ends."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import POLLERR, POLLPRI
from prong.cell.ipc.inet import IPPROTO_TCP, InetSocket
from prong.cell.ipc.options import SO_OOBINLINE, SOL_SOCKET
from prong.cell.ipc.socket import (
    DEFAULT_BUFFER,
    MAX_BUFFER,
    MSG_OOB,
    MSG_PEEK,
    SHUT_BOTH,
    SHUT_RD,
    SHUT_WR,
    SOCK_STREAM,
    Outgoing,
    Received,
)
from prong.cell.ipc.stream import CLOSED, CONNECTED, CONNECTING, HANGUP, LISTENING, StreamSocket

if TYPE_CHECKING:
    from prong.cell.ipc.net import Loopback
    from prong.cell.kernel import Kernel

FIRST_SNDBUF, FIRST_RCVBUF = 16384, 131072
"""What SO_SNDBUF and SO_RCVBUF tell before anyone sets them (net.ipv4.tcp_wmem, tcp_rmem)."""


class TcpConnection(InetSocket, StreamSocket):
    """One end of a connection.

    ``fin_in``, ``fin_out``: who has ended its half. ``done``: the peer's end or a reset was seen, so reading ends with 0
    bytes and no error. ``urgent``: the byte sent with MSG_OOB, and ``mark`` its position in the stream.
    """

    def __init__(self, net: Loopback, domain: int, flags: int = 0) -> None:
        StreamSocket.__init__(self, net, domain, SOCK_STREAM, IPPROTO_TCP, flags)
        self.setup(net.tcp)
        self.sndbuf, self.rcvbuf = FIRST_SNDBUF, FIRST_RCVBUF
        self.buffers_set = False
        self.fin_in = False
        self.fin_out = False
        self.done = False
        self.urgent = b""
        self.mark = -1

    def capacity(self) -> int:
        """Sender's and receiver's buffers together, if anyone chose them."""
        peer = self.peer
        if isinstance(peer, TcpConnection) and (self.buffers_set or peer.buffers_set):
            return min(self.sndbuf + peer.rcvbuf, MAX_BUFFER)
        return DEFAULT_BUFFER

    def writable_now(self) -> bool:
        """A third of the room is free, as __sk_stream_is_writeable() asks."""
        peer = self.peer
        return peer is None or peer.rx.size * 3 <= self.capacity() * 2

    def check_receive(self) -> None:
        """ENOTCONN on a listener or a socket never connected; errors wait until the data is read."""
        if self.state == LISTENING or (self.state == CLOSED and not (self.done or self.error or self.shut & SHUT_RD)):
            raise SysErr(errno.ENOTCONN)

    def at_end(self) -> bool:
        """The peer has ended its half, or the connection is gone."""
        if self.done and not self.error:
            return True
        if self.fin_in:
            return True
        self.raise_error()
        return bool(self.shut & SHUT_RD)

    def recv(self, size: int, flags: int) -> Received:
        """Bytes in order, or with MSG_OOB the urgent one."""
        if not flags & MSG_OOB:
            return StreamSocket.recv(self, size, flags)
        if not self.urgent:
            raise SysErr(errno.EINVAL)
        got = Received(self.urgent[:size])
        got.flags |= MSG_OOB
        if not flags & MSG_PEEK:
            self.urgent = b""
        return got

    def send(self, data: bytes, message: Outgoing) -> int:
        """What fits. The first send after the peer has closed succeeds and brings the reset."""
        if self.error:
            raise SysErr(self.take_error())
        if self.shut & SHUT_WR:
            raise SysErr(errno.EPIPE)
        if self.state == CONNECTING:
            raise WouldBlock
        if self.state != CONNECTED:
            raise SysErr(errno.EPIPE)
        peer = self.peer
        assert isinstance(peer, TcpConnection)
        if data and (peer.gone or (peer.fin_out and peer.shut & SHUT_RD)):
            # Nobody will ever read this: a closed end resets (RFC 1122, 4.2.2.13), and so does one shut both ways.
            if not peer.gone:
                peer.reset()
            self.reset()
            return len(data)
        if message.flags & MSG_OOB and data:
            return self._send_urgent(peer, data, message)
        return self.push(data, message)

    def _send_urgent(self, peer: TcpConnection, data: bytes, message: Outgoing) -> int:
        """The last byte travels beside the stream, or in it if the receiver asked so (SO_OOBINLINE)."""
        if peer.flag(SOL_SOCKET, SO_OOBINLINE):
            done = self.push(data, message)
            if done == len(data):
                peer.mark = peer.rx.head + peer.rx.size - 1
            return done
        done = self.push(data[:-1], message)
        if done < len(data) - 1:
            return done
        peer.urgent = data[-1:]
        peer.mark = peer.rx.head + peer.rx.size
        peer.queue.signal(POLLPRI)
        return len(data)

    def at_mark(self) -> bool:
        """SIOCATMARK."""
        return self.mark == self.rx.head

    def resolve(self, kernel: Kernel, raw: bytes) -> object:
        """A connected TCP socket ignores addresses."""
        return None

    def send_fin(self) -> None:
        """End this half of the connection; no effect the second time."""
        peer = self.peer
        if self.fin_out or not isinstance(peer, TcpConnection):
            return
        self.fin_out = True
        if not peer.gone:
            peer.fin_in = peer.done = True
            peer.shut |= SHUT_RD
            peer.finish()
            peer.announce(HANGUP)
        self.finish()

    def finish(self) -> None:
        """Both halves have ended: the connection is over."""
        if self.fin_in and self.fin_out and self.state == CONNECTED:
            self.state = CLOSED
            self.shut = SHUT_BOTH

    def reset(self) -> None:
        """The peer says the connection does not exist (RST)."""
        if self.state != CONNECTED:
            return
        self.error = errno.EPIPE if self.fin_in else errno.ECONNRESET
        self.state = CLOSED
        self.shut = SHUT_BOTH
        self.done = True
        self.announce(HANGUP | POLLERR)

    def end(self, *, reset: bool) -> None:
        """The connection goes away: tell the peer, with a FIN or a reset."""
        peer = self.peer
        if not isinstance(peer, TcpConnection) or peer.gone:
            return
        if reset:
            peer.reset()
        else:
            self.send_fin()
