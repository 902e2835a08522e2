"""Python's compiled files: made valid by time and size again, so that imports are quick and edits still count.

Under ``SOURCE_DATE_EPOCH`` Python compiles with checked source hashes (PEP 552), and each import then reads and
hashes the source. Only the header differs, so it is rewritten: magic (4 bytes), flags (4), and then either the hash
(8) or the source's modification time (4) and size (4), little-endian.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

from prong.image.tree import walk

_HASH_BASED = 0b01
_HEADER = struct.Struct("<4sIII")
_CACHE = "__pycache__"


def stamp(root: Path) -> int:
    """Turn every hash-based compiled file whose source is in the tree into a time-based one.

    Call it when modification times are final: :func:`prong.image.tree.seal` changes them.

    Returns:
        How many files were rewritten.
    """
    count = 0
    for relative, info in walk(root):
        if stat.S_ISREG(info.st_mode) and relative.endswith(".pyc"):
            source = _source_of(os.path.join(root, relative))
            if source is not None and _stamp_one(os.path.join(root, relative), info, source):
                count += 1
    return count


def _source_of(compiled: str) -> os.stat_result | None:
    """The source's lstat: ``a/__pycache__/m.cpython-311.pyc`` is compiled from ``a/m.py`` (PEP 3147)."""
    folder, name = os.path.split(compiled)
    if os.path.basename(folder) != _CACHE:
        return None
    source = os.path.join(os.path.dirname(folder), f"{name.split('.', 1)[0]}.py")
    if not os.path.lexists(source):
        return None
    found = os.lstat(source)
    return found if stat.S_ISREG(found.st_mode) else None


def _stamp_one(path: str, info: os.stat_result, source: os.stat_result) -> bool:
    with open(path, "r+b") as compiled:
        header = compiled.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return False
        magic, flags, _, _ = _HEADER.unpack(header)
        if not flags & _HASH_BASED:
            return False
        compiled.seek(0)
        compiled.write(_HEADER.pack(magic, 0, int(source.st_mtime) & 0xFFFFFFFF, source.st_size & 0xFFFFFFFF))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    return True
