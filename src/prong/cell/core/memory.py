"""How handlers reach the program's memory, and how files get physical frames. Interfaces, and a flat fake for unit tests."""

from __future__ import annotations

import errno
import struct
from typing import Protocol

from prong.cell.core.errors import SysErr

PAGE = 4096


class GuestMemory(Protocol):
    """Checked access to the program's address space; every method raises SysErr(EFAULT) on a bad pointer."""

    def read(self, address: int, size: int) -> bytes:
        """Copy ``size`` bytes out."""
        ...

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes in."""
        ...

    def cstr(self, address: int, limit: int = 4096) -> bytes:
        """A NUL-terminated string without its NUL; SysErr(ENAMETOOLONG) if none within ``limit`` bytes."""
        ...

    def u32(self, address: int) -> int:
        """Unsigned 32-bit little-endian."""
        ...

    def u64(self, address: int) -> int:
        """Unsigned 64-bit little-endian."""
        ...

    def put_u32(self, address: int, value: int) -> None:
        """Store 32 bits."""
        ...

    def put_u64(self, address: int, value: int) -> None:
        """Store 64 bits."""
        ...

    def iovecs(self, address: int, count: int) -> list[tuple[int, int]]:
        """An iovec array as (pointer, length) pairs; EINVAL beyond 1024 entries or a total over 2**31-4096."""
        ...


class FrameSource(Protocol):
    """Physical frames (4096 bytes each) of the cell, counted against its memory limit."""

    def alloc(self, count: int) -> list[int]:
        """``count`` zeroed frames; raises SysErr(ENOMEM) when the memory limit is reached."""
        ...

    def free(self, frames: list[int]) -> None:
        """Give frames back."""
        ...

    def view(self, frame: int, count: int = 1) -> memoryview:
        """A writable view of ``count`` consecutive frames."""
        ...


class FlatMemory:
    """A :class:`GuestMemory` over one bytearray starting at address ``base``: the fake for unit tests."""

    def __init__(self, size: int = 1 << 20, base: int = 0x10000) -> None:
        self.base = base
        self.data = bytearray(size)

    def _at(self, address: int, size: int) -> int:
        start = address - self.base
        if size < 0 or start < 0 or start + size > len(self.data):
            raise SysErr(errno.EFAULT)
        return start

    def read(self, address: int, size: int) -> bytes:
        """Copy out."""
        at = self._at(address, size)
        return bytes(self.data[at : at + size])

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy in."""
        at = self._at(address, len(data))
        self.data[at : at + len(data)] = data

    def cstr(self, address: int, limit: int = 4096) -> bytes:
        """NUL-terminated string."""
        at = self._at(address, 1)
        end = self.data.find(b"\0", at, at + limit)
        if end < 0:
            raise SysErr(errno.ENAMETOOLONG)
        return bytes(self.data[at:end])

    def u32(self, address: int) -> int:
        """32 bits."""
        return int(struct.unpack_from("<I", self.data, self._at(address, 4))[0])

    def u64(self, address: int) -> int:
        """64 bits."""
        return int(struct.unpack_from("<Q", self.data, self._at(address, 8))[0])

    def put_u32(self, address: int, value: int) -> None:
        """Store 32 bits."""
        struct.pack_into("<I", self.data, self._at(address, 4), value & 0xFFFFFFFF)

    def put_u64(self, address: int, value: int) -> None:
        """Store 64 bits."""
        struct.pack_into("<Q", self.data, self._at(address, 8), value & 0xFFFFFFFFFFFFFFFF)

    def iovecs(self, address: int, count: int) -> list[tuple[int, int]]:
        """iovec array."""
        return parse_iovecs(self, address, count)


def parse_iovecs(memory: GuestMemory, address: int, count: int) -> list[tuple[int, int]]:
    """Read and check an iovec array (readv(2)): EINVAL for more than 1024 entries or too many bytes."""
    if count > 1024 or count < 0:
        raise SysErr(errno.EINVAL)
    raw = memory.read(address, 16 * count)
    pairs = [(int(p), int(n)) for p, n in struct.iter_unpack("<QQ", raw)]
    if sum(n for _, n in pairs) > 0x7FFFF000:
        raise SysErr(errno.EINVAL)
    return pairs


class ListFrames:
    """A :class:`FrameSource` of separate bytearrays: the fake for unit tests."""

    def __init__(self, limit: int = 1 << 16) -> None:
        self.limit = limit
        self.pages: dict[int, bytearray] = {}
        self._next = 1

    def alloc(self, count: int) -> list[int]:
        """Zeroed frames."""
        if len(self.pages) + count > self.limit:
            raise SysErr(errno.ENOMEM)
        got = list(range(self._next, self._next + count))
        self._next += count
        self.pages.update({f: bytearray(PAGE) for f in got})
        return got

    def free(self, frames: list[int]) -> None:
        """Give back."""
        for f in frames:
            del self.pages[f]

    def view(self, frame: int, count: int = 1) -> memoryview:
        """View of one frame; this fake has no consecutive ones."""
        if count != 1:
            raise ValueError("ListFrames has no consecutive frames")
        return memoryview(self.pages[frame])
