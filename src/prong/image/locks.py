"""Locks between processes and staging areas that clean up after dead builders.

A lock is flock(2) on a file: the kernel drops it when its last holder ends, however it ends, so a lock that can be
taken proves that nobody is behind it. No process ids are recorded or compared. Programs a build starts inherit the
staging lock, so an area is not swept while an orphaned child still writes to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prong.errors import Conflict


@contextlib.contextmanager
def hold(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[int]:
    """Hold the exclusive lock ``path`` for the block; yields the lock's file descriptor.

    Args:
        path: the lock's file, made if missing and never removed here.
        on_wait: called once when somebody else holds it, before waiting.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _try_lock(fd):
            if on_wait:
                on_wait()
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Staging:
    """A private directory to build in.

    Attributes:
        path: the directory, on the file system of its final place.
        lock_fd: pass it to child processes (``pass_fds``) so that the area lives as long as they do.
        scratch: a directory for tools that run as another user; on a path anyone may traverse.
    """

    path: Path
    lock_fd: int
    scratch: Path


@contextlib.contextmanager
def staging(area: Path, gate: Path) -> Iterator[Staging]:
    """A fresh staging directory under ``area``, removed at the end with whatever is still in it.

    Args:
        area: the directory that holds all staging areas.
        gate: lock file that orders making and sweeping of areas.
    """
    area.mkdir(parents=True, exist_ok=True)
    name = secrets.token_hex(8)
    path, lock, scratch = area / name, area / f"{name}.lock", _scratch(area, name)
    with contextlib.ExitStack() as stack:
        with hold(gate):
            fd = stack.enter_context(hold(lock))
            path.mkdir()
            scratch.mkdir()
            scratch.chmod(0o1777 if os.geteuid() else 0o755)
        try:
            yield Staging(path=path, lock_fd=fd, scratch=scratch)
        finally:
            with hold(gate):
                for leftover in (scratch, path):
                    remove_tree(leftover)
                lock.unlink(missing_ok=True)


def sweep(area: Path, gate: Path) -> list[str]:
    """Remove staging areas whose builders are gone; returns their names."""
    swept: list[str] = []
    with hold(gate):
        for lock in sorted(area.glob("*.lock")):
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
            try:
                if not _try_lock(fd):
                    continue
                name = lock.name.removesuffix(".lock")
                for leftover in (_scratch(area, name), area / name):
                    remove_tree(leftover)
                lock.unlink()
                swept.append(name)
            finally:
                os.close(fd)
    return swept


def _scratch(area: Path, name: str) -> Path:
    """Root's scratch is inside the area; a user's home may be closed to the subordinate ids that builds use."""
    return area / f"{name}.scratch" if os.geteuid() == 0 else Path(tempfile.gettempdir()) / f"prong-build-{name}"


def remove_tree(path: Path) -> None:
    """Delete a directory tree of ours; nothing happens if it is not there.

    Raises:
        Conflict: something is mounted below it; deleting would reach through the mount.
        OSError: it cannot be deleted.
    """
    if not path.is_dir() or path.is_symlink() or path.lstat().st_uid != os.geteuid():
        return
    if mounted := _mounts_below(path):
        raise Conflict(
            f"{mounted[0]} is mounted inside {path}", hint="unmount it, then try again", data={"mounts": [*mounted]}
        )
    try:
        shutil.rmtree(path)
    except PermissionError:
        # Left by a build in a user namespace: owned by subordinate ids, which only such a namespace may delete.
        subprocess.run(
            ["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", "--one-file-system", "--", str(path)],
            check=False,
            capture_output=True,
        )
        if path.exists():
            raise


def _mounts_below(path: Path) -> list[str]:
    """Mount points at or below ``path`` (proc_pid_mountinfo(5), field 5, octal escapes undone)."""
    top = os.path.realpath(path)
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split(" ")[4].encode().decode("unicode_escape")
        if point == top or point.startswith(f"{top}/"):
            found.append(point)
    return found
