"""Advisory locks: flock(2), and the record locks of fcntl(2) that belong to open files (F_OFD_SETLK).

Traditional record locks belong to a process, and a cell has one process, so they never conflict: only their arguments are
checked. Locks of open files can conflict between two opens of the same file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prong.cell.core.saved import saved
from prong.cell.core.waiting import WaitQueue

if TYPE_CHECKING:
    from prong.cell.core.file import File

F_RDLCK, F_WRLCK, F_UNLCK = 0, 1, 2
MAX_RANGES = 128


@saved("fs.lock")
class Range:
    """A locked byte range [start, end) of one open file."""

    __slots__ = ("end", "kind", "owner", "start")

    def __init__(self, owner: File, kind: int, start: int, end: int) -> None:
        self.owner = owner
        self.kind = kind
        self.start = start
        self.end = end


@saved("fs.locks")
class FileLocks:
    """All locks on one node."""

    def __init__(self) -> None:
        self.whole: dict[File, int] = {}
        """flock(2): open file → F_RDLCK or F_WRLCK."""
        self.ranges: list[Range] = []
        self.waitq = WaitQueue()

    def flock(self, owner: File, kind: int) -> bool:
        """Take, change or drop (F_UNLCK) a whole-file lock; False if another open file is in the way.

        A change that cannot be made at once loses the lock held before, as flock(2) warns.
        """
        if self.whole.pop(owner, None) is not None:
            self.waitq.wake()
        if kind == F_UNLCK:
            return True
        if any(kind == F_WRLCK or held == F_WRLCK for held in self.whole.values()):
            return False
        self.whole[owner] = kind
        return True

    def conflict(self, owner: File, kind: int, start: int, end: int) -> Range | None:
        """The first range of another open file that stands in the way."""
        for r in self.ranges:
            if r.owner is not owner and r.start < end and start < r.end and F_WRLCK in (kind, r.kind):
                return r
        return None

    def set_range(self, owner: File, kind: int, start: int, end: int) -> bool:
        """Replace what ``owner`` holds in [start, end); False if there would be more than 128 ranges."""
        kept: list[Range] = []
        for r in self.ranges:
            if r.owner is not owner or r.end <= start or end <= r.start:
                kept.append(r)
                continue
            if r.start < start:
                kept.append(Range(owner, r.kind, r.start, start))
            if end < r.end:
                kept.append(Range(owner, r.kind, end, r.end))
        if kind != F_UNLCK:
            kept.append(Range(owner, kind, start, end))
        if len(kept) > MAX_RANGES:
            return False
        self.ranges = kept
        self.waitq.wake()
        return True

    def drop(self, owner: File) -> None:
        """The open file is gone and its locks with it."""
        self.whole.pop(owner, None)
        self.ranges = [r for r in self.ranges if r.owner is not owner]
        self.waitq.wake()
