"""AF_UNIX sockets that keep message boundaries: SOCK_DGRAM and SOCK_SEQPACKET (unix(7))."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP, POLLRDNORM, POLLWRBAND, POLLWRNORM
from prong.cell.core.saved import saved
from prong.cell.ipc import names
from prong.cell.ipc.address import AF_UNSPEC, family_of
from prong.cell.ipc.events import READ_EVENTS, WRITE_EVENTS
from prong.cell.ipc.net import SOCKET_COST
from prong.cell.ipc.socket import (
    MAX_BUFFER,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    SHUT_BOTH,
    SHUT_RD,
    SHUT_WR,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    Outgoing,
    Received,
)
from prong.cell.ipc.stream import CLOSED, CONNECTED, HANGUP, LISTENING
from prong.cell.ipc.unix import OWN_CREDENTIALS, UnixSocket, mirrored

if TYPE_CHECKING:
    from prong.cell.core.file import File
    from prong.cell.ipc.channel import Credentials
    from prong.cell.ipc.net import Loopback
    from prong.cell.kernel import Kernel

MAX_QUEUE = 10
"""net.unix.max_dgram_qlen: most unread datagrams of a socket that is not their sender's own peer."""
OVERHEAD = 512
"""What a message counts as beside its bytes."""


@saved("unix_message")
class Message:
    """One unread message and who sent it."""

    __slots__ = ("creds", "data", "files", "name", "sender")

    def __init__(self, data: bytes, name: bytes, sender: UnixDgram, files: list[File], creds: Credentials | None) -> None:
        self.data = data
        self.name = name
        self.sender = sender
        self.files = files
        self.creds = creds


@saved("unix_dgram")
class UnixDgram(UnixSocket):
    """A datagram or sequenced-packet socket. ``used``: what its unread messages count as for their senders' room."""

    def __init__(self, net: Loopback, type_: int, flags: int = 0) -> None:
        super().__init__(net, type_, flags)
        self.inbox: deque[Message] = deque()
        self.sent = 0
        self.peer: UnixDgram | None = None
        self.peer_name = b""
        self.state = CLOSED
        self.gone = False
        self.backlog = 0
        self.accepts: deque[UnixDgram] = deque()
        self.crowd: dict[int, UnixDgram] = {}
        """Sockets that found this one's inbox full, by inode number; they hear when there is room."""

    def join(self, other: UnixDgram) -> None:
        """Connect two ends."""
        self.peer, other.peer = other, self
        self.state = other.state = CONNECTED
        self.peer_creds = other.peer_creds = OWN_CREDENTIALS

    # -- connecting -------------------------------------------------------------------------------------------------

    def connect(self, kernel: Kernel, raw: bytes, nonblocking: bool) -> None:
        """connect(2): a datagram socket remembers its peer; AF_UNSPEC makes it forget; a seqpacket one connects."""
        if self.type == SOCK_SEQPACKET:
            self._connect_packet(kernel, raw)
            return
        if family_of(raw) == AF_UNSPEC:
            self._part(None)
            return
        other = self.find(kernel, raw)
        assert isinstance(other, UnixDgram)
        if other.peer is not None and other.peer is not self:
            raise SysErr(errno.EPERM)
        if self.passcred:
            self.autobind()
        self._part(other)
        self.peer_name, self.state = other.name, CONNECTED
        self.queue.signal(WRITE_EVENTS)

    def _part(self, other: UnixDgram | None) -> None:
        """Leave the peer for another one: what was received is lost, and a peer connected to us learns of it."""
        old, self.peer = self.peer, other
        if other is None:
            self.state = CLOSED
        if old is None or old is other:
            return
        if self.inbox:
            self._purge()
            if not old.gone and old.peer is self:
                old.error = errno.ECONNRESET
                old.queue.signal(POLLERR)

    def _connect_packet(self, kernel: Kernel, raw: bytes) -> None:
        server = self.find(kernel, raw)
        assert isinstance(server, UnixDgram)
        if server.state != LISTENING or server.shut & SHUT_RD:
            raise SysErr(errno.ECONNREFUSED)
        if len(server.accepts) > server.backlog:
            raise WouldBlock(server.queue)
        if self.state != CLOSED:
            raise SysErr(errno.EISCONN if self.state == CONNECTED else errno.EINVAL)
        self.net.charge(SOCKET_COST)
        child = UnixDgram(self.net, self.type)
        child.name, child.peer_name, self.peer_name = server.name, self.name, server.name
        child.passcred = server.passcred
        self.join(child)
        server.accepts.append(child)
        server.queue.signal(READ_EVENTS)
        self.queue.signal(0)

    def listen(self, backlog: int) -> None:
        """listen(2), for SOCK_SEQPACKET."""
        if self.type != SOCK_SEQPACKET:
            raise SysErr(errno.EOPNOTSUPP)
        if not self.name or self.state == CONNECTED:
            raise SysErr(errno.EINVAL)
        self.state, self.listening, self.backlog = LISTENING, True, backlog
        self.queue.signal(POLLOUT)

    def accept(self) -> UnixDgram:
        """The oldest connection, for SOCK_SEQPACKET."""
        if self.type != SOCK_SEQPACKET:
            raise SysErr(errno.EOPNOTSUPP)
        if self.state != LISTENING:
            raise SysErr(errno.EINVAL)
        if not self.accepts:
            if self.shut & SHUT_RD:
                raise SysErr(errno.EINVAL)
            raise WouldBlock
        child = self.accepts.popleft()
        self.net.discharge(SOCKET_COST)
        self.queue.signal(POLLOUT)
        return child

    # -- messages ---------------------------------------------------------------------------------------------------

    def room(self) -> int:
        """Bytes the receivers may still hold of this socket's messages."""
        return max(min(self.sndbuf, MAX_BUFFER), OVERHEAD) - self.sent

    def send_limit(self) -> int:
        """A longer message can never be sent."""
        return max(min(self.sndbuf, MAX_BUFFER) - 32, 0)

    def send(self, data: bytes, message: Outgoing) -> int:
        """The whole message."""
        if message.flags & MSG_OOB:
            raise SysErr(errno.EOPNOTSUPP)
        if len(data) > self.send_limit():
            raise SysErr(errno.EMSGSIZE)
        self.raise_error()
        if self.shut & SHUT_WR and self.type == SOCK_DGRAM:
            raise SysErr(errno.EPIPE)
        other = self._destination(message)
        if self.shut & SHUT_WR:
            raise SysErr(errno.EPIPE)
        if other.gone:
            if other is self.peer and self.type == SOCK_DGRAM:
                self._part(None)
            raise self._bounce(errno.EPIPE if self.type == SOCK_SEQPACKET else errno.ECONNREFUSED)
        if other.peer is not None and other.peer is not self and self.type == SOCK_DGRAM:
            raise self._bounce(errno.EPERM)
        if other.shut & SHUT_RD:
            raise self._bounce(errno.EPIPE)
        cost = len(data) + OVERHEAD
        if self.sent and self.room() < cost:
            raise WouldBlock
        if other.peer is not self and len(other.inbox) > MAX_QUEUE:
            other.crowd[self.ino] = self
            raise WouldBlock
        self.net.charge(cost)
        self.sent += cost
        creds = message.creds
        if self.passcred or other.passcred:
            creds = creds or OWN_CREDENTIALS
        other.inbox.append(Message(data, self.name, self, message.files, creds))
        message.files = []
        other.queue.signal(READ_EVENTS)
        return len(data)

    def _bounce(self, error: int) -> SysErr:
        """The message was made and is thrown away; Linux tells edge-triggered epoll of the freed room."""
        self.queue.signal(WRITE_EVENTS)
        return SysErr(error)

    def _destination(self, message: Outgoing) -> UnixDgram:
        if self.type == SOCK_SEQPACKET and self.state != CONNECTED:
            raise SysErr(errno.ENOTCONN)
        target = message.target if self.type == SOCK_DGRAM else None
        if isinstance(target, UnixDgram):
            if self.passcred:
                self.autobind()
            return target
        if self.peer is None:
            raise SysErr(errno.ENOTCONN)
        return self.peer

    def recv(self, size: int, flags: int) -> Received:
        """One message, cut to ``size``."""
        if self.type == SOCK_SEQPACKET and self.state != CONNECTED:
            raise SysErr(errno.ENOTCONN)
        self.raise_error()
        if not self.inbox:
            if self.shut & SHUT_RD and (self.type == SOCK_SEQPACKET or not self.nonblocking(flags)):
                return Received(b"")
            raise WouldBlock
        message = self.inbox[0]
        got = Received(message.data[:size], len(message.data), names.pack(message.name) if message.name else b"")
        got.creds, got.files = message.creds, message.files
        if len(message.data) > size:
            got.flags |= MSG_TRUNC
        if flags & MSG_PEEK:
            self.net.hold_files(got.files, 1 << 20)
            got.files = got.files[:]
        else:
            self._forget_first()
            self._tell_crowd()
        return got

    def _tell_crowd(self) -> None:
        if self.crowd:
            waiting, self.crowd = self.crowd, {}
            for socket in waiting.values():
                socket.queue.signal(WRITE_EVENTS)

    def _forget_first(self) -> None:
        message = self.inbox.popleft()
        cost = len(message.data) + OVERHEAD
        self.net.discharge(cost)
        sender = message.sender
        sender.sent -= cost
        if not sender.gone:
            sender.queue.signal(WRITE_EVENTS)

    # -- state ------------------------------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        """shutdown(2); a sequenced-packet peer sees the other half of it."""
        self.shut |= how
        peer = self.peer
        if peer is not None and not peer.gone and self.type == SOCK_SEQPACKET:
            peer.shut |= mirrored(how)
            peer.queue.signal(HANGUP | POLLOUT)
        self.queue.signal(HANGUP | POLLOUT)

    def peername(self) -> bytes:
        """The name the peer had."""
        if self.peer is None:
            raise SysErr(errno.ENOTCONN)
        return names.pack(self.peer_name)

    def pending_in(self) -> int:
        """Length of the next message."""
        if self.state == LISTENING:
            raise SysErr(errno.EINVAL)
        if self.type == SOCK_SEQPACKET:
            return sum(len(m.data) for m in self.inbox)
        return len(self.inbox[0].data) if self.inbox else 0

    def pending_out(self) -> int:
        """What unread messages of this socket count as."""
        return self.sent

    def poll(self) -> int:
        """Readiness as unix_dgram_poll() tells it."""
        events = POLLERR if self.error else 0
        if self.shut & SHUT_RD:
            events |= POLLIN | POLLRDNORM | POLLRDHUP
        if self.shut == SHUT_BOTH or (self.type == SOCK_SEQPACKET and self.state == CLOSED):
            events |= POLLHUP
        if self.inbox or self.accepts:
            events |= POLLIN | POLLRDNORM
        if self.state == LISTENING:
            return events
        peer = self.peer
        if peer is not None and peer.peer is not self and len(peer.inbox) > MAX_QUEUE:
            peer.crowd[self.ino] = self
        elif self.sent * 4 <= max(min(self.sndbuf, MAX_BUFFER), OVERHEAD):
            events |= POLLOUT | POLLWRNORM | POLLWRBAND
        return events

    def release(self) -> None:
        """Unread messages are lost; a sequenced-packet peer sees the end."""
        super().release()
        self.unbind()
        self.gone = True
        for child in self.accepts:
            self.net.discharge(SOCKET_COST)
            child.hang_up(errno.ECONNRESET)
        self.accepts.clear()
        # As unix_release_sock() looks: a single empty message does not count as unread.
        unread = len(self.inbox) > 1 or any(m.data for m in self.inbox)
        self.hang_up(errno.ECONNRESET if unread else 0)
        self.queue.signal(HANGUP)

    def hang_up(self, error: int) -> None:
        """This end is gone: tell the peer, drop what was not read."""
        self.gone = True
        peer = self.peer
        if peer is not None and not peer.gone and self.type == SOCK_SEQPACKET:
            peer.shut = SHUT_BOTH
            peer.error = error or peer.error
            peer.queue.signal(HANGUP | POLLERR | POLLOUT)
        self._purge()

    def _purge(self) -> None:
        """Throw the unread messages away."""
        files: list[File] = []
        while self.inbox:
            files += self.inbox[0].files
            self._forget_first()
        self._tell_crowd()
        if files:
            self.net.land_files(files)
