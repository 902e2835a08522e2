"""The guest's page tables, written from outside and never read back for policy."""

from __future__ import annotations

from array import array

from prong.cell.core.saved import saved
from prong.cell.memory.layout import (
    ADDR,
    FRAME_PML4,
    FRAME_STACK,
    FRAME_STUBS,
    HELD,
    NX,
    PAGE,
    SHARED,
    SUPERVISOR,
    SUPERVISOR_FRAMES,
    USER_RO,
    A,
    P,
    U,
    W,
)
from prong.cell.memory.phys import Physical, Run

_LINK = P | W | U | A
_ZERO = array("Q", bytes(4096))


@saved("tables")
class Tables:
    """Four-level page tables of one address space.

    ``leaves`` maps ``address >> 21`` to the word index (in ``phys.words``) of the leaf table of that 2 MiB region. A leaf
    table, once linked, stays linked to its region: a shadow-paging KVM caches tables by frame, and only changes to what
    the entries *point at* (frames being zapped) are noticed from outside.
    """

    def __init__(self, phys: Physical) -> None:
        self.phys = phys
        self.leaves: dict[int, int] = {}
        self.upper: dict[int, int] = {}
        for frame in SUPERVISOR_FRAMES:
            bits = USER_RO | (W if frame == FRAME_STACK else 0) | (0 if frame == FRAME_STUBS else NX)
            self.set(SUPERVISOR // PAGE + frame, frame * PAGE | bits)

    def leaf(self, region: int) -> int:
        """Word index of the leaf table of 2 MiB region number ``region``, linking tables as needed (OutOfFrames)."""
        base = self.leaves.get(region)
        if base is None:
            directory = self._upper(region >> 9, 1)
            base = self._link(directory + (region & 511))
            self.leaves[region] = base
        return base

    def _upper(self, index: int, level: int) -> int:
        """Word index of the table of ``level`` (1: directory of 1 GiB, 2: of 512 GiB, 3: the root)."""
        if level == 3:
            return FRAME_PML4 * 512
        key = index << 2 | level
        base = self.upper.get(key)
        if base is None:
            above = self._upper(index >> 9, level + 1)
            base = self._link(above + (index & 511))
            self.upper[key] = base
        return base

    def _link(self, entry: int) -> int:
        (frame,) = self.phys.alloc(1)
        self.phys.words[entry] = frame * PAGE | _LINK
        return frame * 512

    # -- leaf entries; ``page`` is a virtual page number, ranges may cross regions ---------------------------------------

    def get(self, page: int) -> int:
        """The entry of one page; 0 if there is none."""
        base = self.leaves.get(page >> 9)
        return 0 if base is None else self.phys.words[base + (page & 511)]

    def set(self, page: int, entry: int) -> None:
        """Store one entry."""
        self.phys.words[self.leaf(page >> 9) + (page & 511)] = entry

    def map_run(self, page: int, frame: int, count: int, bits: int) -> None:
        """Map ``count`` consecutive pages to consecutive frames with entry ``bits``."""
        words = self.phys.words
        while count:
            offset = page & 511
            n = min(count, 512 - offset)
            at = self.leaf(page >> 9) + offset
            first = frame * PAGE | bits
            words[at : at + n] = array("Q", range(first, first + n * PAGE, PAGE)) if n > 1 else array("Q", (first,))
            page, frame, count = page + n, frame + n, count - n

    def spans(self, page: int, count: int) -> list[tuple[int, int, int]]:
        """The existing leaf pieces of a range: (virtual page, word index, entries)."""
        out: list[tuple[int, int, int]] = []
        end = page + count
        first, last = page >> 9, (end - 1) >> 9
        if last - first > len(self.leaves):
            regions = sorted(r for r in self.leaves if first <= r <= last)
        else:
            regions = [r for r in range(first, last + 1) if r in self.leaves]
        for region in regions:
            low, high = max(page, region << 9), min(end, (region + 1) << 9)
            out.append((low, self.leaves[region] + (low & 511), high - low))
        return out

    def take(self, page: int, count: int) -> list[tuple[int, int]]:
        """Remove a range; returns (virtual page, old entry) of every entry that had a frame."""
        words = self.phys.words
        gone: list[tuple[int, int]] = []
        for low, at, n in self.spans(page, count):
            part = words[at : at + n]
            entries = part.tolist()
            if any(entries):
                gone += [(low + i, e) for i, e in enumerate(entries) if e]
                words[at : at + n] = _ZERO[:n]
        return gone

    def protect(self, page: int, count: int, bits: int) -> list[int]:
        """Give every populated page of a range the protection ``bits`` (0: held, not present).

        Returns the frames whose translations must be zapped because the page lost a right.
        """
        words = self.phys.words
        lost: list[int] = []
        for _low, at, n in self.spans(page, count):
            entries = words[at : at + n].tolist()
            if not any(entries):
                continue
            new = [0 if not e else (e & (ADDR | SHARED)) | (bits or HELD) for e in entries]
            for old, now in zip(entries, new, strict=True):
                if old & P and ((old & (P | W)) & ~now or (now & ~old) & NX):
                    lost.append((old & ADDR) // PAGE)
            words[at : at + n] = array("Q", new)
        return lost


def frames_of(entries: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Split removed entries into (frames this mapping owns, frames that belong to files)."""
    own = [(e & ADDR) // PAGE for _, e in entries if not e & SHARED]
    files = [(e & ADDR) // PAGE for _, e in entries if e & SHARED]
    return own, files


__all__ = ["Run", "Tables", "frames_of"]
