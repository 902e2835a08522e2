"""The inside of a bundle: a zstd stream of parts, each of known kind, cut into frames and closed by its SHA-256.

file   = MAGIC, version (u32), one zstd frame, bytes so far (u64), TRAILER
zstd   = part…, end
part   = kind (u8), (length (u32 > 0), bytes)…, length 0, SHA-256 of the part's bytes
end    = kind END (u8), SHA-256 of everything before it

All numbers are little-endian. Lengths are checked before anything is allocated; readers say how much of a part they
are ready to take.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import IO, NoReturn

import zstandard

from prong.errors import Corrupt

MAGIC = b"\x89prong\r\n"
"""Eight bytes that a transfer as text would damage."""
TRAILER = b"prongend"
VERSION = 1
PARTS = {1: "manifest", 2: "image", 3: "state", 4: "memory"}
"""Kind of part → its name; parts come in this order, and only ``image`` may be left out."""
KINDS = {name: kind for kind, name in PARTS.items()}
END = 255

FRAME = 1 << 20
"""Most bytes in one frame."""
_U32 = struct.Struct("<I")
_TAIL = struct.Struct("<Q8s")
_WINDOW = 1 << 27
"""Largest zstd window accepted, in bytes: what a hostile file can make the reader allocate."""
_DIGEST = 32


def damaged(part: str, what: str) -> NoReturn:
    """Raise Corrupt for a part of a bundle."""
    raise Corrupt(f"the bundle is damaged: {part}: {what}", data={"part": part})


class PartWriter:
    """Writes parts to ``out`` (bytes); use as a context manager. ``level`` is zstd's."""

    def __init__(self, out: IO[bytes], *, level: int = 3) -> None:
        self._total = hashlib.sha256()
        self._out = _Counted(out)
        self._out.write(MAGIC + _U32.pack(VERSION))
        squeezer = zstandard.ZstdCompressor(level=level, write_checksum=True)
        self._zstd = squeezer.stream_writer(self._out, closefd=False)  # type: ignore[arg-type]

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None:
            return
        self._put(bytes([END]))
        self._zstd.write(self._total.digest())
        self._zstd.close()  # type: ignore[no-untyped-call]
        self._out.write(_TAIL.pack(self._out.count, TRAILER))

    def part(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Write one part."""
        own = hashlib.sha256()
        self._put(bytes([KINDS[name]]))
        for piece in pieces:
            view = memoryview(piece)
            for at in range(0, len(view), FRAME):
                frame = view[at : at + FRAME]
                self._put(_U32.pack(len(frame)))
                self._put(frame)
                own.update(frame)
        self._put(_U32.pack(0))
        self._put(own.digest())

    def _put(self, data: bytes | memoryview) -> None:
        self._total.update(data)
        self._zstd.write(data)


class PartReader:
    """Reads parts from ``source``; every method raises Corrupt, naming the part, when the file is not a bundle."""

    def __init__(self, source: IO[bytes]) -> None:
        head = source.read(len(MAGIC) + _U32.size)
        if len(head) != len(MAGIC) + _U32.size or head[: len(MAGIC)] != MAGIC:
            damaged("header", "this is not a file made by prong export")
        (version,) = _U32.unpack_from(head, len(MAGIC))
        if version != VERSION:
            raise Corrupt(
                f"the bundle has format {version}; this version of prong reads format {VERSION}",
                hint="use the version of prong that made it",
                data={"part": "header"},
            )
        self._source = _WithoutTail(source, len(head))
        self._zstd = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(
            self._source,  # type: ignore[arg-type]
            read_across_frames=False,
            closefd=False,
        )
        self._total = hashlib.sha256()
        self._last = 0
        self.name = "header"

    def next(self) -> str | None:
        """The name of the next part; None after the last, when the whole file has been checked."""
        (kind,) = self._take(1, count=False)
        if kind == END:
            self.name = "end"
            self._finish()
            return None
        if kind not in PARTS or kind <= self._last:
            damaged(self.name, f"followed by a part of unknown kind {kind}, or out of order")
        self._total.update(bytes([kind]))
        self._last = kind
        self.name = PARTS[kind]
        return self.name

    def frames(self, limit: int) -> Iterator[bytes]:
        """The bytes of the current part, at most ``limit`` in all; its checksum is checked at the end."""
        own = hashlib.sha256()
        left = limit
        while size := _U32.unpack(self._take(_U32.size))[0]:
            if size > FRAME or size > left:
                damaged(self.name, f"longer than the {limit} bytes it may have")
            left -= size
            frame = self._take(size)
            own.update(frame)
            yield frame
        if self._take(_DIGEST) != own.digest():
            damaged(self.name, "its checksum does not fit")

    def read(self, limit: int) -> bytes:
        """The current part as a whole, at most ``limit`` bytes."""
        return b"".join(self.frames(limit))

    def _take(self, size: int, *, count: bool = True) -> bytes:
        """Exactly ``size`` bytes of the decompressed stream."""
        pieces: list[bytes] = []
        need = size
        while need:
            try:
                piece = self._zstd.read(need)
            except zstandard.ZstdError as error:
                damaged(self.name, f"its compression is broken ({error})")
            if not piece:
                damaged(self.name, "the file ends too early")
            pieces.append(piece)
            need -= len(piece)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if count:
            self._total.update(data)
        return data

    def _finish(self) -> None:
        self._total.update(bytes([END]))
        expected = self._total.digest()
        if self._take(_DIGEST, count=False) != expected:
            damaged("end", "the checksum of the whole does not fit")
        try:
            more = self._zstd.read(1)
        except zstandard.ZstdError as error:
            damaged("end", f"its compression is broken ({error})")
        if more:
            damaged("end", "there is more after it")
        self._source.finish()


class _Counted:
    """The output, and how many bytes it has had."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.count = 0

    def write(self, data: bytes | memoryview) -> int:
        self._out.write(data)
        self.count += len(data)
        return len(data)


class _WithoutTail:
    """The input without its last 16 bytes, which say how long the rest is.

    Without them a file that lost only the end of its zstd frame, or has something behind it, would look whole.
    """

    def __init__(self, source: IO[bytes], already: int) -> None:
        self._source = source
        self._count = already
        self._held = b""

    def read(self, size: int) -> bytes:
        while len(self._held) <= _TAIL.size:
            more = self._source.read(max(size, 1))
            if not more:
                return b""
            self._held += more
        take = min(size, len(self._held) - _TAIL.size)
        data, self._held = self._held[:take], self._held[take:]
        self._count += take
        return data

    def finish(self) -> None:
        """Check what was held back, once all else is read; the decompressor may have left some."""
        while self.read(FRAME):
            pass
        if len(self._held) != _TAIL.size or _TAIL.unpack(self._held) != (self._count, TRAILER):
            damaged("end", "the file is cut short, or there is more after it")
