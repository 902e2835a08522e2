"""The vDSO (vdso(7)): a small shared object in the program's memory that tells time from a page the VMM writes.

The image is one page, mapped readable and executable as ``[vdso]``, right after the read-only data page ``[vvar]``. The
auxiliary vector's AT_SYSINFO_EHDR points at it; C libraries and language runtimes find the functions of
:mod:`~prong.cell.program.vdsocode` there by name and version, as in Linux' own (vdso(7), ELF gABI chapter 5).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prong.cell.memory.layout import PAGE, SHARED
from prong.cell.memory.space import entry_bits
from prong.cell.memory.vma import PROT_EXEC, PROT_READ
from prong.cell.program import vdsocode

if TYPE_CHECKING:
    from prong.cell.memory.space import Space

SONAME = b"linux-vdso.so.1"
VERSION = b"LINUX_2.6"

_PT_LOAD, _PT_DYNAMIC = 1, 2
_PF_X, _PF_R = 1, 4
_ET_DYN, _EM_X86_64 = 3, 62
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 4, 5, 6, 10, 11, 14
_DT_GNU_HASH, _DT_VERSYM, _DT_VERDEF, _DT_VERDEFNUM = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD
_GLOBAL_FUNC = 0x12
_VER_FLG_BASE = 1
_EHDR, _PHDR, _SYM = 64, 56, 24


def elf_hash(name: bytes) -> int:
    """The hash of DT_HASH and of versions (gABI, "Hash Table")."""
    h = 0
    for c in name:
        h = (h << 4) + c
        high = h & 0xF0000000
        h = (h ^ high >> 24) & ~high
    return h & 0xFFFFFFFF


def gnu_hash(name: bytes) -> int:
    """The hash of DT_GNU_HASH."""
    h = 5381
    for c in name:
        h = h * 33 + c & 0xFFFFFFFF
    return h


@dataclass(frozen=True)
class _Function:
    name: bytes
    value: int
    """Address in the image."""
    size: int


def _functions(code: bytes, symbols: dict[str, int]) -> list[_Function]:
    """The exported functions in address order; each reaches to the next."""
    at = sorted(symbols.items(), key=lambda item: item[1])
    ends = [offset for _, offset in at[1:]] + [len(code)]
    return [
        _Function(name.encode(), vdsocode.CODE_AT + offset, end - offset)
        for (name, offset), end in zip(at, ends, strict=True)
    ]


def _strings(names: list[bytes]) -> tuple[bytes, dict[bytes, int]]:
    table = bytearray(1)
    offsets: dict[bytes, int] = {}
    for name in names:
        offsets[name] = len(table)
        table += name + b"\0"
    return bytes(table), offsets


def _sysv_table(names: list[bytes]) -> bytes:
    """DT_HASH with one bucket: a chain through all symbols."""
    count = len(names) + 1
    chain = [0, *range(2, count), 0]
    return struct.pack(f"<{3 + count}I", 1, count, 1, *chain)


def _gnu_table(names: list[bytes]) -> bytes:
    """DT_GNU_HASH with one bucket and a Bloom filter that lets everything pass; the last hash of a chain is odd."""
    hashes = [gnu_hash(name) & ~1 for name in names]
    hashes[-1] |= 1
    return struct.pack(f"<IIIIQI{len(hashes)}I", 1, 1, 1, 0, 0xFFFFFFFFFFFFFFFF, 1, *hashes)


def _versions(offsets: dict[bytes, int]) -> bytes:
    """DT_VERDEF: the object itself (index 1), and the version of every function (index 2)."""
    out = b""
    for index, (name, flags) in enumerate(((SONAME, _VER_FLG_BASE), (VERSION, 0)), 1):
        following = 28 if index == 1 else 0
        out += struct.pack("<HHHHIII", 1, flags, index, 1, elf_hash(name), 20, following)
        out += struct.pack("<II", offsets[name], 0)
    return out


def image() -> bytes:
    """The shared object: exactly one page, to be mapped wherever a data page goes before it."""
    code, symbols = vdsocode.code()
    functions = _functions(code, symbols)
    names = [f.name for f in functions]
    strings, offsets = _strings([*names, SONAME, VERSION])
    table = [bytes(_SYM), *(struct.pack("<IBBHQQ", offsets[f.name], _GLOBAL_FUNC, 0, 1, f.value, f.size) for f in functions)]
    parts = {
        _DT_HASH: _sysv_table(names),
        _DT_GNU_HASH: _gnu_table(names),
        _DT_SYMTAB: b"".join(table),
        _DT_STRTAB: strings,
        _DT_VERSYM: struct.pack(f"<{len(table)}H", 0, *[2] * len(functions)),
        _DT_VERDEF: _versions(offsets),
    }
    out = bytearray(PAGE)
    at = _EHDR + 2 * _PHDR
    dynamic = {_DT_SONAME: offsets[SONAME], _DT_STRSZ: len(strings), _DT_SYMENT: _SYM, _DT_VERDEFNUM: 2}
    for tag, data in parts.items():
        at = (at + 7) & ~7
        out[at : at + len(data)] = data
        dynamic[tag] = at
        at += len(data)
    at = (at + 7) & ~7
    words = [word for entry in dynamic.items() for word in entry] + [0, 0]
    struct.pack_into(f"<{len(words)}Q", out, at, *words)
    assert at + 8 * len(words) <= vdsocode.CODE_AT and vdsocode.CODE_AT + len(code) <= PAGE
    out[vdsocode.CODE_AT : vdsocode.CODE_AT + len(code)] = code
    out[: _EHDR + 2 * _PHDR] = _headers(at, 8 * len(words))
    return bytes(out)


def _headers(dynamic: int, size: int) -> bytes:
    """ELF header and program headers: everything loads as one piece; no sections."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    ehdr = struct.pack("<16sHHIQQQIHHHHHH", ident, _ET_DYN, _EM_X86_64, 1, 0, _EHDR, 0, 0, _EHDR, _PHDR, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", _PT_LOAD, _PF_R | _PF_X, 0, 0, 0, PAGE, PAGE, PAGE)
    return ehdr + load + struct.pack("<IIQQQQQQ", _PT_DYNAMIC, _PF_R, dynamic, dynamic, dynamic, size, size, 8)


def map_vdso(space: Space) -> int:
    """Map data page and vDSO high in the program's half; returns the vDSO's address, for AT_SYSINFO_EHDR.

    The data page is empty, hence not valid: every function makes its system call until somebody writes it. Its frame
    (``space.vvar_frame``) stays ours if the program unmaps the page, so that writing to it can never hit other memory.

    Raises:
        SysErr: no room.
    """
    data = space.map(2 * PAGE, PROT_READ, name="[vvar]")
    at = space.map(PAGE, PROT_READ | PROT_EXEC, at=data + PAGE, name="[vdso]")
    vvar, vdso = space.phys.alloc(2)
    space.phys.view(vdso)[:] = image()
    space.tables.set(data // PAGE, vvar * PAGE | entry_bits(PROT_READ) | SHARED)
    space.tables.set(at // PAGE, vdso * PAGE | entry_bits(PROT_READ | PROT_EXEC))
    space.vvar_frame = vvar
    return at


__all__ = ["SONAME", "VERSION", "elf_hash", "gnu_hash", "image", "map_vdso"]
