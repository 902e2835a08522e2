"""Memory files, the sealed directory, and what is refused before a snapshot is used."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from prong.cell.state.codec import decode, encode
from prong.cell.state.directory import Origin, check, memory_pieces, memory_sums, read_state, seal
from prong.cell.state.snapshot import data_runs, write_memory, write_state
from prong.errors import Corrupt, HostUnfit, NotFound
from prong.store.manifest import CHUNK, MANIFEST, MEMORY, PAGE, STATE, Cpu, SnapshotManifest
from tests.state.graphs import Box

HOST = Cpu.of("GenuineIntel", "Xeon", ["avx", "avx2", "sse2"])
IMAGE = "a" * 64


def yes(digest: str) -> bool:
    return digest == IMAGE


def guest_memory(pages: int, used: dict[int, bytes]) -> bytearray:
    memory = bytearray(pages * PAGE)
    for page, content in used.items():
        memory[page * PAGE : page * PAGE + len(content)] = content
    return memory


def write(folder: Path, memory: bytearray, frames: list[tuple[int, int]] | None = None) -> int:
    folder.mkdir(exist_ok=True)
    fd = os.open(folder / MEMORY, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    state = os.open(folder / STATE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        write_state(state, encode(Box("state")))
        return write_memory(fd, memoryview(memory), frames)
    finally:
        os.close(fd)
        os.close(state)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sealed snapshot with pages in two of three chunks."""
    target = tmp_path / "snapshot"
    chunk = CHUNK // PAGE
    write(target, guest_memory(3 * chunk, {0: b"first", 5: b"x" * PAGE, 6: b"y", 2 * chunk + 9: b"last"}))
    seal(target, Origin(HOST, IMAGE, limits={"memory": 1 << 28}), durable=False)
    return target


@pytest.mark.parametrize("seed", range(20))
def test_sparse_file_equals_memory(tmp_path: Path, seed: int) -> None:
    random_ = random.Random(seed)
    pages = random_.choice((1, 15, 16, 17, 700))
    used = {p: random_.randbytes(random_.choice((1, PAGE))) or b"x" for p in range(pages) if random_.random() < 0.3}
    used = {page: content for page, content in used.items() if any(content)}
    # A byte at the very end of a page is seen too.
    if used:
        used[min(used)] = bytes(PAGE - 1) + b"\1"
    memory = guest_memory(pages, used)
    assert write(tmp_path / "s", memory) == len(used)
    path = tmp_path / "s" / MEMORY
    assert path.read_bytes() == memory
    listed = [first + i for first, count in data_runs(memoryview(memory)) for i in range(count)]
    assert listed == sorted(used)
    if pages == 700:
        assert path.stat().st_blocks * 512 <= (len(used) + 8) * PAGE, "pages of zeros take no space"


def test_only_the_frames_in_use_are_looked_at(tmp_path: Path) -> None:
    memory = guest_memory(64, {3: b"in", 40: b"out", 63: b"in"})
    assert write(tmp_path / "s", memory, [(0, 10), (60, 4)]) == 2
    assert (tmp_path / "s" / MEMORY).read_bytes() == guest_memory(64, {3: b"in", 63: b"in"})


@pytest.mark.parametrize("frames", [[(60, 5)], [(-1, 2)], [(0, -1)], [(64, 1)]])
def test_frames_outside_memory_are_a_mistake(tmp_path: Path, frames: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="outside"):
        write(tmp_path / "s", bytearray(64 * PAGE), frames)


def test_no_space_is_an_error(tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        write_state(full.fileno(), b"x")


def test_sums_do_not_depend_on_holes(tmp_path: Path) -> None:
    memory = guest_memory(CHUNK // PAGE + 3, {1: b"a", 2: b"b", CHUNK // PAGE: b"c"})
    write(tmp_path / "s", memory)
    (tmp_path / "dense").write_bytes(memory)
    sums = []
    for path in (tmp_path / "s" / MEMORY, tmp_path / "dense"):
        with open(path, "rb") as file:
            sums.append(memory_sums(file.fileno(), len(memory)))
    assert sums[0] == sums[1] and sums[0][1] == 3 and None not in sums[0][0]


def test_a_sealed_snapshot_is_accepted_and_gives_everything_back(folder: Path) -> None:
    manifest = check(folder, host=HOST, has_image=yes, whole_memory=True)
    assert manifest == SnapshotManifest.read(folder)
    assert manifest.memory.pages == 4 and manifest.memory.sha256[1] is None
    assert decode(read_state(folder, manifest), None, Box).a == "state"
    memory = (folder / MEMORY).read_bytes()
    pieces = list(memory_pieces(folder, manifest))
    assert [(first, len(data) // PAGE) for first, data in pieces] == [(0, 1), (5, 2), (2 * CHUNK // PAGE + 9, 1)]
    assert all(memory[first * PAGE : first * PAGE + len(data)] == data for first, data in pieces)


def flip(path: Path, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def become_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda f: flip(f / STATE, 60), "state"),
        (lambda f: os.truncate(f / STATE, 50), "state"),
        (lambda f: flip(f / MEMORY, 5 * PAGE + 7), "memory"),
        (lambda f: flip(f / MEMORY, CHUNK + 7), "memory"),
        (lambda f: os.truncate(f / MEMORY, 2 * CHUNK), "memory"),
        (lambda f: (f / STATE).unlink(), STATE),
        (lambda f: ((f / MEMORY).unlink(), (f / MEMORY).symlink_to("/dev/zero")), MEMORY),
        (lambda f: become_fifo(f / STATE), STATE),
        (lambda f: (f / MANIFEST).write_text("{"), None),
        (lambda f: (f / MANIFEST).write_text("[" * 100_000), None),
        (lambda f: (f / MANIFEST).write_text("[]"), None),
    ],
)
def test_damage_is_found(folder: Path, damage: Callable[[Path], object], part: str | None) -> None:
    damage(folder)
    with pytest.raises(Corrupt) as caught:
        check(folder, host=HOST, has_image=yes, whole_memory=True)
    assert caught.value.data.get("part") == part


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "reads format 1"),
        ({"format": "1"}, "reads format 1"),
        ({"engine": "machine"}, "engine"),
        ({"extra": 1}, "extra"),
        ({"id": "../../etc"}, "id"),
        ({"image": "x"}, "image"),
        ({"created": "yesterday"}, "created"),
        ({"state": {"size": -1, "sha256": "0" * 64}}, "state.size"),
        ({"memory": {"size": 4097, "pages": 0, "sha256": []}}, "memory"),
        ({"memory": {"size": 4096, "pages": 9, "sha256": [None]}}, "memory"),
        ({"memory": {"size": 4096, "page": 8192, "pages": 0, "sha256": [None]}}, "memory.page"),
        ({"limits": {"memory": "much"}}, "limits"),
    ],
)
def test_manifests_are_read_strictly(folder: Path, change: dict[str, object], says: str) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(Corrupt, match=says):
        SnapshotManifest.read(folder)


def test_the_host_must_fit(folder: Path) -> None:
    more = Cpu.of("GenuineIntel", "newer", ["avx", "avx2", "avx512f", "sse2"])
    check(folder, host=more, has_image=yes)
    with pytest.raises(HostUnfit, match="lacks avx2, sse2") as caught:
        check(folder, host=Cpu.of("GenuineIntel", "older", ["avx"]), has_image=yes)
    assert caught.value.data["missing"] == ["avx2", "sse2"]
    with pytest.raises(HostUnfit, match="AuthenticAMD"):
        check(folder, host=Cpu.of("AuthenticAMD", "Epyc", more.features), has_image=yes)
    with pytest.raises(NotFound, match="needs image aaaaaaaaaaaa"):
        check(folder, host=HOST, has_image=lambda digest: False)
    with pytest.raises(NotFound):
        check(folder / "other", host=HOST, has_image=yes)


def test_a_cell_that_wrote_nonsense_is_not_sealed(tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"nonsense" * 10)
    (tmp_path / MEMORY).write_bytes(bytes(PAGE))
    with pytest.raises(Corrupt):
        seal(tmp_path, Origin(HOST, IMAGE))
    (tmp_path / STATE).write_bytes(encode(Box()))
    (tmp_path / MEMORY).write_bytes(b"x")
    with pytest.raises(Corrupt):
        seal(tmp_path, Origin(HOST, IMAGE))
    assert not (tmp_path / MANIFEST).exists()
