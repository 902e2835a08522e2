"""A snapshot as one portable file: ``export_bundle`` and ``import_bundle``.

A bundle holds the manifest, the state and the memory's pages, and on request the image as a tar archive, so that a host
without that image can take the sandbox up. Parts have fixed names, never paths. An import writes into a temporary
directory and checks everything - each part, the whole, and the finished directory against its manifest - before the
snapshot becomes visible.

The memory part is a sequence of runs: first page and number of pages (two little-endian u32), then their bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from prong.cell.state.directory import MAX_STATE, Receiver, check, memory_pieces, read_state, require_host
from prong.cell.state.parts import FRAME, PartReader, PartWriter, damaged
from prong.errors import LimitExceeded
from prong.store.atomic import write_all
from prong.store.manifest import MAX_MANIFEST, MEMORY, PAGE, STATE, SnapshotManifest
from prong.store.snapshots import Snapshot, SnapshotStore

_RUN = struct.Struct("<II")


def export_bundle(snapshot: Snapshot, out: IO[bytes], *, image: Path | None = None, level: int = 3) -> None:
    """Write ``snapshot`` to ``out``, whole; with ``image``, a tar of its image, that too.

    Raises:
        Corrupt: the snapshot's files do not fit its manifest. What was written is then no valid bundle.
        OSError: from ``out``.
    """
    manifest = snapshot.manifest
    with PartWriter(out, level=level) as writer:
        writer.part("manifest", [manifest.dump()])
        if image is not None:
            with open(image, "rb") as tar:
                writer.part("image", iter(lambda: tar.read(FRAME), b""))
        writer.part("state", [read_state(snapshot.path, manifest)])
        writer.part("memory", _runs(snapshot))


def import_bundle(source: IO[bytes], store: SnapshotStore, receiver: Receiver) -> Snapshot:
    """Read a bundle into ``store`` and return the snapshot; importing one that is there already changes nothing.

    Raises:
        Corrupt: the file is damaged, cut short, or not a bundle; ``data["part"]`` names the part.
        HostUnfit: this host's processor lacks what the snapshot needs.
        NotFound: the snapshot's image is not here and not in the bundle.
        LimitExceeded: the snapshot is larger than ``receiver`` allows.
        Conflict: another snapshot with this id is here.
    """
    reader = PartReader(source)
    if reader.next() != "manifest":
        damaged("manifest", "it is missing")
    manifest = SnapshotManifest.parse(reader.read(MAX_MANIFEST), "the bundle's manifest")
    _within(manifest, receiver)
    with store.draft(manifest.id, replace_same=True) as draft:
        part = reader.next()
        if part == "image":
            _read_image(reader, draft.path, manifest, receiver)
            part = reader.next()
        # Before gigabytes are written, and after the image has had its chance to come in.
        require_host(manifest, host=receiver.host, has_image=receiver.has_image)
        if part != "state":
            damaged("state", "it is missing")
        _write(draft.path / STATE, reader.frames(manifest.state.size))
        if reader.next() != "memory":
            damaged("memory", "it is missing")
        _read_memory(reader, draft.path / MEMORY, manifest)
        if reader.next() is not None:
            damaged("end", "it is missing")
        manifest.write(draft.path, durable=False)
        check(draft.path, host=receiver.host, has_image=receiver.has_image, whole_memory=True)
    return store.get(manifest.id)


def _within(manifest: SnapshotManifest, receiver: Receiver) -> None:
    for what, used, allowed in (
        ("memory", manifest.memory.pages * PAGE, receiver.max_memory),
        ("state", manifest.state.size, min(MAX_STATE, receiver.max_memory)),
    ):
        if used > allowed:
            raise LimitExceeded(
                f"the bundle's {what} takes {used} bytes, more than the {allowed} allowed",
                data={"limit": f"import_{what}", "allowed": allowed, "used": used},
            )


def _read_image(reader: PartReader, folder: Path, manifest: SnapshotManifest, receiver: Receiver) -> None:
    """Hand the image's tar on if it is wanted; read past it otherwise."""
    if receiver.take_image is None or receiver.has_image(manifest.image):
        for _ in reader.frames(receiver.max_image):
            pass
        return
    tar = folder / "image.tar"
    _write(tar, reader.frames(receiver.max_image))
    receiver.take_image(manifest.image, tar)
    tar.unlink()


def _read_memory(reader: PartReader, path: Path, manifest: SnapshotManifest) -> None:
    """The pages of the memory part into a sparse file; runs must be in order and within what the manifest declares."""
    pages = manifest.memory.size // PAGE
    allowed = manifest.memory.pages
    source = _Bytes(reader.frames(allowed * (PAGE + _RUN.size)))
    at = 0
    with open(path, "xb") as file:
        while head := source.take(_RUN.size, or_end=True):
            first, count = _RUN.unpack(head)
            if count == 0 or first < at or first + count > pages or count > allowed:
                damaged("memory", "a run of pages is out of place")
            allowed -= count
            at = first + count
            os.lseek(file.fileno(), first * PAGE, os.SEEK_SET)
            left = count * PAGE
            while left:
                piece = source.take(min(left, FRAME))
                write_all(file.fileno(), piece)
                left -= len(piece)
        os.ftruncate(file.fileno(), manifest.memory.size)


def _runs(snapshot: Snapshot) -> Iterator[bytes | memoryview]:
    for first, data in memory_pieces(snapshot.path, snapshot.manifest):
        yield _RUN.pack(first, len(data) // PAGE)
        yield data


def _write(path: Path, frames: Iterable[bytes]) -> None:
    with open(path, "xb") as file:
        for frame in frames:
            file.write(frame)


class _Bytes:
    """Frames as a stream of bytes."""

    def __init__(self, frames: Iterator[bytes]) -> None:
        self._frames = frames
        self._have = b""

    def take(self, size: int, *, or_end: bool = False) -> bytes:
        """Exactly ``size`` bytes; with ``or_end`` nothing if the stream is at its end."""
        while len(self._have) < size:
            frame = next(self._frames, b"")
            if not frame:
                if or_end and not self._have:
                    return b""
                damaged("memory", "it ends within a run of pages")
            self._have += frame
        data, self._have = self._have[:size], self._have[size:]
        return data
