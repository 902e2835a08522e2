"""AF_UNIX (unix(7)): names, and the stream sockets."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRBAND, POLLWRNORM
from prong.cell.core.saved import saved
from prong.cell.ipc import names
from prong.cell.ipc.address import AF_UNIX
from prong.cell.ipc.net import SOCKET_COST
from prong.cell.ipc.socket import (
    MSG_OOB,
    SHUT_BOTH,
    SHUT_RD,
    SHUT_WR,
    SOCK_STREAM,
    Outgoing,
    Socket,
)
from prong.cell.ipc.stream import CLOSED, CONNECTED, HANGUP, LISTENING, StreamSocket
from prong.cell.process import PID

if TYPE_CHECKING:
    from prong.cell.ipc.net import Loopback
    from prong.cell.kernel import Kernel

OWN_CREDENTIALS = (PID, 0, 0)


def mirrored(how: int) -> int:
    """What one end's shutdown means for the other one."""
    return (SHUT_WR if how & SHUT_RD else 0) | (SHUT_RD if how & SHUT_WR else 0)


class UnixSocket(Socket):
    """A socket with a name: ``name`` is sun_path without padding, abstract names with their leading NUL, or empty.

    ``node`` is the file-system node of a path name. ``peer_name`` is what the peer was called when it connected.
    """

    def __init__(self, net: Loopback, type_: int, flags: int = 0) -> None:
        super().__init__(net, AF_UNIX, type_, 0, flags)
        self.name = b""
        self.node: names.SocketNode | None = None

    def bind(self, kernel: Kernel, raw: bytes) -> None:
        """bind(2): a path (makes a socket file), an abstract name, or a name of the kernel's choice."""
        name = names.parse(raw)
        if self.name:
            raise SysErr(errno.EINVAL)
        if not name:
            name = names.choose(self.net, self.type)
        if name[0]:
            self.node = names.bind_path(kernel, name, self)
        else:
            if (self.type, name) in self.net.abstract:
                raise SysErr(errno.EADDRINUSE)
            self.net.abstract[self.type, name] = self
        self.name = name

    def autobind(self) -> None:
        """Give a nameless socket a name, as SO_PASSCRED sockets get one when they send."""
        if not self.name:
            self.name = names.choose(self.net, self.type)
            self.net.abstract[self.type, self.name] = self

    def find(self, kernel: Kernel, raw: bytes) -> UnixSocket:
        """The socket bound to an address. SysErr: ENOENT, ECONNREFUSED, EPROTOTYPE for one of another type."""
        name = names.parse(raw)
        if not name:
            raise SysErr(errno.EINVAL)
        found = names.find_path(kernel, name) if name[0] else self.net.abstract.get((self.type, name))
        if found is None:
            raise SysErr(errno.ECONNREFUSED)
        if found.type != self.type:
            raise SysErr(errno.EPROTOTYPE)
        return found

    def resolve(self, kernel: Kernel, raw: bytes) -> object:
        """The destination socket."""
        return self.find(kernel, raw)

    def sockname(self) -> bytes:
        """The name as sockaddr_un."""
        return names.pack(self.name)

    def unbind(self) -> None:
        """Give the name up; a path stays in the file system and refuses connections."""
        if self.node is not None:
            self.node.state = None
            self.node = None
        elif self.name and self.net.abstract.get((self.type, self.name)) is self:
            del self.net.abstract[self.type, self.name]


@saved("unix_stream")
class UnixStream(UnixSocket, StreamSocket):
    """A byte-stream connection within the cell."""

    def __init__(self, net: Loopback, flags: int = 0) -> None:
        StreamSocket.__init__(self, net, AF_UNIX, SOCK_STREAM, 0, flags)
        self.name = b""
        self.node = None
        self.peer_name = b""

    def join(self, other: UnixStream) -> None:
        """Connect two ends."""
        self.peer, other.peer = other, self
        self.state = other.state = CONNECTED
        self.peer_creds = other.peer_creds = OWN_CREDENTIALS

    def listen(self, backlog: int) -> None:
        """listen(2); a nameless socket cannot."""
        if not self.name or self.state == CONNECTED:
            raise SysErr(errno.EINVAL)
        self.state = LISTENING
        self.listening = True
        self.backlog = backlog
        self.peer_creds = OWN_CREDENTIALS
        self.queue.signal(POLLOUT)

    def connect(self, kernel: Kernel, raw: bytes, nonblocking: bool) -> None:
        """connect(2): at once, or WouldBlock while the listener's queue is full."""
        server = self.find(kernel, raw)
        if not isinstance(server, UnixStream) or server.state != LISTENING or server.shut & SHUT_RD:
            raise SysErr(errno.ECONNREFUSED)
        if len(server.accepts) > server.backlog:
            raise WouldBlock(server.queue)
        if self.state != CLOSED or self.peer is not None:
            raise SysErr(errno.EISCONN if self.state == CONNECTED else errno.EINVAL)
        self.net.charge(SOCKET_COST)
        if self.passcred:
            self.autobind()
        child = UnixStream(self.net)
        child.name, child.peer_name, self.peer_name = server.name, self.name, server.name
        child.passcred = server.passcred
        self.join(child)
        server.accepts.append(child)
        server.queue.signal(POLLIN | POLLRDNORM)
        self.queue.signal(0)

    def accept(self) -> UnixStream:
        """The oldest connection."""
        if self.state != LISTENING:
            raise SysErr(errno.EINVAL)
        if not self.accepts:
            if self.shut & SHUT_RD:
                raise SysErr(errno.EINVAL)
            raise WouldBlock
        child = self.accepts.popleft()
        self.net.discharge(SOCKET_COST)
        # Clients that wait for room in the queue park here too.
        self.queue.signal(POLLOUT)
        assert isinstance(child, UnixStream)
        return child

    def check_receive(self) -> None:
        """EINVAL unless connected."""
        if self.state != CONNECTED:
            raise SysErr(errno.EINVAL)

    def at_end(self) -> bool:
        """The peer will send no more."""
        self.raise_error()
        return bool(self.shut & SHUT_RD)

    def send(self, data: bytes, message: Outgoing) -> int:
        """What fits."""
        if message.flags & MSG_OOB:
            raise SysErr(errno.EOPNOTSUPP)
        if message.target is not None:
            raise SysErr(errno.EISCONN if self.state == CONNECTED else errno.EOPNOTSUPP)
        if self.peer is None:
            raise SysErr(errno.ENOTCONN)
        if self.shut & SHUT_WR:
            raise SysErr(errno.EPIPE)
        if not data:
            return 0
        self.raise_error()
        if self.peer.gone or self.peer.shut & SHUT_RD:
            raise SysErr(errno.EPIPE)
        if self.passcred or self.peer.passcred:
            message.creds = message.creds or OWN_CREDENTIALS
        return self.push(data, message)

    def resolve(self, kernel: Kernel, raw: bytes) -> object:
        """Streams take no address; what is wrong with one is told by :meth:`send`."""
        return raw

    def shutdown(self, how: int) -> None:
        """shutdown(2); the peer sees the other half of it."""
        self.shut |= how
        peer = self.peer
        if peer is not None and not peer.gone:
            peer.shut |= mirrored(how)
            peer.announce(HANGUP)
        self.announce(HANGUP)

    def peername(self) -> bytes:
        """The name the peer had."""
        if self.state != CONNECTED:
            raise SysErr(errno.ENOTCONN)
        return names.pack(self.peer_name)

    def poll(self) -> int:
        """Readiness as unix_poll() tells it."""
        events = POLLERR if self.error else 0
        if self.state == LISTENING:
            if self.accepts:
                events |= POLLIN | POLLRDNORM
            return events | self.poll_received()
        events |= self.poll_received()
        if self.shut == SHUT_BOTH or self.state == CLOSED:
            events |= POLLHUP
        if self.writable_now():
            events |= POLLOUT | POLLWRNORM | POLLWRBAND
        return events

    def release(self) -> None:
        """The peer sees the end, or a reset if something was left unread."""
        super().release()
        self.unbind()
        self.gone = True
        for child in self.accepts:
            self.net.discharge(SOCKET_COST)
            self.hang_up(child.peer, errno.ECONNRESET)
            child.gone = True
            child.drop_connection()
        self.accepts.clear()
        # What is attached to nothing but zero bytes still has to land.
        self.hang_up(self.peer, errno.ECONNRESET if self.rx.size else 0)
        self.state = CLOSED
        self.drop_connection()
        self.queue.signal(HANGUP)

    def hang_up(self, peer: StreamSocket | None, error: int) -> None:
        """Tell a peer that this end is gone."""
        if peer is None or peer.gone:
            return
        peer.shut = SHUT_BOTH
        peer.error = error or peer.error
        peer.announce(HANGUP | POLLERR)
