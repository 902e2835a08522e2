"""Files and directories that appear whole or not at all, locks that end with their holder, and JSON read with care.

Everything here is safe against ``kill -9`` at any point: an unfinished directory carries a temporary name (``.tmp-…``)
and an flock(2) of its maker; :func:`sweep` removes those whose maker is gone. ``durable=True`` also makes the result
survive a power cut (fsync(2) of each file and of the directories around it).

A lock belongs to the open file description (flock(2)), so a child made with ``os.fork`` keeps it alive until it closes
the descriptor; descriptors here are close-on-exec.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prong.errors import Conflict, Corrupt, Json, NotFound

TEMP_PREFIX = ".tmp-"
"""Names that begin so are unfinished or being removed; every listing skips them."""

MAX_JSON = 16 << 20
"""Largest JSON document read, in bytes."""


def write_file(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace ``path`` by ``data`` in one step; readers see the old bytes or the new ones, never a mixture."""
    temp, fd = _make_temp(path.parent, mode, directory=False)
    try:
        write_all(fd, data)
        if durable:
            os.fsync(fd)
        os.rename(temp, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temp)
        raise
    finally:
        os.close(fd)
    if durable:
        sync_dir(path.parent)


def write_json(path: Path, value: Json, *, durable: bool = True) -> None:
    """:func:`write_file` of ``value`` as indented, sorted JSON with a final newline."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
    write_file(path, text.encode(), durable=durable)


def read_json(path: Path, *, limit: int = MAX_JSON) -> dict[str, Json]:
    """The JSON object in ``path``; raises as :func:`read_bytes` and :func:`parse_json`."""
    return parse_json(read_bytes(path, limit=limit), str(path), limit=limit)


def read_bytes(path: Path, *, limit: int) -> bytes:
    """The whole of a file.

    Raises:
        NotFound: there is no such file.
        Corrupt: it is larger than ``limit`` bytes, or no regular file.
    """
    try:
        # Not to hang on a FIFO that somebody put there.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{path} does not exist", data={"path": str(path)}) from None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Corrupt(f"{path} is not a regular file", data={"path": str(path)})
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Corrupt(f"{path} is larger than {limit} bytes", data={"path": str(path)})
    return data


def parse_json(data: bytes, where: str, *, limit: int = MAX_JSON) -> dict[str, Json]:
    """``data`` as a JSON object; Corrupt, naming ``where``, if it is not one or longer than ``limit`` bytes."""
    if len(data) > limit:
        raise Corrupt(f"{where} is larger than {limit} bytes", data={"path": where})
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{where} is not JSON: {error}", data={"path": where}) from None
    if not isinstance(value, dict):
        raise Corrupt(f"{where} is not a JSON object", data={"path": where})
    return value


@contextmanager
def new_dir(final: Path, *, mode: int = 0o700, durable: bool = False, replace: bool = False) -> Iterator[Path]:
    """Build a directory: yields a temporary one beside ``final``, renamed to ``final`` when the block ends well.

    If the block raises, the temporary directory is removed. With ``replace`` a ``final`` that exists is removed first;
    a crash just then leaves none, never a mixture.

    Raises:
        Conflict: ``final`` exists and ``replace`` is false (nothing of it is touched).
    """
    temp, fd = _make_temp(final.parent, mode, directory=True)
    try:
        yield temp
        if durable:
            _sync_tree(temp)
        if replace and os.path.lexists(final):
            remove_dir(final)
        try:
            # Unlike for a file, rename(2) onto a directory fails unless that is empty; an empty one is refused here.
            if os.path.lexists(final):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final))
            os.rename(temp, final)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise Conflict(f"{final} exists already", data={"path": str(final)}) from None
            raise
        if durable:
            sync_dir(final.parent)
    finally:
        if os.path.lexists(temp):
            remove_tree(temp)
        os.close(fd)


def remove_dir(path: Path) -> None:
    """Remove a directory so that it is either wholly there or wholly gone under its name; NotFound if absent."""
    temp = path.with_name(f"{TEMP_PREFIX}{secrets.token_hex(8)}")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist", data={"path": str(path)}) from None
    try:
        # No lock: the sweep of another process may help to remove it, and that is fine.
        os.rename(path, temp)
        remove_tree(temp)
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist", data={"path": str(path)}) from None
    finally:
        os.close(fd)


def sweep(parent: Path) -> list[str]:
    """Remove temporary files and directories in ``parent`` whose makers are gone; returns their names."""
    if not parent.is_dir():
        return []
    return [name for name in sorted(os.listdir(parent)) if name.startswith(TEMP_PREFIX) and _reap(parent / name)]


@contextmanager
def lock(path: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold flock(2) on ``path``, a directory or a file (made if it does not exist).

    Raises:
        Conflict: ``wait`` is false and another holds it.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC
    fd = os.open(path, flags if path.is_dir() else flags | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Conflict(f"{path} is in use by another process", data={"path": str(path)}) from None
        yield
    finally:
        os.close(fd)


def remove_tree(path: Path) -> None:
    """Remove a file or a directory and all below it, also below directories without write permission.

    Symbolic links are removed, not followed. Things that vanish meanwhile are no error.
    """
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
    except FileNotFoundError:
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        _open_up(path)
        shutil.rmtree(path)
    except FileNotFoundError:
        # Another process is removing the same tree; take what it left.
        shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        raise Conflict(f"{path} could not be removed: something is being put into it", data={"path": str(path)})


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data`` at the descriptor's position; write(2) may take less at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_dir(path: Path) -> None:
    """fsync(2) a directory, so that renames in it survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_temp(parent: Path, mode: int, *, directory: bool) -> tuple[Path, int]:
    """A new, locked temporary file or directory and the descriptor that holds its lock."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        temp = parent / f"{TEMP_PREFIX}{secrets.token_hex(8)}"
        if directory:
            temp.mkdir(mode=mode)
            try:
                fd = os.open(temp, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
        else:
            fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        # Before the lock a sweep may have taken it for an abandoned one; then it has no name left, and we start again.
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.path.lexists(temp):
            return temp, fd
        os.close(fd)


def _reap(path: Path) -> bool:
    """Remove a temporary file or directory if nobody holds its lock; whether it was removed."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(path)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _open_up(path: Path) -> None:
    """Give ourselves write permission on every directory of a tree, so that its entries can be unlinked."""
    pending = [os.fspath(path)]
    while pending:
        current = pending.pop()
        with suppress(FileNotFoundError):
            os.chmod(current, 0o700)
            with os.scandir(current) as entries:
                pending.extend(e.path for e in entries if e.is_dir(follow_symlinks=False))


def _sync_tree(path: Path) -> None:
    """fsync(2) every regular file and directory of a tree."""
    for folder, _, files in os.walk(path):
        for name in files:
            target = os.path.join(folder, name)
            if stat.S_ISREG(os.lstat(target).st_mode):
                fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
        sync_dir(Path(folder))
