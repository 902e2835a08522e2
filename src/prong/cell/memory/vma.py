"""The program's mappings as an ordered list of ranges."""

from __future__ import annotations

import bisect
import errno
from collections.abc import Iterator

from prong.cell.core.errors import SysErr
from prong.cell.core.file import File
from prong.cell.core.saved import saved
from prong.cell.memory.layout import MIN_ADDRESS, MMAP_TOP, PAGE, TASK_SIZE

MAX_MAPPINGS = 65530
"""As vm.max_map_count: it bounds what a program can make its host remember."""
PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC = 0, 1, 2, 4


@saved("vma")
class Vma:
    """One mapping: [start, end) in bytes, protection, and what is behind it.

    ``file`` is None for anonymous memory; else page ``start`` shows the file at byte ``offset``. ``shared`` mappings of
    files use the file's own frames. ``step`` is how many pages the next fault populates (it grows while faults follow each
    other). ``name`` is a label for people (``[stack]``, ``[heap]``); ``stack`` marks the main stack.
    """

    __slots__ = ("end", "file", "name", "offset", "prot", "shared", "start", "step")

    def __init__(
        self,
        start: int,
        end: int,
        prot: int,
        *,
        file: File | None = None,
        offset: int = 0,
        shared: bool = False,
        name: str = "",
    ) -> None:
        self.start = start
        self.end = end
        self.prot = prot
        self.file = file
        self.offset = offset
        self.shared = shared
        self.name = name
        self.step = 16

    def clone(self, start: int, end: int) -> Vma:
        """The same mapping restricted to [start, end)."""
        part = Vma(start, end, self.prot, file=self.file, shared=self.shared, name=self.name)
        part.offset = self.offset + (start - self.start) if self.file is not None else 0
        return part

    def joins(self, other: Vma) -> bool:
        """Whether ``other``, starting where this ends, goes on with the same memory (and the same part of the same file)."""
        return (
            self.end == other.start
            and self.file is other.file
            and (self.file is None or self.offset + (self.end - self.start) == other.offset)
            and self.prot == other.prot
            and self.shared == other.shared
            and self.name == other.name
        )


@saved("vmas", skip=("_tops",))
class VmaList:
    """Non-overlapping mappings in address order. Files behind mappings are kept open by a reference each.

    ``_tops`` spares :meth:`gap` a walk past every mapping: k → an address above which no gap of 2^k pages is left.
    """

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.items: list[Vma] = []
        self.total = 0
        """Mapped bytes, reservations included."""
        self._tops: dict[int, int] = {}

    def after_load(self, env: object) -> None:
        """What is known of gaps is found anew."""
        self._tops = {}

    def __iter__(self) -> Iterator[Vma]:
        return iter(self.items)

    def find(self, address: int) -> Vma | None:
        """The mapping that contains ``address``."""
        at = bisect.bisect_right(self.starts, address) - 1
        if at < 0:
            return None
        vma = self.items[at]
        return vma if address < vma.end else None

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """Mappings that share a byte with [start, end), in order."""
        at = max(bisect.bisect_right(self.starts, start) - 1, 0)
        out: list[Vma] = []
        for vma in self.items[at:]:
            if vma.start >= end:
                break
            if vma.end > start:
                out.append(vma)
        return out

    def covers(self, start: int, end: int) -> bool:
        """Whether every byte of [start, end) is mapped."""
        at = start
        for vma in self.overlapping(start, end):
            if vma.start > at:
                return False
            at = vma.end
        return at >= end

    def insert(self, vma: Vma) -> Vma:
        """Add a mapping to a free range, joining neighbours that are alike; returns the mapping that now holds it."""
        self.total += vma.end - vma.start
        if vma.file is not None:
            vma.file.refs += 1
        at = bisect.bisect_left(self.starts, vma.start)
        self.starts.insert(at, vma.start)
        self.items.insert(at, vma)
        self._join_next(at)
        if at > 0 and self._join_next(at - 1):
            return self.items[at - 1]
        return vma

    def _join_next(self, at: int) -> bool:
        """Join the mapping at index ``at`` with the one after it, if they are alike; one reference to their file stays."""
        if at + 1 >= len(self.items) or not self.items[at].joins(self.items[at + 1]):
            return False
        right = self.items[at + 1]
        self.items[at].end = right.end
        del self.items[at + 1], self.starts[at + 1]
        if right.file is not None:
            right.file.refs -= 1
        return True

    def remove(self, vma: Vma) -> None:
        """Take one whole mapping out."""
        self.remove_all([vma])

    def remove_all(self, inside: list[Vma]) -> None:
        """Take whole mappings out, all there are between the first and the last; their references to files go."""
        at = bisect.bisect_left(self.starts, inside[0].start)
        del self.items[at : at + len(inside)], self.starts[at : at + len(inside)]
        self._opened(at)
        for vma in inside:
            self.total -= vma.end - vma.start
            if vma.file is not None:
                vma.file.refs -= 1
                if vma.file.refs == 0:
                    vma.file.release()

    def _opened(self, at: int) -> None:
        """A mapping before index ``at`` has gone: searches for what fits the gap there have to see it again."""
        low = self.items[at - 1].end if at else MIN_ADDRESS
        high = min(self.starts[at] if at < len(self.starts) else MMAP_TOP, MMAP_TOP)
        for k, top in self._tops.items():
            if top < high and PAGE << k <= high - low:
                self._tops[k] = high

    def isolate(self, start: int, end: int) -> list[Vma]:
        """Split mappings at ``start`` and ``end``; returns those inside, in order. SysErr(ENOMEM) if there are too many."""
        for edge in (start, end):
            vma = self.find(edge)
            if vma is not None and vma.start < edge:
                if len(self.items) >= MAX_MAPPINGS:
                    raise SysErr(errno.ENOMEM)
                self._split(vma, edge)
        return self.overlapping(start, end)

    def _split(self, vma: Vma, edge: int) -> None:
        right = vma.clone(edge, vma.end)
        vma.end = edge
        at = bisect.bisect_left(self.starts, edge)
        self.starts.insert(at, edge)
        self.items.insert(at, right)
        if right.file is not None:
            right.file.refs += 1

    def rejoin(self, start: int, end: int) -> None:
        """Join neighbours in and around [start, end) that have become alike."""
        low = max(bisect.bisect_left(self.starts, start) - 1, 0)
        high = bisect.bisect_right(self.starts, end)
        kept: list[Vma] = []
        for vma in self.items[low:high]:
            if kept and kept[-1].joins(vma):
                kept[-1].end = vma.end
                if vma.file is not None:
                    vma.file.refs -= 1
            else:
                kept.append(vma)
        if len(kept) < high - low:  # in one go: a program may have 65530 mappings that become one
            self.items[low:high] = kept
            self.starts[low:high] = [vma.start for vma in kept]

    def gap(self, size: int, *, low: int = MIN_ADDRESS, high: int = MMAP_TOP) -> int | None:
        """The highest free range of ``size`` bytes below ``high`` (mmap's top-down order), or None."""
        usual = low == MIN_ADDRESS and high == MMAP_TOP
        k = (size // PAGE).bit_length() - 1
        top = self._tops.get(k, high) if usual else high
        at = bisect.bisect_left(self.starts, top)
        learning = usual
        while top - low >= PAGE:
            room = top - (max(self.items[at - 1].end, low) if at else low)
            if learning and room >= PAGE << k:
                self._tops[k] = top
                learning = False
            if room >= size:
                return top - size
            if not at:
                break
            at -= 1
            top = min(top, self.starts[at])
        if learning:
            self._tops[k] = low
        return None

    def free(self, start: int, end: int) -> bool:
        """Whether [start, end) is inside the program's half and unmapped."""
        return start >= MIN_ADDRESS and end <= TASK_SIZE and start % PAGE == 0 and not self.overlapping(start, end)
