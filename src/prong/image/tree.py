"""An image's tree: made readable and reproducible, then measured and named by its content."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prong.errors import Corrupt

RUNTIME_DIRS = ("dev", "proc", "run", "sys", "tmp")
"""Top-level directories that belong to the running system: always present in an image, always empty."""

_STICKY_DIRS = ("tmp", "var/tmp")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Measure:
    """What :func:`measure` found.

    Attributes:
        digest: 64 lower-case hexadecimal digits.
        size_bytes: sum of the regular files' lengths, hard links counted once.
        file_count: number of entries below the top.
    """

    digest: str
    size_bytes: int
    file_count: int


def walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every entry below ``root`` as (path relative to it, lstat), parents first, each directory in byte order of names.

    Names that are not UTF-8 come as surrogate escapes. Symbolic links are never followed.
    """
    pending = [""]
    while pending:
        parent = pending.pop()
        with os.scandir(os.path.join(root, parent)) as entries:
            names = sorted((entry.name for entry in entries), key=os.fsencode)
        below = []
        for name in names:
            relative = f"{parent}/{name}" if parent else name
            info = os.lstat(os.path.join(root, relative))
            yield relative, info
            if stat.S_ISDIR(info.st_mode):
                below.append(relative)
        pending.extend(reversed(below))


def seal(root: Path, *, epoch: int | None) -> None:
    """Give every entry the permissions of an image, in place.

    Directories become 0755 (``/tmp`` and ``/var/tmp`` 1777), files readable by all, executable by all if by anyone,
    writable by their owner at most; setuid, setgid and sticky bits go. The runtime directories exist and are empty.

    Args:
        root: the tree's top.
        epoch: modification times later than this (seconds since 1970) are set to it; None leaves them.

    Raises:
        Corrupt: the tree holds a device, socket or pipe.
    """
    os.chmod(root, 0o755)
    for name in RUNTIME_DIRS:
        (root / name).mkdir(exist_ok=True)
    directories = [""]
    for relative, info in walk(root):
        path = os.path.join(root, relative)
        if stat.S_ISDIR(info.st_mode):
            wanted = 0o1777 if relative in _STICKY_DIRS else 0o755
            directories.append(relative)
        elif stat.S_ISREG(info.st_mode):
            bits = info.st_mode & 0o755
            wanted = bits | 0o444 | (0o111 if info.st_mode & 0o111 else 0)
        elif stat.S_ISLNK(info.st_mode):
            _clamp(path, info.st_mtime, epoch)
            continue
        else:
            raise Corrupt(f"/{relative} is a device, socket or pipe, which an image cannot hold", data={"path": relative})
        if stat.S_IMODE(info.st_mode) != wanted:
            os.chmod(path, wanted)
        _clamp(path, info.st_mtime, epoch)
    for relative in directories:
        path = os.path.join(root, relative)
        _clamp(path, os.lstat(path).st_mtime, epoch)


def prune(root: Path, globs: Sequence[str]) -> None:
    """Delete the files the globs name, and the directories they name that are empty then.

    Args:
        root: the tree's top.
        globs: of absolute paths within the tree, ``*`` matching ``/`` too; each entry is decided by the last glob that
            matches it, and one that starts with ``!`` keeps it.
    """
    rules = [(not glob.startswith("!"), re.compile(fnmatch.translate(glob.removeprefix("!")))) for glob in globs]
    emptied: list[str] = []
    for relative, info in [*walk(root)]:
        matching = [out for out, pattern in rules if pattern.match(f"/{relative}")]
        if stat.S_ISDIR(info.st_mode):
            if matching and matching[-1]:
                emptied.append(relative)
        elif matching and matching[-1]:
            os.unlink(os.path.join(root, relative))
    for relative in reversed(emptied):
        directory = os.path.join(root, relative)
        if not os.listdir(directory):
            os.rmdir(directory)


def _clamp(path: str, mtime: float, epoch: int | None) -> None:
    if epoch is not None and mtime > epoch:
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def measure(root: Path, settings: Mapping[str, object], *, tick: Callable[[int], None] = lambda done: None) -> Measure:
    """Name a sealed tree by its content.

    The digest is SHA-256 over one JSON line of ``settings`` and then one line for each entry in :func:`walk` order:
    path, type, permission bits, and the size and content's SHA-256 of a file or the target of a link. Owners and
    times are left out: they depend on who built and when, and a sandbox sees neither.

    Args:
        root: the tree's top.
        settings: what beside the tree makes the image what it is (environment, working directory).
        tick: called now and then with the number of entries done.
    """
    listing = hashlib.sha256()
    listing.update(_line(settings))
    size = count = 0
    seen: dict[tuple[int, int], str] = {}
    for relative, info in walk(root):
        count += 1
        path = os.path.join(root, relative)
        entry: dict[str, object] = {"path": relative, "mode": stat.S_IMODE(info.st_mode)}
        if stat.S_ISDIR(info.st_mode):
            entry["type"] = "dir"
        elif stat.S_ISLNK(info.st_mode):
            entry = {"path": relative, "type": "link", "target": os.readlink(path)}
        else:
            inode = (info.st_dev, info.st_ino)
            if inode not in seen:
                size += info.st_size
                seen[inode] = _hash_file(path)
            entry |= {"type": "file", "size": info.st_size, "sha256": seen[inode]}
        listing.update(_line(entry))
        if count % 500 == 0:
            tick(count)
    return Measure(digest=listing.hexdigest(), size_bytes=size, file_count=count)


def _line(value: Mapping[str, object]) -> bytes:
    # ASCII with \u escapes, so that undecodable names (surrogates) have one spelling too.
    return json.dumps(value, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def _hash_file(path: str) -> str:
    content = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            content.update(chunk)
    return content.hexdigest()
