"""The pages a first run touches: found by the accessed and dirty bits, gathered into one stretch of physical memory.

A fork pays for each page it touches first: a fault in the guest, one in the host, and for written pages a copy. Pages
that lie side by side in physical memory can be brought in by two system calls instead (madvise(2), MADV_POPULATE_*).
So a template is rehearsed once in a throw-away fork that watches what is touched, and its pages are rearranged before the
snapshot is written. The program cannot tell: only physical frames change places.
"""

from __future__ import annotations

from array import array

from prong.cell.memory.layout import ADDR, PAGE, SHARED, A, D, P
from prong.cell.memory.phys import runs_of
from prong.cell.memory.space import Space


def watch(space: Space) -> None:
    """Forget which pages were used. Only before the VM has run: its cached translations would not notice."""
    words = space.phys.words
    for base in space.tables.leaves.values():
        words[base : base + 512] = array("Q", [e & ~(A | D) if e & P else e for e in words[base : base + 512].tolist()])


def touched(space: Space) -> tuple[list[int], list[int]]:
    """(written pages, pages only read) since :func:`watch`, as virtual page numbers of private memory."""
    written: list[int] = []
    read: list[int] = []
    for region, base in sorted(space.tables.leaves.items()):
        for i, entry in enumerate(space.phys.words[base : base + 512].tolist()):
            if entry & P and entry & A and not entry & SHARED and space.vmas.find((region << 9 | i) * PAGE):
                (written if entry & D else read).append(region << 9 | i)
    return written, read


def gather(space: Space, written: list[int], read: list[int]) -> None:
    """Move the frames of these pages side by side, written ones first, and remember the stretch in ``phys.hot``.

    Pages that are no longer populated are left out. Raises OutOfFrames, changing nothing, if there is no room.
    """
    phys, tables = space.phys, space.tables
    pages = [(page, False) for page in written] + [(page, True) for page in read]
    present = [(page, only_read) for page, only_read in pages if tables.get(page) & P and not tables.get(page) & SHARED]
    if not present:
        return
    (start, _count), *more = phys.alloc_runs(len(present))
    if more:  # memory too fragmented for one stretch: not worth it
        for first, count in [(start, _count), *more]:
            phys.free_run(first, count)
        return
    old: list[int] = []
    for i, (page, _) in enumerate(present):
        entry = tables.get(page)
        frame = (entry & ADDR) // PAGE
        phys.view(start + i)[:] = phys.view(frame)
        tables.set(page, entry & ~ADDR | (start + i) * PAGE)
        old.append(frame)
    for first, count in runs_of(old):
        phys.free_run(first, count)
    phys.hot = (start, sum(not only_read for _, only_read in present), len(present))


def prefetch(space: Space) -> None:
    """Bring the gathered pages in: private copies of those that will be written, mappings of the others."""
    start, written, total = space.phys.hot
    if total:
        space.phys.prefault(start, written, write=True)
        space.phys.prefault(start + written, total - written, write=False)
        space.phys.hot = (0, 0, 0)
