"""Writing a cell's snapshot to disk and finding the files to load one from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from prong.cell.memory.layout import PAGE
from prong.cell.state.directory import Origin, seal
from prong.store.manifest import MEMORY, STATE, Cpu, SnapshotManifest

if TYPE_CHECKING:
    from prong.cell.engine.cell import Cell


@dataclass(frozen=True)
class Stored:
    """A snapshot on disk, ready to be loaded: its files, its manifest, and how many frames its memory file really fills."""

    folder: Path
    manifest: SnapshotManifest

    @property
    def memory(self) -> Path:
        """The memory file."""
        return self.folder / MEMORY

    @property
    def state(self) -> Path:
        """The state file."""
        return self.folder / STATE

    @property
    def frames(self) -> int:
        """Frames from 0 to the last one with content; what lies beyond is fresh memory."""
        return filled_frames(self.memory)


def filled_frames(path: Path) -> int:
    """Frames up to the end of a sparse file's last data (lseek(2), SEEK_DATA and SEEK_HOLE)."""
    with path.open("rb") as file:
        fd, end, at = file.fileno(), 0, 0
        while True:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                break
            at = end = os.lseek(fd, at, os.SEEK_HOLE)
    return -(-end // PAGE)


def write_snapshot(cell: Cell, folder: Path, origin: Origin, *, durable: bool = True) -> SnapshotManifest:
    """Have ``cell`` write itself into the empty directory ``folder``, and seal it with a manifest."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    memory_fd = os.open(folder / MEMORY, flags, 0o600)
    state_fd = os.open(folder / STATE, flags, 0o600)
    try:
        os.ftruncate(memory_fd, cell.stats()["memory_size"])
        cell.write_snapshot(memory_fd, state_fd)
    finally:
        os.close(memory_fd)
        os.close(state_fd)
    return seal(folder, origin, durable=durable)


@cache
def host_cpu() -> Cpu:
    """This host's processor, as /proc/cpuinfo tells it."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
        if not line:
            break
    return Cpu.of(fields.get("vendor_id", ""), fields.get("model name", ""), fields.get("flags", "").split())
