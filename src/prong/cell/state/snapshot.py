"""Write a cell's memory and state to two descriptors. Runs inside the jailed process, so it needs nothing but those.

The manifest, the checksums and the rename that makes a snapshot visible are the engine's: see ``directory.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from prong.cell.core.memory import PAGE

_BLOCK = 16
"""Pages compared with zero at once before looking at single pages."""
_ZERO_BLOCK = bytearray(_BLOCK * PAGE)
_ZERO_PAGE = bytearray(PAGE)
_MOST = 64 << 20
"""Bytes given to one write call."""


def write_memory(
    fd: int, view: memoryview, frames: Iterable[tuple[int, int]] | None = None, *, durable: bool = False
) -> int:
    """Write guest memory as a sparse file as long as ``view``; returns how many pages it holds.

    Args:
        fd: an empty regular file, open for writing; its position does not matter.
        view: all of guest memory, bytes, a whole number of pages.
        frames: runs (first frame, count) to look at; the others are known to be zero. None for all.
        durable: fsync(2) before returning.

    Raises:
        OSError: the write failed (no space, file too large); the file is then useless.
    """
    pages = len(view) // PAGE
    if len(view) % PAGE:
        raise ValueError(f"memory of {len(view)} bytes is not a whole number of pages")
    written = 0
    for first, count in [(0, pages)] if frames is None else frames:
        if first < 0 or count < 0 or first + count > pages:
            raise ValueError(f"frames {first}…{first + count} are outside the memory's {pages}")
        for at, run in data_runs(view[first * PAGE : (first + count) * PAGE]):
            start = (first + at) * PAGE
            _pwrite_all(fd, view[start : start + run * PAGE], start)
            written += run
    if os.fstat(fd).st_size != len(view):
        os.ftruncate(fd, len(view))  # a jailed writer may not; the engine made the file that long before
    if durable:
        os.fsync(fd)
    return written


def write_state(fd: int, data: bytes, *, durable: bool = False) -> int:
    """Write the encoded state to an empty file; returns its length in bytes. OSError as :func:`write_memory`."""
    _pwrite_all(fd, memoryview(data), 0)
    if durable:
        os.fsync(fd)
    return len(data)


def data_runs(view: memoryview) -> Iterator[tuple[int, int]]:
    """The longest runs (first page, count) of pages in ``view`` that are not all zero, in order."""
    start = -1
    pages = len(view) // PAGE
    # A bytearray on the left compares with memcmp(3); bytes or a memoryview there would go element by element.
    zero_page, zero_block = _ZERO_PAGE, _ZERO_BLOCK
    for block in range(0, pages, _BLOCK):
        end = min(block + _BLOCK, pages)
        if end - block == _BLOCK and zero_block == view[block * PAGE : end * PAGE]:
            if start >= 0:
                yield start, block - start
                start = -1
            continue
        for page in range(block, end):
            if zero_page == view[page * PAGE : (page + 1) * PAGE]:
                if start >= 0:
                    yield start, page - start
                    start = -1
            elif start < 0:
                start = page
    if start >= 0:
        yield start, pages - start


def _pwrite_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(fd, data[:_MOST], offset)
        data = data[done:]
        offset += done
