"""The bytes on their way in one direction of a stream socket, and the records that travel with them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from prong.cell.core.saved import saved

if TYPE_CHECKING:
    from prong.cell.core.file import File
    from prong.cell.ipc.net import Loopback

SMALL = 4096
Credentials = tuple[int, int, int]
"""(process id, user id, group id), as in struct ucred."""


@saved("ipc_attached")
class Attached:
    """Descriptors or credentials sent with the bytes ``start``…``end`` (absolute positions) of a channel."""

    __slots__ = ("creds", "end", "files", "start")

    def __init__(self, start: int, end: int, files: list[File], creds: Credentials | None) -> None:
        self.start = start
        self.end = end
        self.files = files
        self.creds = creds


@saved("ipc_channel")
class Channel:
    """A queue of bytes: small writes are merged, large ones kept whole, nothing is moved to take from the front.

    ``head`` is the absolute position of the first unread byte. What it holds is charged to ``net``.
    """

    def __init__(self, net: Loopback) -> None:
        self.net = net
        self.chunks: deque[bytes | bytearray] = deque()
        self.offset = 0
        self.size = 0
        self.head = 0
        self.attached: deque[Attached] = deque()

    def put(self, data: bytes, files: list[File] | None = None, creds: Credentials | None = None) -> None:
        """Append; ``files`` are already in flight. Raises SysErr(ENOBUFS), and then nothing was appended."""
        self.net.charge(len(data))
        if files or creds:
            start = self.head + self.size
            self.attached.append(Attached(start, start + len(data), files or [], creds))
        if len(data) < SMALL:
            chunks = self.chunks
            if chunks and isinstance(chunks[-1], bytearray) and len(chunks[-1]) < SMALL:
                chunks[-1] += data
            elif data:
                chunks.append(bytearray(data))
        else:
            self.chunks.append(data)
        self.size += len(data)

    def span(self, size: int) -> int:
        """How many of the next ``size`` bytes one receive may return: a message with descriptors ends it."""
        size = min(size, self.size)
        for item in self.attached:
            if item.files:
                return min(size, item.end - self.head) if item.start < self.head + size else size
        return size

    def peek(self, size: int) -> bytes:
        """The next ``size`` bytes (fewer if there are not so many), left in place."""
        parts: list[bytes | bytearray] = []
        skip = self.offset
        for chunk in self.chunks:
            if size <= 0:
                break
            piece = chunk[skip : skip + size] if skip or len(chunk) > size else chunk
            parts.append(piece)
            size -= len(piece)
            skip = 0
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def take(self, size: int) -> bytes:
        """Remove and return the next ``size`` bytes."""
        data = self.peek(size)
        self.skip(len(data))
        return data

    def skip(self, size: int) -> None:
        """Remove the next ``size`` (at most ``self.size``) bytes."""
        self.net.discharge(size)
        self.size -= size
        self.head += size
        chunks = self.chunks
        left = size + self.offset
        while chunks and left >= len(chunks[0]):
            left -= len(chunks.popleft())
        self.offset = left

    def passed(self) -> Attached | None:
        """The records of bytes already read, merged: descriptors taken out of the channel, the last credentials."""
        found: Attached | None = None
        while self.attached and self.attached[0].start < self.head:
            item = self.attached[0]
            if found is None:
                found = Attached(0, 0, [], None)
            found.files += item.files
            found.creds = item.creds or found.creds
            item.files = []
            if item.end > self.head:
                break
            self.attached.popleft()
        return found

    def ahead(self, size: int) -> Attached | None:
        """Like :meth:`passed` for the next ``size`` bytes, leaving everything in place (MSG_PEEK)."""
        found: Attached | None = None
        for item in self.attached:
            if item.start >= self.head + size:
                break
            if found is None:
                found = Attached(0, 0, [], None)
            found.files = found.files + item.files
            found.creds = item.creds or found.creds
        return found

    def clear(self) -> None:
        """Throw everything away."""
        self.skip(self.size)
        files = [f for item in self.attached for f in item.files]
        self.attached.clear()
        if files:
            self.net.land_files(files)
