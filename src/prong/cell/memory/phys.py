"""Guest physical memory: the host mapping behind the VM's memory slot, and its frame allocator."""

from __future__ import annotations

import bisect
import ctypes
import errno
import mmap
import os
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

from prong.cell.core.errors import SysErr
from prong.cell.core.saved import saved
from prong.cell.memory.layout import FIRST_FREE, PAGE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

_RW = mmap.PROT_READ | mmap.PROT_WRITE
_MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE = 0x02, 0x10, 0x20, 0x4000
_MADV_DONTNEED, _MADV_POPULATE_READ, _MADV_POPULATE_WRITE = 4, 22, 23

Run = tuple[int, int]
"""(first frame, count)."""


class MemoryEnv(Protocol):
    """What loading a memory needs: the memory file's descriptor, and how many frames it holds (both from the engine)."""

    @property
    def memory_fd(self) -> int:
        """Descriptor of the memory file, open for reading."""
        ...

    @property
    def memory_frames(self) -> int:
        """Length of the memory file in frames."""
        ...


KEEP_FRAMES = 4096


class OutOfFrames(SysErr):
    """The cell's memory limit is reached."""

    def __init__(self) -> None:
        super().__init__(errno.ENOMEM)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


MAX_HOLES = 20_000
"""Freed runs of a template's file that may each cost the host a mapping; Linux gives a process 65530 of them."""


@saved("physical", skip=("bytes", "words", "address", "mapped", "grow", "kept", "_map", "_anchor", "_holes"))
class Physical:
    """``frames`` frames of guest memory; free frames are always zero.

    Attributes:
        bytes: the whole memory as a flat byte view. words: the same as 64-bit words.
        address: host virtual address of frame 0.
        file_frames: frames below this number are backed by a template's memory file (privately); the rest is anonymous.
        used: frames handed out; peak: the most ever. cap: hand out no frames as if there were only so many; 0 for no cap.
        hot: a stretch of frames a first run touches: start, how many are written, how many in all (see ``hotset``).
        kept: free frames (at most about KEEP_FRAMES) that still have their host pages, zeroed: a program that frees and
            takes memory again does not wait for the host to find new pages. :meth:`trim` gives them up.
        mapped, grow: frames below ``mapped`` are the VM's already; ``grow(top)`` makes it so for all below ``top``.
    """

    cap = 0
    hot: tuple[int, int, int] = (0, 0, 0)

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.cap = 0
        self.file_frames = 0
        self.used = 0
        self.peak = 0
        self.hot: tuple[int, int, int] = (0, 0, 0)
        self.starts: list[int] = [FIRST_FREE]
        self.lengths: dict[int, int] = {FIRST_FREE: frames - FIRST_FREE}
        self.attach(None, 0)

    def after_load(self, env: MemoryEnv) -> None:
        """Map the snapshot's memory file, privately."""
        self.attach(env.memory_fd, env.memory_frames)

    def attach(self, fd: int | None, file_frames: int) -> None:
        """Create the host mapping: frames below ``file_frames`` copy-on-write from ``fd``, the rest fresh zero memory."""
        size = self.frames * PAGE
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE, prot=_RW)
        self._anchor = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(self._anchor)
        self.file_frames = file_frames
        self._holes = 0
        self.kept = 0
        self.mapped = self.frames
        self.grow: Callable[[int], None] | None = None
        if fd is not None and file_frames:
            self._overlay(0, file_frames * PAGE, fd)
        self.bytes = memoryview(self._map)
        self.words = self.bytes.cast("Q")

    def _overlay(self, offset: int, size: int, fd: int) -> None:
        flags = _MAP_PRIVATE | _MAP_FIXED | _MAP_NORESERVE | (_MAP_ANONYMOUS if fd < 0 else 0)
        got = _libc.mmap(self.address + offset, size, _RW, flags, fd, 0)
        if got != self.address + offset:
            number = ctypes.get_errno()
            raise OSError(number, f"mmap of guest memory: {os.strerror(number)}")

    def close(self) -> None:
        """Drop the mapping; the object is useless afterwards."""
        self.words.release()
        self.bytes.release()
        del self._anchor
        self._map.close()

    @property
    def size(self) -> int:
        """Bytes of guest physical memory."""
        return self.frames * PAGE

    @property
    def top(self) -> int:
        """One more than the highest frame in use."""
        last = self.starts[-1] if self.starts else self.frames
        return last if self.starts and last + self.lengths[last] == self.frames else self.frames

    @property
    def free_frames(self) -> int:
        """Frames that may still be handed out."""
        return max(min(self.cap or self.frames, self.frames) - FIRST_FREE - self.used, 0)

    # -- allocation -------------------------------------------------------------------------------------------------

    def alloc_runs(self, count: int) -> list[Run]:
        """``count`` zero frames as few contiguous runs as first-fit gives; raises OutOfFrames, taking nothing."""
        if count > self.free_frames:
            raise OutOfFrames
        runs: list[Run] = []
        left = count
        whole = next((s for s in self.starts if self.lengths[s] >= count), None)
        while left:
            start = whole if whole is not None else self.starts[0]
            take = min(left, self.lengths[start])
            self._take(start, take)
            runs.append((start, take))
            left -= take
        self.used += count
        self.kept = max(self.kept - count, 0)
        self.peak = max(self.peak, self.used)
        for start, taken in runs:
            if start + taken > self.mapped and self.grow is not None:
                self.grow(start + taken)
        return runs

    def _take(self, start: int, count: int) -> None:
        length = self.lengths.pop(start)
        at = bisect.bisect_left(self.starts, start)
        if length == count:
            del self.starts[at]
        else:
            self.starts[at] = start + count
            self.lengths[start + count] = length - count

    def alloc(self, count: int) -> list[int]:
        """``count`` zero frames, in order of allocation; raises OutOfFrames."""
        return [f for start, n in self.alloc_runs(count) for f in range(start, start + n)]

    def free(self, frames: list[int]) -> None:
        """Scrub and give back; every translation to them is gone when this returns."""
        for start, count in runs_of(frames):
            self.free_run(start, count)

    def free_run(self, start: int, count: int) -> None:
        """Scrub and give back one contiguous run."""
        if count <= KEEP_FRAMES - self.kept and start >= self.file_frames:
            ctypes.memset(self.address + start * PAGE, 0, count * PAGE)
            self.zap(start, count)
            self.kept += count
        else:
            self.scrub(start, count)
        self.used -= count
        at = bisect.bisect_left(self.starts, start)
        if at < len(self.starts) and start + count == self.starts[at]:
            count += self.lengths.pop(self.starts[at])
            del self.starts[at]
        if at > 0 and self.starts[at - 1] + self.lengths[self.starts[at - 1]] == start:
            self.lengths[self.starts[at - 1]] += count
            return
        self.starts.insert(at, start)
        self.lengths[start] = count

    # -- host memory ------------------------------------------------------------------------------------------------

    def view(self, frame: int, count: int = 1) -> memoryview:
        """A writable view of consecutive frames."""
        return self.bytes[frame * PAGE : (frame + count) * PAGE]

    def scrub(self, start: int, count: int) -> None:
        """Make frames zero and drop their host pages and translations."""
        if start >= self.file_frames:
            _check(_libc.madvise(self.address + start * PAGE, count * PAGE, _MADV_DONTNEED), "madvise")
        elif self._holes < MAX_HOLES:
            self._holes += 1
            self._overlay(start * PAGE, count * PAGE, -1)
        else:
            ctypes.memset(self.address + start * PAGE, 0, count * PAGE)
            self.zap(start, count)

    def trim(self) -> None:
        """Give the host back what freed frames still hold."""
        if self.kept:
            for start in self.starts:
                self.scrub(max(start, self.file_frames), max(start + self.lengths[start] - max(start, self.file_frames), 0))
            self.kept = 0

    def zap(self, start: int, count: int) -> None:
        """Drop every guest translation to these frames, keeping their content."""
        at, size = self.address + start * PAGE, count * PAGE
        _check(_libc.mprotect(at, size, mmap.PROT_READ), "mprotect")
        _check(_libc.mprotect(at, size, _RW), "mprotect")

    def prefault(self, start: int, count: int, *, write: bool) -> None:
        """Have the host make these pages present now (Linux 5.14 and newer; older kernels fault lazily instead)."""
        advice = _MADV_POPULATE_WRITE if write else _MADV_POPULATE_READ
        _libc.madvise(self.address + start * PAGE, count * PAGE, advice)

    def used_runs(self) -> list[Run]:
        """The runs of frames in use, the machine's own included, in order; what a snapshot has to keep."""
        runs: list[Run] = []
        at = 0
        for start in self.starts:
            if start > at:
                runs.append((at, start - at))
            at = start + self.lengths[start]
        if at < self.frames:
            runs.append((at, self.frames - at))
        return runs


def runs_of(frames: list[int]) -> list[Run]:
    """Group frame numbers into contiguous runs, sorted."""
    if not frames:
        return []
    ordered = sorted(frames)
    breaks = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(ordered)) if b != a + 1), len(ordered)]
    return [(ordered[a], b - a) for a, b in pairwise(breaks)]
