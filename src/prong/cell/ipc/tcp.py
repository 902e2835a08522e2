"""TCP on the loopback (tcp(7)): nothing is lost or late, so a connection is two channels and the rules at its ends."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI, POLLRDNORM, POLLWRNORM
from prong.cell.core.saved import saved
from prong.cell.ipc.address import AF_UNSPEC, InetAddress, family_of
from prong.cell.ipc.events import READ_EVENTS
from prong.cell.ipc.net import SOCKET_COST
from prong.cell.ipc.socket import (
    SHUT_BOTH,
    SHUT_RD,
    SHUT_WR,
)
from prong.cell.ipc.stream import CLOSED, CONNECTED, CONNECTING, HANGUP, LISTENING
from prong.cell.ipc.tcp_connection import TcpConnection

if TYPE_CHECKING:
    from prong.cell.ipc.net import Loopback
    from prong.cell.kernel import Kernel

INHERITED = ("rcvbuf", "sndbuf", "buffers_set", "linger", "reuse_addr", "reuse_port", "v6only", "rcvlowat",
             "rcvtimeo", "sndtimeo")  # fmt: skip


@saved("tcp")
class TcpSocket(TcpConnection):
    """A TCP socket.

    ``asked``: connect(2) was called and has not yet told its outcome. ``server``: whose queue a client waits to enter.
    """

    def __init__(self, net: Loopback, domain: int, flags: int = 0) -> None:
        super().__init__(net, domain, flags)
        self.asked = False
        self.server: TcpSocket | None = None
        self.waiting: deque[TcpSocket] = deque()
        """Of a listener with a full queue: those who wait to get in."""

    # -- connecting -------------------------------------------------------------------------------------------------

    def listen(self, backlog: int) -> None:
        """listen(2); takes an ephemeral port if unbound. SysErr: EINVAL when connected, EADDRINUSE."""
        if self.state not in (CLOSED, LISTENING) or self.asked:
            raise SysErr(errno.EINVAL)
        self.backlog = backlog
        if self.state == LISTENING:
            return
        self.autobind()
        if not self.table.may_listen(self):
            raise SysErr(errno.EADDRINUSE)
        self.state = LISTENING
        self.listening = True
        self.shut = 0
        self.table.receive(self, True)
        self.queue.signal(POLLOUT)

    def connect(self, kernel: Kernel, raw: bytes, nonblocking: bool) -> None:
        """connect(2), also called again for its outcome. A non-blocking one raises EINPROGRESS though it is done."""
        family = family_of(raw)
        if family == AF_UNSPEC:
            self._disconnect()
            return
        if not self.asked:
            if self.state != CLOSED or self.remote is not None:
                raise SysErr(errno.EISCONN)
            target = self.reach(kernel, "connect", raw)
            self.asked = True
            self._start(target)
            if nonblocking:
                raise SysErr(errno.EINPROGRESS)
        if self.state == CONNECTING:
            if nonblocking:
                raise SysErr(errno.EALREADY)
            raise WouldBlock
        self.asked = False
        if self.state != CONNECTED:
            error = self.take_error() or errno.ECONNABORTED
            self._disconnect()
            raise SysErr(error)

    def _start(self, target: InetAddress) -> None:
        try:
            self.autobind(target[0])
        except SysErr:
            self.asked = False
            raise
        server = self.table.find(target[0], target[1], self.local)
        if not isinstance(server, TcpSocket):
            self._fail(errno.ECONNREFUSED)
            return
        self.remote = target
        self.state = CONNECTING
        if len(server.accepts) > server.backlog:
            self.server = server
            server.waiting.append(self)
        else:
            server.admit(self)

    def admit(self, client: TcpSocket) -> None:
        """Make the connection and queue its other end for accept(2)."""
        if client.remote is None:
            raise ValueError("only a connecting socket can be admitted")
        try:
            self.net.charge(SOCKET_COST)
        except SysErr as exc:
            client._fail(exc.errno)
            return
        child = TcpSocket(self.net, self.domain)
        for name in INHERITED:
            setattr(child, name, getattr(self, name))
        child.options = dict(self.options)
        child.local, child.remote, child.bound = client.remote, client.local, True
        self.table.join(child, child.local[1])
        child.peer, client.peer = client, child
        child.state = client.state = CONNECTED
        client.server = None
        for end in (client, child):
            end.error = end.shut = 0
            end.fin_in = end.fin_out = end.done = False
        self.accepts.append(child)
        self.queue.signal(READ_EVENTS)
        client.queue.signal(POLLOUT | POLLWRNORM)

    def accept(self) -> TcpSocket:
        """The oldest connection; somebody who waits for room takes its place in the queue."""
        if self.state != LISTENING:
            raise SysErr(errno.EINVAL)
        if not self.accepts:
            raise WouldBlock
        child = self.accepts.popleft()
        self.net.discharge(SOCKET_COST)
        if self.waiting:
            self.admit(self.waiting.popleft())
        assert isinstance(child, TcpSocket)
        return child

    def _fail(self, error: int) -> None:
        """A connection could not be made or was reset."""
        self.error = error
        self.state = CLOSED
        self.remote = None
        self.shut = SHUT_BOTH
        self.server = None
        self.announce(HANGUP | POLLERR)

    def _disconnect(self) -> None:
        """connect(2) to AF_UNSPEC, and after a failed connect: as new, with the address it was bound to."""
        if self.state == LISTENING:
            self._stop_listening()
        elif self.state == CONNECTING and self.server is not None:
            self.server.waiting.remove(self)
            self.server = None
        elif self.state == CONNECTED:
            self.end(reset=True)
        self.drop_connection()
        self.state, self.shut, self.error, self.asked = CLOSED, 0, 0, False
        self.peer = self.remote = None
        self.fin_in = self.fin_out = self.done = False
        if not self.chosen:
            self.unbind()
            self.local = (self.any, 0)
        self.announce(HANGUP)

    # -- ending -----------------------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """shutdown(2): SHUT_WR ends this half, on a listener SHUT_RD ends listening. SysErr(ENOTCONN)."""
        if self.state == CLOSED:
            raise SysErr(errno.ENOTCONN)
        if self.state == LISTENING:
            if how & SHUT_RD:
                self._stop_listening()
                self.shut = 0
            return
        if self.state == CONNECTING:
            self._disconnect()
            return
        self.shut |= how
        if how & SHUT_WR:
            self.send_fin()
        self.announce(HANGUP)

    def _stop_listening(self) -> None:
        self.table.receive(self, False)
        self.state = CLOSED
        self.listening = False
        for child in self.accepts:
            assert isinstance(child, TcpSocket)
            self.net.discharge(SOCKET_COST)
            child.end(reset=True)
            child.gone = True
            child.unbind()
            child.drop_connection()
        self.accepts.clear()
        for client in self.waiting:
            client._fail(errno.ECONNREFUSED)
        self.waiting.clear()
        self.announce(HANGUP)

    def release(self) -> None:
        """close(2): the peer sees the end, or a reset if something was left unread or SO_LINGER says so."""
        super().release()
        if self.state == LISTENING:
            self._stop_listening()
        elif self.state == CONNECTING and self.server is not None:
            self.server.waiting.remove(self)
        elif self.state == CONNECTED:
            self.end(reset=bool(self.rx.size) or self.linger == (1, 0))
        self.gone = True
        self.state = CLOSED
        self.unbind()
        self.drop_connection()
        self.queue.signal(HANGUP)

    def poll(self) -> int:
        """Readiness as tcp_poll() tells it."""
        if self.state == LISTENING:
            return POLLIN | POLLRDNORM if self.accepts else 0
        events = POLLERR if self.error else 0
        events |= self.poll_received()
        if self.shut == SHUT_BOTH or self.state == CLOSED:
            events |= POLLHUP
        if self.state != CONNECTING and (self.shut & SHUT_WR or self.writable_now()):
            events |= POLLOUT | POLLWRNORM
        if self.urgent:
            events |= POLLPRI
        return events

    def peername(self) -> bytes:
        """ENOTCONN unless connected."""
        if self.state != CONNECTED:
            raise SysErr(errno.ENOTCONN)
        return super().peername()
