"""The address space: mmap(2) and its family, and page faults."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from prong.cell.core.errors import SysErr
from prong.cell.core.file import File
from prong.cell.core.saved import saved
from prong.cell.memory.layout import ADDR, HELD, HUGE, MIN_ADDRESS, NX, PAGE, SHARED, TASK_SIZE, USER_RO, P, W, pages
from prong.cell.memory.phys import OutOfFrames, Physical, runs_of
from prong.cell.memory.tables import Tables, frames_of
from prong.cell.memory.vma import MAX_MAPPINGS, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE, Vma, VmaList

SIGSEGV, SIGBUS = 11, 7
SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR = 1, 2, 2
EAGER_PAGES = 64
"""Anonymous mappings up to this many pages are populated at once: fewer exits."""
FILE_STEP = 32
MAX_STEP = 1024


def entry_bits(prot: int) -> int:
    """Page-table bits for a protection; 0 (not present) for PROT_NONE. Write and execute imply read, as on x86."""
    if prot == PROT_NONE:
        return 0
    return USER_RO | (W if prot & PROT_WRITE else 0) | (0 if prot & PROT_EXEC else NX)


class BadAccess(Exception):
    """A page fault that is the program's error: the signal to send, its si_code and address."""

    def __init__(self, signal: int, code: int, address: int) -> None:
        super().__init__(f"signal {signal} at {address:#x}")
        self.signal = signal
        self.code = code
        self.address = address


@saved("space")
class Space:
    """All mappings of the program over :class:`Tables` and :class:`Physical`.

    ``brk_start``/``brk_end`` bound the heap. ``vvar_frame`` is the frame of the vDSO's data page, if there is one.
    ``as_limit`` is RLIMIT_AS in bytes. Methods raise SysErr with mmap(2)'s errnos. Addresses and sizes are bytes.
    """

    vvar_frame: int | None = None

    def __init__(self, phys: Physical) -> None:
        self.phys = phys
        self.tables = Tables(phys)
        self.vmas = VmaList()
        self.brk_start = 0
        self.brk_end = 0
        self.as_limit: int | None = None

    # -- making and removing mappings -----------------------------------------------------------------------------------

    def map(
        self,
        size: int,
        prot: int,
        *,
        at: int | None = None,
        hint: int = 0,
        file: File | None = None,
        offset: int = 0,
        shared: bool = False,
        reserve: bool = True,
        low: int | None = None,
        name: str = "",
    ) -> int:
        """Map ``size`` bytes; returns the address.

        Args:
            at: exact address (MAP_FIXED), replacing what is there. hint: preferred address.
            reserve: count writable memory against what the cell could ever have (off with MAP_NORESERVE).
            low: exclusive upper bound of the address (MAP_32BIT).
        """
        size = pages(size) * PAGE
        if size == 0:
            raise SysErr(errno.EINVAL)
        if size > TASK_SIZE:
            raise SysErr(errno.ENOMEM)
        start = self._place(size, at, hint, low)
        self._charge(size, prot, shared, reserve)
        if at is not None:
            self.unmap(start, size)
        elif len(self.vmas.items) > MAX_MAPPINGS:
            raise SysErr(errno.ENOMEM)
        vma = Vma(start, start + size, prot, file=file, offset=offset, shared=shared, name=name)
        self.vmas.insert(vma)
        count = size // PAGE
        if file is None and prot & PROT_WRITE and count <= EAGER_PAGES and self.phys.free_frames > 8 * count:
            self._map_fresh(start // PAGE, count, entry_bits(prot))
        return start

    def _place(self, size: int, at: int | None, hint: int, low: int | None) -> int:
        if at is not None:
            if at % PAGE or at < MIN_ADDRESS or at + size > TASK_SIZE:
                raise SysErr(errno.EINVAL if at % PAGE else errno.EPERM if at < MIN_ADDRESS else errno.ENOMEM)
            return at
        hint -= hint % PAGE
        if hint and self.vmas.free(hint, hint + size) and (low is None or hint + size <= low):
            return hint
        start = self.vmas.gap(size) if low is None else self.vmas.gap(size, high=low)
        if start is None:
            raise SysErr(errno.ENOMEM)
        return start

    def _charge(self, size: int, prot: int, shared: bool, reserve: bool) -> None:
        """Refuse what could never be had: more writable memory at once than the cell's limit (overcommit heuristic)."""
        if self.as_limit is not None and self.vmas.total + size > self.as_limit:
            raise SysErr(errno.ENOMEM)
        if reserve and not shared and prot & PROT_WRITE and size > self.phys.size:
            raise SysErr(errno.ENOMEM)

    def unmap(self, start: int, size: int) -> None:
        """munmap(2): remove every mapping in the range; the frames are scrubbed and freed."""
        end = start + pages(size) * PAGE
        inside = self.vmas.isolate(start, end)
        if not inside:
            return
        self.vmas.remove_all(inside)
        self._drop(start, end)

    def _drop(self, start: int, end: int) -> None:
        """Free the frames of a range and make every translation to it vanish."""
        own, files = frames_of(self.tables.take(start // PAGE, (end - start) // PAGE))
        for first, count in runs_of(own):
            self.phys.free_run(first, count)
        for first, count in runs_of(files):
            self.phys.zap(first, count)

    def protect(self, start: int, size: int, prot: int) -> None:
        """mprotect(2): ENOMEM if part of the range is not mapped; EACCES for writing to a read-only shared file."""
        end = start + pages(size) * PAGE
        if end == start:
            return
        at = start
        for vma in self.vmas.isolate(start, end):
            if vma.start > at:
                break
            at = vma.end
            if prot & PROT_WRITE and vma.shared and vma.file is not None and not vma.file.writable:
                raise SysErr(errno.EACCES)
            if vma.prot == prot:
                continue
            vma.prot = prot
            bits = entry_bits(prot)
            lost = self.tables.protect(vma.start // PAGE, (vma.end - vma.start) // PAGE, bits)
            for first, count in runs_of(lost):
                self.phys.zap(first, count)
        self.vmas.rejoin(start, end)
        if at < end:  # what comes before a hole is changed nevertheless, as Linux does
            raise SysErr(errno.ENOMEM)

    def remap(self, old: int, old_size: int, new_size: int, *, may_move: bool, to: int | None = None) -> int:
        """mremap(2): grow, shrink or move; contents and frames move along."""
        old_size, new_size = pages(old_size) * PAGE, pages(new_size) * PAGE
        if to is not None and to < old + old_size and old < to + new_size:
            raise SysErr(errno.EINVAL)
        vma = self.vmas.find(old)
        if vma is None:
            raise SysErr(errno.EFAULT)
        if to is None and new_size <= old_size:
            if new_size < old_size:
                self.unmap(old + new_size, old_size - new_size)
            return old
        if not old_size and not vma.shared:
            raise SysErr(errno.EINVAL)
        if old + min(old_size, new_size) > vma.end:
            raise SysErr(errno.EFAULT)
        grow = new_size - old_size
        self._charge(max(grow, 0), vma.prot, vma.shared, True)
        if to is None and old + old_size == vma.end and self.vmas.free(vma.end, vma.end + grow):
            extra = vma.clone(vma.start, vma.end)
            extra.offset = vma.offset + (vma.end - vma.start) if vma.file is not None else 0
            extra.start, extra.end = vma.end, vma.end + grow
            self.vmas.insert(extra)
            return old
        if not may_move:
            raise SysErr(errno.ENOMEM)
        return self._move(vma, old, old_size, new_size, to)

    def _move(self, vma: Vma, old: int, old_size: int, new_size: int, to: int | None) -> int:
        start = self._place(new_size, to, 0, None)
        if to is not None:
            self.unmap(to, new_size)
        kept = min(old_size, new_size)
        moved = vma.clone(old, old + old_size) if old_size else vma.clone(old, vma.end)
        moved.start, moved.end = start, start + new_size
        self.vmas.insert(moved)
        if not old_size:
            return start
        gone = self.tables.take(old // PAGE, kept // PAGE)
        for page, entry in gone:
            self.tables.set(page - old // PAGE + start // PAGE, entry)
        for first, count in runs_of([(e & ADDR) // PAGE for _, e in gone]):
            self.phys.zap(first, count)
        self.unmap(old, old_size)
        return start

    def discard(self, start: int, size: int) -> None:
        """madvise(MADV_DONTNEED): private pages read as zero (or the file) again; ENOMEM over holes."""
        end = start + pages(size) * PAGE
        if not self.vmas.covers(start, end):
            raise SysErr(errno.ENOMEM)
        for vma in self.vmas.overlapping(start, end):
            vma.step = 16
            if vma.file is not None or not vma.shared:  # shared anonymous memory is a file in disguise: it keeps its content
                self._drop(max(start, vma.start), min(end, vma.end))

    def set_brk(self, end: int) -> int:
        """brk(2): move the end of the heap; returns the (possibly unchanged) end."""
        if end < self.brk_start or end > self.brk_start + (1 << 40):
            return self.brk_end
        old, new = pages(self.brk_end) * PAGE, pages(end) * PAGE
        try:
            if new > old:
                if not self.vmas.free(old, new):
                    return self.brk_end
                self.map(new - old, PROT_READ | PROT_WRITE, at=old, name="[heap]")
            elif new < old:
                self.unmap(new, old - new)
        except SysErr:
            return self.brk_end
        self.brk_end = end
        return end

    # -- populating -------------------------------------------------------------------------------------------------------

    def fault(self, address: int, *, write: bool, execute: bool = False) -> None:
        """Resolve a page fault at ``address``; raises BadAccess if it is the program's error, OutOfFrames at the limit."""
        vma = self.vmas.find(address)
        if vma is None:
            raise BadAccess(SIGSEGV, SEGV_MAPERR, address)
        need = PROT_WRITE if write else PROT_EXEC if execute else PROT_READ | PROT_WRITE | PROT_EXEC
        if not vma.prot & need:
            raise BadAccess(SIGSEGV, SEGV_ACCERR, address)
        page = address // PAGE
        entry = self.tables.get(page)
        if entry & (P | HELD):
            self._refresh(vma, page, entry)
        elif vma.file is None:
            self._populate_anonymous(vma, page)
        else:
            self._populate_file(vma, page)

    def _refresh(self, vma: Vma, page: int, entry: int) -> None:
        """The entry has its frame: make its rights what the mapping says (a stale translation, or held content)."""
        self.tables.set(page, entry & (ADDR | SHARED) | entry_bits(vma.prot))
        self.phys.zap((entry & ADDR) // PAGE, 1)

    def _window(self, vma: Vma, page: int, step: int) -> tuple[int, int]:
        """An aligned window of ``step`` pages around ``page`` inside the mapping, cut to unpopulated neighbours."""
        low = max(page - page % step, vma.start // PAGE)
        high = min(page - page % step + step, vma.end // PAGE)
        first = page
        while first > low and not self.tables.get(first - 1):
            first -= 1
        last = page + 1
        while last < high and not self.tables.get(last):
            last += 1
        return first, last - first

    def _populate_anonymous(self, vma: Vma, page: int) -> None:
        step = vma.step
        vma.step = min(step * 2, MAX_STEP)
        first, count = self._window(vma, page, step)
        if count > self.phys.free_frames // 4:
            first, count = page, 1
        self._map_fresh(first, count, entry_bits(vma.prot))

    def _map_fresh(self, page: int, count: int, bits: int) -> None:
        for frame, n in self.phys.alloc_runs(count):
            self.tables.map_run(page, frame, n, bits)
            page += n

    def _populate_file(self, vma: Vma, page: int) -> None:
        file = vma.file
        assert file is not None
        size = file.map_size()
        if self._file_offset(vma, page) >= pages(size) * PAGE:
            raise BadAccess(SIGBUS, BUS_ADRERR, page * PAGE)
        first, count = self._window(vma, page, FILE_STEP)
        in_file = pages(size) - self._file_offset(vma, first) // PAGE
        count = min(count, in_file)
        if count > self.phys.free_frames // 4:
            first, count = page, 1
        bits = entry_bits(vma.prot)
        if vma.shared and file.writable:
            frames = file.shared_frames(self.phys, self._file_offset(vma, first) // PAGE, count)
            for i, frame in enumerate(frames):
                self.tables.set(first + i, frame * PAGE | bits | SHARED)
            return
        for frame, n in self.phys.alloc_runs(count):
            file.fill(self._file_offset(vma, first), self.phys.view(frame, n))
            self.tables.map_run(first, frame, n, bits)
            first += n

    @staticmethod
    def _file_offset(vma: Vma, page: int) -> int:
        return vma.offset + (page * PAGE - vma.start)

    # -- telling ----------------------------------------------------------------------------------------------------------

    def resident(self) -> int:
        """Bytes of frames in use, page tables included."""
        return self.phys.used * PAGE

    def describe(self, address: int) -> str:
        """A mapping in words, for crash reports: ``libc.so.6+0x1234`` or ``no mapping``."""
        vma = self.vmas.find(address)
        if vma is None:
            return "no mapping"
        if vma.file is None:
            return f"{vma.name or 'anonymous memory'}+{address - vma.start:#x}"
        return f"{vma.file.link_text().rsplit('/', 1)[-1]}+{self._file_offset(vma, address // PAGE) + address % PAGE:#x}"

    def regions(self) -> Iterator[tuple[int, int, str, int, str, int, str]]:
        """For /proc/self/maps: (start, end, ``rwxp`` text, offset, device, inode, name) in address order."""
        for vma in self.vmas:
            text = "".join(c if vma.prot & bit else "-" for c, bit in (("r", 1), ("w", 2), ("x", 4)))
            text += "s" if vma.shared else "p"
            if vma.file is None:
                yield vma.start, vma.end, text, 0, "00:00", 0, vma.name
            else:
                yield vma.start, vma.end, text, vma.offset, "00:01", vma.file.stat().ino, vma.file.link_text()


__all__ = ["HUGE", "BadAccess", "OutOfFrames", "Space", "entry_bits"]
