"""The bytes of a written file: 64 KiB chunks over the image's bytes or over nothing, and frames once a page is shared."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.memory import PAGE
from prong.cell.core.saved import saved

if TYPE_CHECKING:
    from prong.cell.core.memory import FrameSource
    from prong.cell.fs.image import ImageSource

CHUNK = 1 << 16
MAX_SIZE = (1 << 63) - 1
ZEROS = bytes(CHUNK)
CHUNK_COST = 256
"""Bytes charged for having a chunk at all, so that a byte in each of a million chunks is not cheap."""
NAME_COST = 1024
"""Bytes charged for every name (inode, directory entry) the program makes."""


@saved("fs.quota")
class Quota:
    """How many bytes the program may make us hold, and how many it does. Names cost :data:`NAME_COST`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.names = 0

    def charge(self, size: int) -> None:
        """Count ``size`` more bytes; SysErr(ENOSPC) and no change if they do not fit."""
        if self.used + size > self.limit:
            raise SysErr(errno.ENOSPC)
        self.used += size

    def refund(self, size: int) -> None:
        """Count ``size`` bytes less."""
        self.used -= size


@saved("fs.content")
class Content:
    """A sparse file's bytes, ``size`` long.

    A chunk that is missing holds the image's bytes below ``base_size`` and zeros elsewhere; a chunk that is shorter than
    64 KiB goes on with zeros. A page in ``frames`` lives in that physical frame instead, so that programs which map the
    file and programs which read it see the same bytes.
    """

    __slots__ = ("base", "base_path", "base_size", "chunks", "frames", "quota", "size", "source")

    def __init__(self, quota: Quota, image: ImageSource | None = None, path: bytes = b"", size: int = 0) -> None:
        self.quota = quota
        self.base = image
        self.base_path = path
        self.base_size = size
        self.size = size
        self.chunks: dict[int, bytearray] = {}
        self.frames: dict[int, int] = {}
        self.source: FrameSource | None = None

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``; fewer at the end of the file."""
        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        index = offset // CHUNK
        if (end - 1) // CHUNK == index and not self.frames:
            chunk = self.chunks.get(index)
            if chunk is not None:
                at = offset - index * CHUNK
                part = bytes(chunk[at : at + end - offset])
                return part if len(part) == end - offset else part + bytes(end - offset - len(part))
        buffer = bytearray(end - offset)
        self.fill(offset, memoryview(buffer))
        return bytes(buffer)

    def fill(self, offset: int, view: memoryview) -> None:
        """Copy content from ``offset`` into ``view``, zeros past the end of the file."""
        end = min(offset + len(view), self.size)
        if end < offset + len(view):
            keep = max(0, end - offset)
            view[keep:] = bytes(len(view) - keep)
        at = offset
        while at < end:
            index, start = divmod(at, CHUNK)
            stop = min(end, (index + 1) * CHUNK)
            self._fill_chunk(index, start, view[at - offset : stop - offset])
            at = stop
        if self.frames:
            self._overlay_frames(offset, end, view)

    def _fill_chunk(self, index: int, start: int, part: memoryview) -> None:
        chunk = self.chunks.get(index)
        if chunk is not None:
            have = chunk[start : start + len(part)]
            part[: len(have)] = have
            part[len(have) :] = bytes(len(part) - len(have))
            return
        below = min(len(part), self.base_size - index * CHUNK - start)
        got = 0
        if below > 0 and self.base is not None:
            got = self.base.pread_into(self.base_path, part[:below], index * CHUNK + start)
        part[got:] = bytes(len(part) - got)

    def _overlay_frames(self, offset: int, end: int, view: memoryview) -> None:
        assert self.source is not None
        for page in range(offset // PAGE, (end + PAGE - 1) // PAGE):
            frame = self.frames.get(page)
            if frame is not None:
                start, stop = max(offset, page * PAGE), min(end, (page + 1) * PAGE)
                view[start - offset : stop - offset] = self.source.view(frame)[start - page * PAGE : stop - page * PAGE]

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, offset: int, data: bytes | memoryview) -> int:
        """Store ``data`` at ``offset``; returns the bytes stored, fewer if the quota ends. SysErr(ENOSPC) if none fit."""
        view = memoryview(data)
        end = offset + len(view)
        at = offset
        while at < end:
            index, start = divmod(at, CHUNK)
            stop = min(end, (index + 1) * CHUNK)
            try:
                chunk = self._own(index, start + stop - at)
            except SysErr:
                if at == offset:
                    raise
                break
            chunk[start : start + stop - at] = view[at - offset : stop - offset]
            if self.frames:
                self._write_frames(at, stop, view[at - offset : stop - offset])
            at = stop
        if at > self.size:
            self.size = at
        return at - offset

    def _growth(self, index: int, length: int) -> tuple[int, int]:
        """What it takes to own ``length`` bytes of a chunk: (its length then, bytes to charge)."""
        chunk = self.chunks.get(index)
        if chunk is None:
            length = max(length, min(CHUNK, self.base_size - index * CHUNK))
            return length, length + CHUNK_COST
        return max(length, len(chunk)), max(0, length - len(chunk))

    def _own(self, index: int, length: int) -> bytearray:
        """The chunk as ours to change, at least ``length`` bytes long; charges what it grows by."""
        length, cost = self._growth(index, length)
        self.quota.charge(cost)
        chunk = self.chunks.get(index)
        if chunk is None:
            chunk = bytearray(length)
            below = min(CHUNK, self.base_size - index * CHUNK)
            if below > 0 and self.base is not None:
                self.base.pread_into(self.base_path, memoryview(chunk)[:below], index * CHUNK)
            self.chunks[index] = chunk
        elif cost:
            chunk.extend(bytes(cost))
        return chunk

    def _write_frames(self, at: int, stop: int, data: memoryview) -> None:
        assert self.source is not None
        for page in range(at // PAGE, (stop + PAGE - 1) // PAGE):
            frame = self.frames.get(page)
            if frame is not None:
                lo, hi = max(at, page * PAGE), min(stop, (page + 1) * PAGE)
                self.source.view(frame)[lo - page * PAGE : hi - page * PAGE] = data[lo - at : hi - at]

    def truncate(self, size: int) -> None:
        """Make the file ``size`` bytes long; what is cut off is gone, what is added is a hole."""
        if size < self.size:
            self._zero(size, self.size, drop=True)
            self.base_size = min(self.base_size, size)
        self.size = size

    def punch(self, offset: int, length: int) -> None:
        """Turn a range into zeros, giving back whole chunks (fallocate(2) FALLOC_FL_PUNCH_HOLE)."""
        self._zero(offset, min(offset + length, self.size), drop=False)

    def allocate(self, offset: int, length: int) -> None:
        """Make sure a later write in the range cannot fail: owns every chunk. SysErr(ENOSPC), nothing kept half-way."""
        last = (offset + length - 1) // CHUNK
        missing = 0
        for index in range(offset // CHUNK, last + 1):
            missing += self._growth(index, min(CHUNK, offset + length - index * CHUNK))[1]
            if self.quota.used + missing > self.quota.limit:
                raise SysErr(errno.ENOSPC)
        for index in range(offset // CHUNK, last + 1):
            self._own(index, min(CHUNK, offset + length - index * CHUNK))

    def _zero(self, start: int, end: int, *, drop: bool) -> None:
        """Zero [start, end). ``drop``: the range reaches the end of the file, so chunks may simply be shortened."""
        for index in self._touched(start, end):
            lo, hi = max(start - index * CHUNK, 0), min(end - index * CHUNK, CHUNK)
            chunk = self.chunks.get(index)
            if chunk is None:
                if drop or index * CHUNK >= self.base_size:
                    continue  # the image's bytes end with base_size, or it is a hole already
                chunk = self._own(index, 0)
            if lo == 0 and (drop or (hi >= len(chunk) and index * CHUNK >= self.base_size)):
                self.quota.refund(len(chunk) + CHUNK_COST)
                del self.chunks[index]
            elif drop:
                self.quota.refund(max(0, len(chunk) - lo))
                del chunk[lo:]
            else:
                hi = min(hi, len(chunk))
                if hi > lo:
                    chunk[lo:hi] = bytes(hi - lo)
        for page in [p for p in self.frames if p * PAGE < end and (p + 1) * PAGE > start]:
            assert self.source is not None
            lo, hi = max(start - page * PAGE, 0), min(end - page * PAGE, PAGE)
            self.source.view(self.frames[page])[lo:hi] = bytes(hi - lo)

    def _touched(self, start: int, end: int) -> list[int]:
        """Chunk numbers in [start, end) that are ours or still the image's; not the holes, however many there are."""
        if end <= start:
            return []
        first, last = start // CHUNK, (end - 1) // CHUNK
        touched = {i for i in self.chunks if first <= i <= last}
        touched.update(range(first, min(last + 1, (self.base_size + CHUNK - 1) // CHUNK)))
        return sorted(touched)

    # -- holes, sharing, end ------------------------------------------------------------------------------------------

    def next_data(self, offset: int) -> int | None:
        """The first offset from ``offset`` on that may hold data, or None (lseek(2) SEEK_DATA)."""
        indexes = self._touched(offset, self.size)
        pages = [p * PAGE for p in self.frames if offset < (p + 1) * PAGE <= self.size + PAGE - 1]
        found = [max(offset, start) for start in (*(i * CHUNK for i in indexes[:1]), *pages)]
        return min(found) if found and min(found) < self.size else None

    def next_hole(self, offset: int) -> int:
        """The first offset from ``offset`` on that is in a hole; the end of the file counts as one (SEEK_HOLE)."""
        index = offset // CHUNK
        shared = {p * PAGE // CHUNK for p in self.frames}
        while index * CHUNK < self.size and (index in self.chunks or index * CHUNK < self.base_size or index in shared):
            index += 1
        return min(self.size, max(offset, index * CHUNK))

    def charged(self) -> int:
        """Bytes this content is charged for."""
        return sum(map(len, self.chunks.values())) + CHUNK_COST * len(self.chunks)

    def allocated(self) -> int:
        """Bytes really held, for st_blocks; the image's count as held."""
        chunks = self.chunks
        held = sum(map(len, chunks.values())) + PAGE * sum(1 for p in self.frames if p * PAGE // CHUNK not in chunks)
        if self.base_size:
            own = sum(1 for i in chunks if i * CHUNK < self.base_size)
            held += max(0, self.base_size - own * CHUNK)
        return held

    def share(self, frames: FrameSource, first: int, count: int) -> list[int]:
        """Frames that are the file's pages ``first…``; their bytes move there on first use. SysErr(ENOMEM)."""
        missing = [p for p in range(first, first + count) if p not in self.frames]
        if missing:
            fresh = frames.alloc(len(missing))
            for page, frame in zip(missing, fresh, strict=True):
                self.fill(page * PAGE, frames.view(frame))
            self.frames.update(zip(missing, fresh, strict=True))
            self.source = frames
        return [self.frames[p] for p in range(first, first + count)]

    def free(self) -> None:
        """The file is gone: give back quota and frames."""
        self.quota.refund(self.charged())
        self.chunks.clear()
        if self.frames and self.source is not None:
            self.source.free(list(self.frames.values()))
        self.frames.clear()
        self.base_size = self.size = 0
