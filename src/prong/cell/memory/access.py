"""Checked access to the program's memory for system-call handlers: no pointer is trusted, no permission skipped."""

from __future__ import annotations

import errno
import struct

from prong.cell.core.errors import SysErr
from prong.cell.core.memory import parse_iovecs
from prong.cell.core.saved import saved
from prong.cell.memory.layout import ADDR, PAGE, PAGE_MASK, TASK_SIZE, P, W
from prong.cell.memory.space import BadAccess, Space

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


@saved("memory")
class Memory:
    """The :class:`~prong.cell.core.memory.GuestMemory` of a :class:`Space`.

    Pages that are not there yet are populated as a page fault would; a pointer outside the mappings, or a write to memory
    the program may not write, is SysErr(EFAULT).
    """

    def __init__(self, space: Space) -> None:
        self.space = space

    def _physical(self, address: int, write: bool) -> int:
        """Byte offset in physical memory of ``address``, after any population."""
        space = self.space
        need = P | W if write else P
        for _ in range(2):
            base = space.tables.leaves.get(address >> 21)
            if base is not None:
                entry = space.phys.words[base + (address >> 12 & 511)]
                if entry & need == need and address < TASK_SIZE:
                    return (entry & ADDR) + (address & PAGE_MASK)
            if address >= TASK_SIZE:
                break
            try:
                space.fault(address, write=write)
            except BadAccess:
                raise SysErr(errno.EFAULT) from None
        raise SysErr(errno.EFAULT)

    def _pieces(self, address: int, size: int, write: bool) -> list[tuple[int, int]]:
        """[address, +size) as (physical offset, length) pieces, neighbours joined."""
        out: list[tuple[int, int]] = []
        while size > 0:
            n = min(size, PAGE - (address & PAGE_MASK))
            at = self._physical(address, write)
            if out and out[-1][0] + out[-1][1] == at:
                out[-1] = (out[-1][0], out[-1][1] + n)
            else:
                out.append((at, n))
            address += n
            size -= n
        return out

    def read(self, address: int, size: int) -> bytes:
        """Copy ``size`` bytes out of the program."""
        data = self.space.phys.bytes
        if (address & PAGE_MASK) + size <= PAGE:
            if size <= 0:
                return b""
            at = self._physical(address, False)
            return bytes(data[at : at + size])
        if address + size > TASK_SIZE:
            raise SysErr(errno.EFAULT)
        return b"".join([data[at : at + n] for at, n in self._pieces(address, size, False)])

    def write(self, address: int, content: bytes | bytearray | memoryview) -> None:
        """Copy bytes into the program."""
        data = self.space.phys.bytes
        size = len(content)
        if (address & PAGE_MASK) + size <= PAGE:
            if size:
                at = self._physical(address, True)
                data[at : at + size] = content
            return
        if address + size > TASK_SIZE:
            raise SysErr(errno.EFAULT)
        view = memoryview(content)
        done = 0
        for at, n in self._pieces(address, size, True):
            data[at : at + n] = view[done : done + n]
            done += n

    def cstr(self, address: int, limit: int = 4096) -> bytes:
        """A NUL-terminated string; SysErr(ENAMETOOLONG) when it is longer than ``limit``."""
        out = b""
        while len(out) < limit:
            n = min(PAGE - (address & PAGE_MASK), limit - len(out))
            part = self.read(address, n)
            end = part.find(b"\0")
            if end >= 0:
                return out + part[:end]
            out += part
            address += n
        raise SysErr(errno.ENAMETOOLONG)

    def u32(self, address: int) -> int:
        """Unsigned 32-bit load."""
        return int(_U32.unpack(self.read(address, 4))[0])

    def u64(self, address: int) -> int:
        """Unsigned 64-bit load."""
        return int(_U64.unpack(self.read(address, 8))[0])

    def put_u32(self, address: int, value: int) -> None:
        """32-bit store."""
        self.write(address, _U32.pack(value & 0xFFFFFFFF))

    def put_u64(self, address: int, value: int) -> None:
        """64-bit store."""
        self.write(address, _U64.pack(value & 0xFFFFFFFFFFFFFFFF))

    def iovecs(self, address: int, count: int) -> list[tuple[int, int]]:
        """An iovec array, checked."""
        return parse_iovecs(self, address, count)
