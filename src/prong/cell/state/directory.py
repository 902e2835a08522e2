"""A snapshot directory from the engine's side: seal what a cell wrote with a manifest, and check it before it is used.

``state.bin`` is hashed whole. ``memory`` is hashed in chunks, so that a part can be checked alone, and independently
of where the file system keeps its holes: a chunk's SHA-256 covers, for each longest run of pages that are not all zero,
the run's first page within the chunk and its length (two little-endian 32-bit numbers) and then its bytes. A chunk of
zeros has no checksum.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prong.cell.state import codec
from prong.cell.state.layout import MAX_GRAPH
from prong.cell.state.snapshot import data_runs
from prong.errors import Corrupt, NotFound
from prong.store.manifest import (
    CHUNK,
    MEMORY,
    PAGE,
    STATE,
    Cpu,
    MemoryPart,
    SnapshotManifest,
    StatePart,
    new_id,
    now,
)
from prong.version import __version__

MAX_STATE = MAX_GRAPH + (64 << 30)
"""Largest ``state.bin``, in bytes."""

_RUN = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Origin:
    """What the engine knows about a snapshot it has had written.

    Attributes:
        cpu: of this host. image: digest of the cell's image. runtime: digest of the runtime inside, or "".
        parent: the snapshot its sandbox came from. limits: the cell's, by name. note: free text.
        id: its own; a new one by default.
    """

    cpu: Cpu
    image: str
    runtime: str = ""
    parent: str | None = None
    limits: dict[str, int | float | None] | None = None
    note: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Receiver:
    """What an import needs to know of this host.

    Attributes:
        host: its processor. has_image: whether the image with this digest is here.
        take_image: called with the digest and a tar file when the bundle carries an image that is not here; it imports
            it (and raises if that is not the image it claims to be). None: images in bundles are passed over.
        max_memory: most bytes of pages that are written; max_image: most bytes of an image's tar.
    """

    host: Cpu
    has_image: Callable[[str], bool]
    take_image: Callable[[str, Path], None] | None = None
    max_memory: int = 8 << 30
    max_image: int = 8 << 30


def seal(folder: Path, origin: Origin, *, durable: bool = True) -> SnapshotManifest:
    """Hash the ``state.bin`` and ``memory`` that a cell has written into ``folder`` and write their manifest.

    The cell is not believed: lengths and checksums are taken from the files, and the state must at least begin well.

    Raises:
        Corrupt: a file is missing, is not a regular file, or is not what its name says.
    """
    with _Opened(folder, STATE) as state, _Opened(folder, MEMORY) as memory:
        size = os.fstat(memory.fd).st_size
        if size % PAGE:
            raise Corrupt(f"{folder / MEMORY} is not a whole number of pages", data={"part": "memory"})
        data = _read(state.fd, os.fstat(state.fd).st_size, folder / STATE)
        codec.check(data)
        sums, pages = memory_sums(memory.fd, size)
    manifest = SnapshotManifest(
        id=origin.id or new_id(),
        parent=origin.parent,
        created=now(),
        prong=__version__,
        cpu=origin.cpu,
        image=origin.image,
        runtime=origin.runtime,
        state=StatePart(size=len(data), sha256=hashlib.sha256(data).hexdigest()),
        memory=MemoryPart(size=size, pages=pages, sha256=sums),
        limits=origin.limits or {},
        note=origin.note,
    )
    manifest.write(folder, durable=durable)
    return manifest


def check(folder: Path, *, host: Cpu, has_image: Callable[[str], bool], whole_memory: bool = False) -> SnapshotManifest:
    """Check a snapshot before it is used here: manifest, state, length of the memory, processor and image.

    Args:
        folder: the snapshot directory.
        host: this host's processor.
        has_image: whether the image with this digest is here.
        whole_memory: also hash the memory (about a second for each GB in use); done when importing.

    Raises:
        NotFound: there is no snapshot, or its image is not here.
        HostUnfit: the processor lacks what the snapshot needs.
        Corrupt: a file is not what the manifest says; ``data["part"]`` names it.
    """
    manifest = SnapshotManifest.read(folder)
    require_host(manifest, host=host, has_image=has_image)
    read_state(folder, manifest)
    with _Opened(folder, MEMORY) as memory:
        size = os.fstat(memory.fd).st_size
        if size != manifest.memory.size:
            raise Corrupt(
                f"{folder / MEMORY} has {size} bytes, its manifest says {manifest.memory.size}", data={"part": "memory"}
            )
        if whole_memory:
            sums, pages = memory_sums(memory.fd, size)
            if pages != manifest.memory.pages or sums != manifest.memory.sha256:
                wrong = [i for i, (a, b) in enumerate(zip(sums, manifest.memory.sha256, strict=True)) if a != b]
                raise Corrupt(
                    f"{folder / MEMORY} does not have the checksums of its manifest",
                    data={"part": "memory", "chunks": list(wrong[:20])},
                )
    return manifest


def require_host(manifest: SnapshotManifest, *, host: Cpu, has_image: Callable[[str], bool]) -> None:
    """Raise HostUnfit or NotFound unless a snapshot with this manifest can run here."""
    manifest.cpu.require_on(host)
    if not has_image(manifest.image):
        raise NotFound(
            f"the snapshot needs image {manifest.image[:12]}, which is not here",
            hint="import or build that image first",
            data={"image": manifest.image},
        )


def read_state(folder: Path, manifest: SnapshotManifest) -> bytes:
    """The bytes of ``state.bin``, checked against the manifest; Corrupt if they are others."""
    with _Opened(folder, STATE) as state:
        data = _read(state.fd, manifest.state.size, folder / STATE)
    if hashlib.sha256(data).hexdigest() != manifest.state.sha256:
        raise Corrupt(f"{folder / STATE} does not have the checksum of its manifest", data={"part": "state"})
    codec.check(data)
    return data


def memory_sums(fd: int, size: int) -> tuple[tuple[str | None, ...], int]:
    """The checksum of each chunk of a memory file, and how many pages are not all zero."""
    sums: list[str | None] = []
    pages = 0
    for start in range(0, size, CHUNK):
        digest, runs = _chunk(fd, start, min(start + CHUNK, size))
        sums.append(digest)
        pages += sum(len(data) for _, data in runs) // PAGE
    return tuple(sums), pages


def memory_pieces(folder: Path, manifest: SnapshotManifest) -> Iterator[tuple[int, memoryview]]:
    """(first page, bytes) of each run of pages that are not all zero, in order, each chunk checked before it is given.

    Raises:
        Corrupt: the file is not what the manifest says.
    """
    with _Opened(folder, MEMORY) as memory:
        size = os.fstat(memory.fd).st_size
        if size != manifest.memory.size:
            raise Corrupt(f"{folder / MEMORY} has {size} bytes instead of {manifest.memory.size}", data={"part": MEMORY})
        for number, start in enumerate(range(0, size, CHUNK)):
            digest, runs = _chunk(memory.fd, start, min(start + CHUNK, size))
            if digest != manifest.memory.sha256[number]:
                raise Corrupt(f"chunk {number} of {folder / MEMORY} has another checksum", data={"part": MEMORY})
            yield from runs


def _chunk(fd: int, start: int, end: int) -> tuple[str | None, list[tuple[int, memoryview]]]:
    """The checksum of one chunk, and its runs of pages that are not all zero."""
    try:
        first = os.lseek(fd, start, os.SEEK_DATA) // PAGE * PAGE
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None, []  # no data from here to the end of the file
    if first >= end:
        return None, []
    data = memoryview(_pread_all(fd, end - first, first))
    total = hashlib.sha256()
    runs: list[tuple[int, memoryview]] = []
    for at, count in data_runs(data):
        piece = data[at * PAGE : (at + count) * PAGE]
        total.update(_RUN.pack((first - start) // PAGE + at, count))
        total.update(piece)
        runs.append((first // PAGE + at, piece))
    return (total.hexdigest() if runs else None), runs


@dataclass(slots=True)
class _Opened:
    """A regular file of a snapshot, open for reading; links are not followed."""

    folder: Path
    name: str
    fd: int = -1

    def __enter__(self) -> _Opened:
        path = self.folder / self.name
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
                raise
            raise Corrupt(f"{path} is missing or is a link", data={"part": self.name}) from None
        if not stat.S_ISREG(os.fstat(self.fd).st_mode):
            os.close(self.fd)
            raise Corrupt(f"{path} is not a regular file", data={"part": self.name})
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)


def _read(fd: int, size: int, path: Path) -> bytes:
    """All of a state file, which must have exactly ``size`` bytes."""
    actual = os.fstat(fd).st_size
    if actual != size or size > MAX_STATE:
        raise Corrupt(f"{path} has {actual} bytes instead of {size}, or too many", data={"part": "state"})
    return _pread_all(fd, size, 0)


def _pread_all(fd: int, size: int, offset: int) -> bytes:
    """``size`` bytes at ``offset``; Corrupt if the file ends before."""
    data = os.pread(fd, size, offset)
    if len(data) == size:
        return data
    pieces = [data]
    while data and sum(map(len, pieces)) < size:
        have = sum(map(len, pieces))
        data = os.pread(fd, size - have, offset + have)
        pieces.append(data)
    if sum(map(len, pieces)) != size:
        raise Corrupt("a file of a snapshot became shorter while it was read", data={"part": "memory"})
    return b"".join(pieces)
