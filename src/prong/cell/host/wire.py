"""Frames on a control socket: length, msgpack body, and file descriptors alongside (SCM_RIGHTS, unix(7))."""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgpack

from prong.errors import ProngError

MAX_FRAME = 24 << 20
"""Bytes of one frame's body, either way."""
MAX_FDS = 128
CHUNK = 1 << 16
LONGEST_WAIT = 3600.0
"""Seconds of one poll(2), whose argument is 31 bits of milliseconds; programs sleep longer."""
Message = tuple[Any, ...]


class ProtocolViolation(ProngError):
    """The peer sent bytes that are not the control protocol; the connection is of no further use."""

    default_code = "protocol_violation"


class Closed(ProngError):
    """The peer closed the connection."""

    default_code = "connection_closed"


class Decoder:
    """Bytes in, messages out (sans-IO). A message is a tuple whose first item is its kind, a short string.

    Raises ProtocolViolation for oversized frames and bodies that are not a msgpack array starting with a string.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Add received bytes; returns the messages completed by them."""
        self._buffer += data
        out: list[Message] = []
        at = 0
        while len(self._buffer) - at >= 4:
            (size,) = struct.unpack_from("<I", self._buffer, at)
            if size > self.limit:
                raise ProtocolViolation(f"a frame of {size} bytes; the limit is {self.limit}")
            if len(self._buffer) - at - 4 < size:
                break
            out.append(self._parse(bytes(self._buffer[at + 4 : at + 4 + size])))
            at += 4 + size
        del self._buffer[:at]
        return out

    def _parse(self, body: bytes) -> Message:
        try:
            value = msgpack.unpackb(body, use_list=False, strict_map_key=False)
        except (ValueError, msgpack.exceptions.UnpackException) as e:
            raise ProtocolViolation(f"a frame that is not msgpack: {e}") from e
        if not isinstance(value, tuple) or not value or not isinstance(value[0], str):
            raise ProtocolViolation("a frame that is not a message")
        return value


def encode(message: Message) -> bytes:
    """One frame. Text that is not Unicode (names of files that a program chose) is shown escaped."""
    body: bytes = msgpack.packb(message, use_bin_type=True, unicode_errors="backslashreplace")
    if len(body) > MAX_FRAME:
        raise ProtocolViolation(f"a message of {len(body)} bytes; the limit is {MAX_FRAME}")
    return struct.pack("<I", len(body)) + body


class Channel:
    """A control socket with blocking sends and whole-message receives.

    Received descriptors queue up in ``fds`` in order of arrival; the messages that announce them say how many are theirs.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.setblocking(True)
        self.fds: deque[int] = deque()
        self._decoder = Decoder()
        self._ready: deque[Message] = deque()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self.sock.fileno()

    def send(self, *message: Any, fds: tuple[int, ...] = (), full: Callable[[], None] | None = None) -> None:
        """Send one message; while the peer is slow it blocks, or calls ``full`` again and again. Raises Closed."""
        data = memoryview(encode(message))
        flags = socket.MSG_NOSIGNAL if full is None else socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            while data:
                try:
                    data = data[self.sock.sendmsg([data], rights, flags) if rights else self.sock.send(data, flags) :]
                    rights = []
                except BlockingIOError:
                    if full is None:
                        raise
                    full()
        except (BrokenPipeError, ConnectionResetError):
            raise Closed("the peer of a control connection is gone") from None

    def receive(self, timeout: float | None = None) -> Message | None:
        """The next message; None when ``timeout`` seconds pass first. Raises Closed, ProtocolViolation."""
        deadline = None if not timeout else time.monotonic() + timeout
        while not self._ready:
            if timeout is not None and not self.wait(timeout):
                return None
            self._pump()
            if deadline is not None:
                timeout = max(deadline - time.monotonic(), 0)
        return self._ready.popleft()

    def wait(self, timeout: float) -> bool:
        """Whether something can be received within ``timeout`` seconds (or an hour, if that is less)."""
        if self._ready:
            return True
        if self.sock.fileno() < 0:
            raise Closed("this control connection was closed")
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return bool(poller.poll(min(timeout, LONGEST_WAIT) * 1000))

    def _pump(self) -> None:
        try:
            data, ancillary, _flags, _addr = self.sock.recvmsg(
                CHUNK, socket.CMSG_SPACE(4 * MAX_FDS), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            raise Closed("the peer of a control connection is gone") from None
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                got = array.array("i")
                got.frombytes(content[: len(content) - len(content) % got.itemsize])
                self.fds.extend(got)
        if not data:
            raise Closed("the peer of a control connection is gone")
        self._ready.extend(self._decoder.feed(data))

    def take_fds(self, count: int) -> list[int]:
        """The next ``count`` received descriptors, now the caller's. Raises ProtocolViolation if they did not come."""
        if len(self.fds) < count:
            raise ProtocolViolation(f"{count} descriptors announced, {len(self.fds)} received")
        return [self.fds.popleft() for _ in range(count)]

    def close(self) -> None:
        """Close the socket and any unclaimed descriptors."""
        while self.fds:
            os.close(self.fds.popleft())
        with contextlib.suppress(OSError):
            self.sock.close()
