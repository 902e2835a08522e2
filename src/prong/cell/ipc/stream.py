"""What TCP and AF_UNIX stream sockets have in common: two channels, end to end."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import POLLHUP, POLLIN, POLLOUT, POLLRDHUP, POLLRDNORM
from prong.cell.ipc.channel import Channel
from prong.cell.ipc.events import READ_EVENTS, WRITE_EVENTS
from prong.cell.ipc.socket import MAX_BUFFER, MSG_PEEK, SHUT_RD, Outgoing, Received, Socket

if TYPE_CHECKING:
    from prong.cell.ipc.net import Loopback

CLOSED, LISTENING, CONNECTING, CONNECTED = 0, 1, 2, 3
"""States of a connection-oriented socket."""
MAX_ATTACHED = 256
"""Most unread messages with descriptors or credentials in one direction."""
HANGUP = POLLIN | POLLRDNORM | POLLHUP | POLLRDHUP


class StreamSocket(Socket):
    """A connection's end: ``rx`` holds what the peer sent. ``peer`` stays set after the peer was closed.

    ``gone``: released. ``accepts`` is a listener's queue of connections not accepted yet, at most ``backlog`` + 1.
    """

    stream = True

    def __init__(self, net: Loopback, domain: int, type_: int, protocol: int, flags: int = 0) -> None:
        super().__init__(net, domain, type_, protocol, flags)
        self.state = CLOSED
        self.rx = Channel(net)
        self.peer: StreamSocket | None = None
        self.gone = False
        self.backlog = 0
        self.accepts: deque[StreamSocket] = deque()

    def capacity(self) -> int:
        """How many bytes may be under way to the peer."""
        return max(min(self.sndbuf, MAX_BUFFER), 1)

    def writable_now(self) -> bool:
        """poll(2)'s idea of room."""
        peer = self.peer
        return peer is None or peer.rx.size * 4 <= self.capacity()

    def recv(self, size: int, flags: int) -> Received:
        """Bytes in order; empty at the end."""
        self.check_receive()
        rx = self.rx
        if not rx.size:
            if self.at_end():
                return Received(b"")
            raise WouldBlock
        size = rx.span(size)
        if flags & MSG_PEEK:
            got = Received(rx.peek(size))
            attached = rx.ahead(size)
            if attached is not None and attached.files:
                self.net.hold_files(attached.files, 1 << 20)
        else:
            got = Received(rx.take(size))
            attached = rx.passed()
            peer = self.peer
            if peer is not None and not peer.gone:
                self.drained(peer)
        if attached is not None:
            got.files, got.creds = attached.files, attached.creds
        return got

    def drained(self, peer: StreamSocket) -> None:
        """Bytes were read: wake the writer once half of the room is free, as sock_def_write_space(), or poll says so."""
        if self.rx.size * 2 <= peer.capacity() or peer.writable_now():
            peer.queue.signal(WRITE_EVENTS)

    def check_receive(self) -> None:
        """Raise if receiving makes no sense in this state."""
        raise NotImplementedError

    def at_end(self) -> bool:
        """Nothing is left to read: raise the pending error, or tell whether no more will come."""
        raise NotImplementedError

    def push(self, data: bytes, message: Outgoing) -> int:
        """Move what fits into the peer's channel."""
        peer = self.peer
        assert peer is not None
        room = self.capacity() - peer.rx.size
        special = bool(message.files or message.creds)
        if data and (room <= 0 or (special and len(peer.rx.attached) >= MAX_ATTACHED)):
            raise WouldBlock
        data = data[:room] if len(data) > room else data
        if data:
            peer.rx.put(data, message.files, message.creds)
            message.files = []
            peer.queue.signal(READ_EVENTS)
        return len(data)

    def drop_connection(self) -> None:
        """Forget what was received and free its memory."""
        self.rx.clear()

    def pending_in(self) -> int:
        """FIONREAD; SysErr(EINVAL) on a listener."""
        if self.state == LISTENING:
            raise SysErr(errno.EINVAL)
        return self.rx.size

    def pending_out(self) -> int:
        """SIOCOUTQ."""
        if self.state == LISTENING:
            raise SysErr(errno.EINVAL)
        return self.peer.rx.size if self.peer is not None and not self.peer.gone else 0

    def poll_received(self) -> int:
        """The readable part of poll(2)."""
        events = 0
        if self.shut & SHUT_RD:
            events |= POLLIN | POLLRDNORM | POLLRDHUP
        if self.rx.size:
            events |= POLLIN | POLLRDNORM
        return events

    def announce(self, events: int) -> None:
        """The state changed in a way both readers and writers must hear of."""
        self.queue.signal(events | POLLOUT)
