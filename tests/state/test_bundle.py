"""Bundles: whole on the way out, checked on the way in, and nothing left of one that is refused."""

from __future__ import annotations

import dataclasses
import io
import random
import struct
from pathlib import Path

import pytest
import zstandard

from prong.cell.state.bundle import export_bundle, import_bundle
from prong.cell.state.codec import decode
from prong.cell.state.directory import Origin, Receiver, read_state, seal
from prong.cell.state.parts import FRAME, KINDS, MAGIC, TRAILER, VERSION, PartReader, PartWriter
from prong.errors import Conflict, Corrupt, HostUnfit, LimitExceeded, NotFound
from prong.store.manifest import CHUNK, MEMORY, PAGE, Cpu, MemoryPart, SnapshotManifest
from prong.store.snapshots import Snapshot, SnapshotStore
from tests.state.graphs import Box
from tests.state.test_snapshot import HOST, IMAGE, flip, guest_memory, write, yes

HERE = Receiver(HOST, yes)


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """A snapshot with more than one frame of memory in one run, and one page near the end."""
    store = SnapshotStore(tmp_path / "from")
    many = FRAME // PAGE + 3
    noise = random.Random(5)
    used = {page: noise.randbytes(PAGE) for page in range(2, many)} | {CHUNK // PAGE + 1: b"end"}
    with store.draft() as draft:
        write(draft.path, guest_memory(CHUNK // PAGE + 2, used))
        seal(draft.path, Origin(HOST, IMAGE, id=draft.id, note="a note"), durable=False)
    return store.get(draft.id)


def exported(snapshot: Snapshot, image: Path | None = None) -> bytes:
    out = io.BytesIO()
    export_bundle(snapshot, out, image=image)
    return out.getvalue()


def bundle(manifest: SnapshotManifest, **parts: bytes) -> bytes:
    """A well-formed bundle of arbitrary parts."""
    out = io.BytesIO()
    with PartWriter(out) as writer:
        writer.part("manifest", [manifest.dump()])
        for name, content in parts.items():
            writer.part(name, [content])
    return out.getvalue()


def run(first: int, count: int, data: bytes = b"") -> bytes:
    return struct.pack("<II", first, count) + data


def refused(data: bytes, store: SnapshotStore, receiver: Receiver = HERE) -> Corrupt:
    with pytest.raises(Corrupt) as caught:
        import_bundle(io.BytesIO(data), store, receiver)
    assert not store.root.exists() or not any(store.root.iterdir())
    return caught.value


def test_a_bundle_brings_everything_over(snapshot: Snapshot, tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "to")
    data = exported(snapshot)
    got = import_bundle(io.BytesIO(data), store, HERE)
    assert got.manifest == snapshot.manifest and got.manifest.note == "a note"
    assert (got.path / MEMORY).read_bytes() == (snapshot.path / MEMORY).read_bytes()
    assert (got.path / MEMORY).stat().st_blocks <= (snapshot.path / MEMORY).stat().st_blocks + 16
    assert decode(read_state(got.path, got.manifest), None, Box).a == "state"
    assert import_bundle(io.BytesIO(data), store, HERE) == got, "a second time changes nothing"
    assert [s.id for s in store.ls()] == [snapshot.id]


def test_another_snapshot_with_the_same_id_is_a_conflict(snapshot: Snapshot, tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "to")
    with store.draft(snapshot.id) as draft:
        write(draft.path, guest_memory(4, {1: b"other"}))
        seal(draft.path, Origin(HOST, IMAGE, id=draft.id))
    with pytest.raises(Conflict):
        import_bundle(io.BytesIO(exported(snapshot)), store, HERE)
    assert store.get(snapshot.id).manifest.memory.pages == 1


def test_an_image_can_come_along(snapshot: Snapshot, tmp_path: Path) -> None:
    tar = tmp_path / "image.tar"
    tar.write_bytes(random.Random(1).randbytes(FRAME + 5))
    data = exported(snapshot, tar)
    taken: list[tuple[str, bytes]] = []

    def take(digest: str, path: Path) -> None:
        taken.append((digest, path.read_bytes()))

    lacking = Receiver(HOST, lambda digest: bool(taken), take)
    got = import_bundle(io.BytesIO(data), SnapshotStore(tmp_path / "to"), lacking)
    assert taken == [(IMAGE, tar.read_bytes())]
    assert sorted(p.name for p in got.path.iterdir()) == ["manifest.json", "memory", "state.bin"]
    import_bundle(io.BytesIO(data), SnapshotStore(tmp_path / "has"), Receiver(HOST, yes, take))
    assert len(taken) == 1, "an image that is here is passed over"
    small = Receiver(HOST, lambda digest: False, take, max_image=FRAME)
    assert refused(data, SnapshotStore(tmp_path / "small"), small).data["part"] == "image"


def test_a_host_that_does_not_fit_is_told_why(snapshot: Snapshot, tmp_path: Path) -> None:
    data, store = exported(snapshot), SnapshotStore(tmp_path / "to")
    with pytest.raises(HostUnfit):
        import_bundle(io.BytesIO(data), store, Receiver(Cpu.of("GenuineIntel", "old", []), yes))
    with pytest.raises(NotFound):
        import_bundle(io.BytesIO(data), store, Receiver(HOST, lambda digest: False))
    with pytest.raises(LimitExceeded):
        import_bundle(io.BytesIO(data), store, Receiver(HOST, yes, max_memory=PAGE))
    assert store.ls() == [] and store.sweep() == []


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bits_are_noticed(snapshot: Snapshot, tmp_path: Path, seed: int) -> None:
    data, store, random_ = exported(snapshot), SnapshotStore(tmp_path / "to"), random.Random(seed)
    parts = set()
    places = [*range(0, 400, 9), *(random_.randrange(len(data)) for _ in range(40)), *range(len(data) - 60, len(data), 4)]
    for at in places:
        broken = bytearray(data)
        broken[at] ^= 1 << random_.randrange(8)
        parts.add(refused(bytes(broken), store).data["part"])
    assert {"header", "memory"} <= parts


def test_cut_files_are_noticed(snapshot: Snapshot, tmp_path: Path) -> None:
    data, store = exported(snapshot), SnapshotStore(tmp_path / "to")
    for size in [*range(0, 60), *range(60, len(data), len(data) // 40), *range(len(data) - 50, len(data))]:
        assert refused(data[:size], store).data["part"]


def test_content_that_lies_under_right_checksums(snapshot: Snapshot, tmp_path: Path) -> None:
    manifest, store = snapshot.manifest, SnapshotStore(tmp_path / "to")
    state = read_state(snapshot.path, manifest)
    page = b"x" * PAGE
    memories = {
        "other pages": run(0, 1, page),
        "no pages": b"",
        "out of order": run(9, 1, page) + run(3, 1, page),
        "beyond the end": run(manifest.memory.size // PAGE, 1, page),
        "an enormous run": run(0, 0xFFFFFFFF),
        "an empty run": run(0, 0),
        "half a run": run(0, 2, page),
        "half a head": b"\0\0\0",
        "more pages than declared": run(0, manifest.memory.pages + 1, page * (manifest.memory.pages + 1)),
    }
    for what, memory in memories.items():
        assert refused(bundle(manifest, state=state, memory=memory), store).data["part"] == "memory", what
    assert refused(bundle(manifest, state=b"x" * len(state), memory=b""), store).data["part"] == "state"
    assert refused(bundle(manifest, state=state + b"x", memory=b""), store).data["part"] == "state"
    assert refused(bundle(manifest, state=state), store).data["part"] == "memory"
    assert refused(bundle(manifest, memory=b""), store).data["part"] == "state"
    assert refused(bundle(manifest), store).data["part"] == "state"


def test_the_stream_itself_is_checked(snapshot: Snapshot, tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "to")
    head = MAGIC + struct.pack("<I", VERSION)

    def packed(content: bytes) -> bytes:
        data = head + zstandard.ZstdCompressor().compress(content)
        return data + struct.pack("<Q", len(data)) + TRAILER

    manifest = bytes([KINDS["manifest"]])
    for data, part in (
        (b"", "header"),
        (b"PK\3\4" + bytes(40), "header"),
        (head, "header"),
        (head + b"not zstd at all", "header"),
        (packed(b""), "header"),
        (packed(b"\7"), "header"),
        (packed(b"\0"), "header"),
        (packed(bytes([KINDS["state"]])), "manifest"),
        (packed(manifest + struct.pack("<I", 0xFFFFFFFF)), "manifest"),
        (packed(manifest + struct.pack("<I", 3) + b"{}\n" + bytes(4 + 32)), "manifest"),
    ):
        assert refused(data, store).data["part"] == part
    with pytest.raises(Corrupt, match="format 99; this version of prong reads format 1"):
        PartReader(io.BytesIO(MAGIC + struct.pack("<I", 99)))


def test_zip_bombs_stop_at_what_is_declared(snapshot: Snapshot, tmp_path: Path) -> None:
    """A gigabyte of zeros compresses to some kilobytes; reading stops at the manifest's few pages."""
    store = SnapshotStore(tmp_path / "to")
    out = io.BytesIO()
    zeros = bytes(FRAME)
    with PartWriter(out) as writer:
        writer.part("manifest", (zeros for _ in range(1024)))
    assert len(out.getvalue()) < 1 << 20
    assert refused(out.getvalue(), store).data["part"] == "manifest"
    sums = tuple(["0" * 64] * (1 << 17))
    size = len(sums) * CHUNK
    huge = snapshot.manifest.model_copy(update={"memory": MemoryPart(size=size, pages=size // PAGE, sha256=sums)})
    with pytest.raises((LimitExceeded, Corrupt)):
        import_bundle(io.BytesIO(bundle(huge)), store, HERE)


def test_large_windows_are_refused(tmp_path: Path) -> None:
    """The window is memory that the file's header makes the reader allocate."""
    params = zstandard.ZstdCompressionParameters(window_log=30, compression_level=1)
    squeezed = zstandard.ZstdCompressor(compression_params=params).compressobj()
    data = MAGIC + struct.pack("<I", VERSION) + squeezed.compress(bytes(1 << 16)) + squeezed.flush() + bytes(16)
    assert "memory" in refused(data, SnapshotStore(tmp_path / "to")).message


def test_a_second_stream_behind_the_first_is_refused(snapshot: Snapshot, tmp_path: Path) -> None:
    data = exported(snapshot)
    store = SnapshotStore(tmp_path / "to")
    assert refused(data + data, store).data["part"] == "end"
    assert refused(data + b"\0", store).data["part"] == "end"


def test_a_damaged_snapshot_is_not_exported(snapshot: Snapshot) -> None:
    flip(snapshot.path / MEMORY, 3 * PAGE)
    with pytest.raises(Corrupt):
        exported(snapshot)
    with pytest.raises(Corrupt):
        exported(dataclasses.replace(snapshot, path=snapshot.path / "nowhere"))
