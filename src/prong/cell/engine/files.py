"""Files of a cell, from outside: the guest program takes no part in it."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prong.cell.engine.connection import RemoteError
from prong.errors import Conflict, InvalidInput, LimitExceeded, NotFound, ProngError, SandboxGone

if TYPE_CHECKING:
    from prong.cell.engine.hosted import Hosted

CHUNK = 4 << 20
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}


@dataclass(frozen=True)
class FileInfo:
    """One file: its absolute path, kind (file, directory, symlink, fifo, other), size in bytes, mode bits, mtime in ns."""

    path: str
    kind: str
    size: int
    mode: int
    mtime_ns: int


def _translate(error: RemoteError, path: str) -> ProngError:
    """A host's errno as the error a caller can act on."""
    number = error.data.get("errno")
    text = f"{path}: {error.message}"
    data = {**error.data, "path": path}
    if number in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(text, data=data)
    if number in (errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR):
        return Conflict(text, data=data)
    if number == errno.ENOSPC:
        return LimitExceeded(text, hint="raise the overlay limit", data={**data, "limit": "overlay"})
    return InvalidInput(text, data=data) if number is not None else error


class Files:
    """Read, write, list, stat, remove, move and make directories in one cell. Paths are absolute; symlinks are followed.

    Every method raises NotFound, Conflict (exists, not empty, is a directory), LimitExceeded (overlay full),
    InvalidInput (not a good path), SandboxGone.
    """

    def __init__(self, cell: Hosted) -> None:
        self._cell = cell

    def _ask(self, op: str, path: str, /, **arguments: Any) -> Any:
        if not path.startswith("/") or "\0" in path:
            raise InvalidInput(f"{path!r} is not an absolute path", data={"field": "path"})
        try:
            return self._cell.file_request(op, arguments)
        except RemoteError as e:
            raise _translate(e, path) from None

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        """The bytes of a file, or ``size`` of them from ``offset``."""
        parts: list[bytes] = []
        left = size
        while left is None or left > 0:
            want = CHUNK if left is None else min(left, CHUNK)
            part = self._ask("read", path, path=os.fsencode(path), offset=offset, size=want)
            if not isinstance(part, bytes) or len(part) > want:
                raise _nonsense(path)
            parts.append(part)
            offset += len(part)
            left = None if left is None else left - len(part)
            if not part:
                break
        return b"".join(parts)

    def read_text(self, path: str) -> str:
        """The file as UTF-8 text."""
        return self.read(path).decode()

    def write(self, path: str, data: bytes | str, *, mode: int = 0o644) -> None:
        """Make or replace a file; its directory must exist."""
        content = data.encode() if isinstance(data, str) else data
        name = os.fsencode(path)
        self._ask("write", path, path=name, offset=0, data=content[:CHUNK], mode=mode)
        for at in range(CHUNK, len(content), CHUNK):
            self._ask("write", path, path=name, offset=at, data=content[at : at + CHUNK], mode=mode)

    def list(self, path: str) -> list[FileInfo]:
        """The entries of a directory, sorted by name."""
        raw = self._ask("list", path, path=os.fsencode(path))
        base = path.rstrip("/")
        try:
            entries = [_info(f"{base}/{os.fsdecode(name)}", entry) for name, entry in raw]
        except (TypeError, ValueError):
            raise _nonsense(path) from None
        return sorted(entries, key=lambda e: e.path)

    def stat(self, path: str) -> FileInfo:
        """What is at ``path``; a symlink is not followed."""
        return _info(path, self._ask("stat", path, path=os.fsencode(path)))

    def exists(self, path: str) -> bool:
        """Whether anything is at ``path``."""
        try:
            self.stat(path)
        except NotFound:
            return False
        return True

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file or an empty directory, or a whole tree."""
        self._ask("remove", path, path=os.fsencode(path), recursive=recursive)

    def move(self, source: str, target: str) -> None:
        """Rename, replacing a file at ``target``."""
        self._ask("move", source, source=os.fsencode(source), target=os.fsencode(target))

    def mkdir(self, path: str, *, parents: bool = True) -> None:
        """Make a directory; with ``parents`` an existing one is fine."""
        self._ask("mkdir", path, path=os.fsencode(path), parents=parents)


def _nonsense(path: str) -> SandboxGone:
    return SandboxGone(f"{path}: the cell's host answered nonsense", data={"reason": "protocol", "path": path})


def _info(path: str, raw: Any) -> FileInfo:
    try:
        mode, size, mtime = (int(v) for v in raw)
    except (TypeError, ValueError, OverflowError):
        raise _nonsense(path) from None
    return FileInfo(path, _KINDS.get(stat.S_IFMT(mode), "other"), size, stat.S_IMODE(mode), mtime)
