"""The control stream, inside: frames in, frames out, as few system calls as possible.

Writing must survive three kinds of concurrency: threads that display, a signal handler that reports a live fork in the
middle of the main thread's own write, and an interrupt. So events are queued first and whoever gets the lock writes
everything queued; nobody ever waits for the lock.
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from errno import ENOTTY
from fcntl import ioctl
from json import JSONDecoder, JSONEncoder
from os import read, write
from typing import Any

from .messages import EXCHANGE, HEADER, MAX_FRAME

CHUNK = 65536


class ControlClosed(Exception):
    """The host closed the control stream; there is nobody left to work for."""


class FrameTooLarge(Exception):
    """An event would exceed :data:`~prong.guest.messages.MAX_FRAME`; it was not queued."""


class Channel:
    """Both directions of the control descriptor.

    Args:
        descriptor: an open, blocking byte stream. A request larger than a frame may be raises :class:`ControlClosed`.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._input = bytearray()
        self._outbox: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._decode = JSONDecoder().decode
        self._encode = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
        self._room = array("B", bytes(CHUNK))
        self._view = memoryview(self._room)
        self._exchanged = bytearray(8) + self._room.buffer_info()[0].to_bytes(8, "little")
        self._one_call = True
        self.rehearsing = False
        """While true, events are encoded and dropped: the template's rehearsal has no listener."""

    def receive(self) -> dict[str, Any]:
        """Wait for the next request. Raises ControlClosed at the end of the stream."""
        held = self._input
        if self._outbox:
            self._exchange()
        while True:
            if len(held) >= HEADER:
                end = HEADER + int.from_bytes(held[:HEADER], "big")
                if end > HEADER + MAX_FRAME:
                    raise ControlClosed(f"a request of {end - HEADER} bytes")
                if len(held) >= end:
                    text = held[HEADER:end].decode("utf-8")
                    del held[:end]
                    request: dict[str, Any] = self._decode(text)
                    return request
            chunk = read(self._descriptor, CHUNK)
            if not chunk:
                raise ControlClosed("end of stream")
            held += chunk

    def _exchange(self) -> None:
        """Write what is queued and wait for the next input in one system call, where the kernel layer offers it.

        It does not take the lock, which nobody may hold while waiting: the kernel layer takes each write whole. An
        interrupt ends the wait, never the write.
        """
        outbox = self._outbox
        if not self._one_call or self.rehearsing or sum(map(len, outbox)) > CHUNK:
            self.flush()
            return
        parts = []
        while outbox:
            parts.append(outbox.popleft())
        data = b"".join(parts)
        exchanged, view = self._exchanged, self._view
        exchanged[:8] = len(data).to_bytes(8, "little")
        view[: len(data)] = data
        try:
            got = ioctl(self._descriptor, EXCHANGE, exchanged, True)
        except InterruptedError:
            return
        except OSError as error:
            if error.errno != ENOTTY:
                raise
            self._one_call = False  # an ordinary stream
            outbox.appendleft(data)
            self.flush()
            return
        if not got:
            raise ControlClosed("end of stream")
        self._input += view[:got]

    def unread(self, request: dict[str, Any]) -> None:
        """Put a request in front of the input, as if just read (the rehearsal uses the path real requests take)."""
        self._input[:0] = self.frame(request)

    def frame(self, event: dict[str, Any]) -> bytes:
        """The bytes of one frame. Raises FrameTooLarge; ValueError or TypeError for what is not JSON."""
        # A lone surrogate becomes the six characters \\udXXX, which inside a JSON string is exactly its escape.
        body = self._encode(event).encode("utf-8", "backslashreplace")
        if len(body) > MAX_FRAME:
            raise FrameTooLarge(f"{len(body)} bytes")
        return len(body).to_bytes(HEADER, "big") + body

    def queue(self, event: dict[str, Any]) -> None:
        """Hold an event for the next flush, so that several leave in one write."""
        self._outbox.append(self.frame(event))

    def post(self, event: dict[str, Any]) -> None:
        """Queue an event and write everything queued."""
        self._outbox.append(self.frame(event))
        self.flush()

    def flush(self) -> None:
        """Write everything queued, unless another thread (or the code this handler interrupted) is at it.

        Whoever holds the lock looks at the outbox again after releasing it, and an event is queued before the lock is
        tried, so none is left behind.
        """
        outbox = self._outbox
        while outbox:
            if not self._lock.acquire(False):
                return
            try:
                self._write_queued()
            finally:
                self._lock.release()

    def _write_queued(self) -> None:
        outbox = self._outbox
        parts = []
        while outbox:
            parts.append(outbox.popleft())
        if self.rehearsing:
            return
        data = b"".join(parts)
        sent = write(self._descriptor, data)
        while sent < len(data):
            sent += write(self._descriptor, memoryview(data)[sent:])


CRITICAL = frozenset({Channel.flush.__code__})
"""Code in which an interrupt must wait: it would leave the lock taken or a frame half written."""
