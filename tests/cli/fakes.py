"""An engine and cells without machines: just enough of the engine's interface for what the command line decides itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prong.cell.engine.files import FileInfo
from prong.cell.results import Execution
from prong.errors import NotFound


@dataclass
class FakeFiles:
    """Files as a dictionary."""

    content: dict[str, bytes] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)

    def mkdir(self, path: str, *, parents: bool = True) -> None:
        self.made.append(path)

    def write(self, path: str, data: bytes, *, mode: int = 0o644) -> None:
        self.content[path] = data

    def read(self, path: str) -> bytes:
        return self.content[path]

    def stat(self, path: str) -> FileInfo:
        if path in self.made:
            return FileInfo(path, "directory", 0, 0o755, 0)
        if path not in self.content:
            raise NotFound(path)
        return FileInfo(path, "file", len(self.content[path]), 0o644, 0)

    def list(self, path: str) -> list[FileInfo]:
        return [self.stat(name) for name in sorted(self.content)]


class FakeCell:
    """Runs ``behaviour(code)``; forks are new ones with a copy of the state."""

    _ids = itertools.count(1)

    def __init__(self, behaviour: Callable[[str], Execution] | None = None, state: int = 0) -> None:
        self.id = f"f{next(self._ids)}"
        self.behaviour = behaviour
        self.state = state
        self.closed = False
        self.ended: Any = None
        self.files = FakeFiles()
        self.signals: list[int] = []

    def fork(self, count: int = 1) -> list[FakeCell]:
        return [FakeCell(self.behaviour, self.state) for _ in range(count)]

    def complete(self, code: str, cursor: int) -> Any:
        start = max(code.rfind("."), code.rfind(" ")) + 1
        names = [n for n in ("alpha", "alpine", "beta") if n.startswith(code[start:cursor])]
        return SimpleNamespace(matches=tuple(names), start=start, end=cursor)

    def stats(self) -> dict[str, int]:
        return {"memory": 3 << 20, "cpu_ns": 1_500_000_000, "threads": 1}

    def signal(self, number: int) -> None:
        self.signals.append(number)

    def close(self) -> None:
        self.closed = True


class FakeEngine:
    """Snapshots are numbers kept in a dictionary."""

    def __init__(self) -> None:
        self.saved: dict[str, int] = {}
        self.paths = SimpleNamespace(home=Path("/nowhere"))
        self.snapshots = SimpleNamespace(get=self._get)

    def _get(self, word: str) -> Any:
        for name in self.saved:
            if name.startswith(word):
                return SimpleNamespace(id=name)
        raise NotFound(f"there is no snapshot {word}")

    def snapshot(self, cell: FakeCell, note: str = "") -> Any:
        name = f"snap{len(self.saved)}"
        self.saved[name] = cell.state
        return SimpleNamespace(id=name)

    def rollback(self, cell: FakeCell, snapshot: Any) -> FakeCell:
        replacement = FakeCell(cell.behaviour, self.saved[snapshot.id])
        replacement.id = cell.id
        cell.close()
        return replacement
