"""Find a vDSO's functions as programs do: by DT_HASH (musl; vdso(7)'s parse_vdso.c) and by DT_GNU_HASH (glibc, Go)."""

from __future__ import annotations

import struct

DT_HASH, DT_STRTAB, DT_SYMTAB, DT_SONAME = 4, 5, 6, 14
DT_GNU_HASH, DT_VERSYM, DT_VERDEF = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFC
PT_LOAD, PT_DYNAMIC = 1, 2


class SharedObject:
    """An ELF64 image loaded at 0."""

    def __init__(self, data: bytes) -> None:
        assert data[:7] == b"\x7fELF\x02\x01\x01"
        self.data = data
        kind, machine = struct.unpack_from("<HH", data, 16)
        assert (kind, machine) == (3, 62)
        at, size, count = struct.unpack_from("<32xQ14xHH", data)
        self.segments = [struct.unpack_from("<IIQQQQQQ", data, at + i * size) for i in range(count)]
        (dynamic,) = [s for s in self.segments if s[0] == PT_DYNAMIC]
        pairs = struct.iter_unpack("<QQ", data[dynamic[2] : dynamic[2] + dynamic[5]])
        self.dynamic: dict[int, int] = {}
        for tag, value in pairs:
            if tag == 0:
                break
            self.dynamic[tag] = value

    def string(self, offset: int) -> bytes:
        start = self.dynamic[DT_STRTAB] + offset
        return self.data[start : self.data.index(b"\0", start)]

    def words(self, at: int, count: int) -> tuple[int, ...]:
        return struct.unpack_from(f"<{count}I", self.data, at)

    def symbol(self, index: int) -> tuple[bytes, int, int, int]:
        """Name, type and binding, section, address."""
        name, info, _other, section, value, _size = struct.unpack_from(
            "<IBBHQQ", self.data, self.dynamic[DT_SYMTAB] + 24 * index
        )
        return self.string(name), info, section, value

    def version(self, index: int) -> bytes:
        """The name of a symbol's version; the hash stored beside it must be the name's."""
        (wanted,) = struct.unpack_from("<H", self.data, self.dynamic[DT_VERSYM] + 2 * index)
        at = self.dynamic[DT_VERDEF]
        while True:
            _rev, _flags, ndx, _count, stored, aux, following = struct.unpack_from("<HHHHIII", self.data, at)
            if ndx == wanted & 0x7FFF:
                (name,) = self.words(at + aux, 1)
                assert stored == sysv_hash(self.string(name))
                return self.string(name)
            assert following, f"no version {wanted}"
            at += following

    def by_hash(self, name: bytes) -> int | None:
        """Symbol number found through DT_HASH."""
        at = self.dynamic[DT_HASH]
        buckets, chains = self.words(at, 2)
        (index,) = self.words(at + 8 + 4 * (sysv_hash(name) % buckets), 1)
        seen = 0
        while index:
            assert index < chains and seen < chains
            if self.symbol(index)[0] == name:
                return int(index)
            (index,) = self.words(at + 8 + 4 * (buckets + index), 1)
            seen += 1
        return None

    def by_gnu_hash(self, name: bytes) -> int | None:
        """Symbol number found through DT_GNU_HASH, Bloom filter included."""
        at = self.dynamic[DT_GNU_HASH]
        buckets, first, bloom, shift = self.words(at, 4)
        h = gnu_hash(name)
        (word,) = struct.unpack_from("<Q", self.data, at + 16 + 8 * (h // 64 % bloom))
        if not word >> h % 64 & word >> (h >> shift) % 64 & 1:
            return None
        table = at + 16 + 8 * bloom
        (index,) = self.words(table + 4 * (h % buckets), 1)
        while index:
            (value,) = self.words(table + 4 * (buckets + index - first), 1)
            if value | 1 == h | 1 and self.symbol(index)[0] == name:
                return int(index)
            if value & 1:
                return None
            index += 1
        return None


def sysv_hash(name: bytes) -> int:
    """ELF gABI."""
    h = 0
    for c in name:
        h = (h << 4) + c
        g = h & 0xF0000000
        if g:
            h ^= g >> 24
        h &= ~g
    return h


def gnu_hash(name: bytes) -> int:
    """The dl_new_hash of glibc."""
    h = 5381
    for c in name:
        h = (h * 33 + c) % (1 << 32)
    return h
