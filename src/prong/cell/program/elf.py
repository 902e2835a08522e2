"""Parse and map ELF-64 executables (elf(5)). Every number is hostile until checked."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from prong.cell.core.errors import SysErr
from prong.cell.core.file import File
from prong.cell.memory.access import Memory
from prong.cell.memory.layout import PAGE, PAGE_MASK, TASK_SIZE
from prong.cell.memory.space import Space
from prong.cell.memory.vma import PROT_READ, PROT_WRITE
from prong.errors import InvalidInput

ET_EXEC, ET_DYN, EM_X86_64 = 2, 3, 62
PT_LOAD, PT_INTERP, PT_PHDR = 1, 3, 6
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")


class BadProgram(InvalidInput):
    """The file is not an x86-64 Linux executable this host can load."""

    default_code = "bad_program"


@dataclass(frozen=True)
class Segment:
    """One PT_LOAD: file range, address range and protection (PROT_ bits)."""

    offset: int
    address: int
    file_size: int
    memory_size: int
    prot: int


@dataclass(frozen=True)
class Elf:
    """A checked executable. Addresses are as in the file; ``base`` is added when ``relocatable``."""

    relocatable: bool
    entry: int
    segments: tuple[Segment, ...]
    interp: bytes | None
    phdr: int
    phnum: int

    @property
    def span(self) -> tuple[int, int]:
        """Lowest and highest page-aligned address."""
        low = min(s.address for s in self.segments) & ~PAGE_MASK
        high = max(s.address + s.memory_size for s in self.segments)
        return low, (high + PAGE_MASK) & ~PAGE_MASK


def parse(file: File, name: str) -> Elf:
    """Read and check the headers; raises BadProgram naming what is wrong."""
    head = file.pread(_HEADER.size, 0)
    if len(head) < _HEADER.size or head[:4] != b"\x7fELF":
        raise BadProgram(f"{name} is not an ELF program", hint="give a program of the image, or run it by its interpreter")
    ident, kind, machine, _v, entry, phoff, _sh, _fl, _eh, phentsize, phnum, *_ = _HEADER.unpack(head)
    if ident[4] != 2 or ident[5] != 1 or machine != EM_X86_64 or kind not in (ET_EXEC, ET_DYN):
        raise BadProgram(f"{name} is not an x86-64 Linux executable")
    if phentsize != _PHDR.size or not 1 <= phnum <= 128 or phoff > 1 << 40:
        raise BadProgram(f"{name} has a malformed program header table")
    raw = file.pread(phnum * _PHDR.size, phoff)
    if len(raw) < phnum * _PHDR.size:
        raise BadProgram(f"{name} is cut short")
    segments: list[Segment] = []
    interp, phdr = None, None
    for kind_, flags, offset, address, _pa, fsize, msize, _align in _PHDR.iter_unpack(raw):
        if kind_ == PT_LOAD and msize:
            segments.append(_segment(name, flags, offset, address, fsize, msize))
            if offset <= phoff < offset + fsize:
                phdr = address + (phoff - offset)
        elif kind_ == PT_INTERP:
            if not 2 <= fsize <= 4096:
                raise BadProgram(f"{name} names a dynamic loader of {fsize} bytes")
            interp = file.pread(fsize, offset).rstrip(b"\0")
    return _checked(name, kind == ET_DYN, entry, segments, interp, phdr, phnum)


def _segment(name: str, flags: int, offset: int, address: int, fsize: int, msize: int) -> Segment:
    if fsize > msize or address + msize > TASK_SIZE or (offset - address) & PAGE_MASK or offset > 1 << 40:
        raise BadProgram(f"{name} has an impossible segment at {address:#x}")
    prot = (4 if flags & 1 else 0) | (2 if flags & 2 else 0) | (1 if flags & 4 else 0)
    return Segment(offset, address, fsize, msize, prot)


def _checked(
    name: str,
    relocatable: bool,
    entry: int,
    segments: list[Segment],
    interp: bytes | None,
    phdr: int | None,
    phnum: int,
) -> Elf:
    if not segments:
        raise BadProgram(f"{name} has nothing to load")
    elf = Elf(relocatable, entry, tuple(segments), interp, phdr or 0, phnum)
    low, high = elf.span
    if high - low > 1 << 36 or (not relocatable and low < 0x10000):
        raise BadProgram(f"{name} wants addresses {low:#x}…{high:#x}")
    return elf


def load(elf: Elf, file: File, space: Space, memory: Memory, base: int) -> int:
    """Map the segments (at ``base`` if relocatable); returns the load bias. SysErr(ENOMEM) if there is no room."""
    low, high = elf.span
    bias = base - low if elf.relocatable else 0
    if not space.vmas.free(low + bias, high + bias):
        raise SysErr(errno.ENOMEM)
    for seg in elf.segments:
        _map_segment(seg, file, space, memory, bias)
    return bias


def _map_segment(seg: Segment, file: File, space: Space, memory: Memory, bias: int) -> None:
    start = (seg.address + bias) & ~PAGE_MASK
    file_end = seg.address + bias + seg.file_size
    end = seg.address + bias + seg.memory_size
    page_end = (file_end + PAGE_MASK) & ~PAGE_MASK
    if seg.file_size:
        offset = seg.offset & ~PAGE_MASK
        space.map(file_end - start, seg.prot, at=start, file=file, offset=offset)
        if end > file_end and seg.prot & PROT_WRITE and file_end & PAGE_MASK:
            memory.write(file_end, bytes(page_end - file_end))  # to the page's end: ld.so's first malloc counts on it
    else:
        page_end = start
    if end > page_end:
        space.map(end - page_end, seg.prot | PROT_READ, at=page_end)


__all__ = ["PAGE", "BadProgram", "Elf", "Segment", "load", "parse"]
