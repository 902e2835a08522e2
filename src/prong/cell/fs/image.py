"""The image: installed files, read only. The one place of the file layer that touches the host.

Every path given here is an absolute path *inside the image* whose directories were already found, one component at a time,
to be real directories; the last component is never followed. So the host resolves no symbolic link for us, and since an
image never changes while it is used, no check can be outrun.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from typing import Protocol, runtime_checkable

from prong.cell.core.errors import SysErr
from prong.cell.core.saved import saved

MAX_FDS = 24
"""Host descriptors kept open for reading; the least recently used is closed first."""


@runtime_checkable
class ImageEnv(Protocol):
    """What a receiving cell may tell: where its image is. Without it the image is ``/``, as in the jail."""

    image_root: bytes


@saved("fs.image", skip=("_fds", "root"))
class ImageSource:
    """Reads one image. ``root``: host directory that is its root; ``b""`` inside the jail, where ``/`` itself is the image.

    Which image a snapshot is for is the receiver's to say, so ``root`` is not part of it. A path with ``..`` in it (only a
    forged snapshot could hold one) is EIO. Raises SysErr(EACCES) where the host denies, EIO for any other host error.
    """

    def __init__(self, root: bytes = b"") -> None:
        self.root = root.rstrip(b"/")
        self._fds: OrderedDict[bytes, int] = OrderedDict()

    def after_load(self, env: object) -> None:
        """The image is the receiver's; descriptors are opened again when needed."""
        self.root = env.image_root.rstrip(b"/") if isinstance(env, ImageEnv) else b""
        self._fds = OrderedDict()

    def _host(self, path: bytes) -> bytes:
        """The host's path of an image path."""
        if b".." in path and b".." in path.split(b"/"):
            raise SysErr(errno.EIO)
        return (self.root + path) or b"/"

    def lstat(self, path: bytes) -> os.stat_result | None:
        """What is at ``path``, not following it; None if nothing."""
        try:
            return os.lstat(self._host(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            raise SysErr(errno.EACCES if e.errno == errno.EACCES else errno.EIO) from e

    def readlink(self, path: bytes) -> bytes:
        """The target of the symbolic link ``path``."""
        try:
            return os.readlink(self._host(path))
        except OSError as e:
            raise SysErr(errno.EIO) from e

    def scan(self, path: bytes) -> list[tuple[bytes, int, int]]:
        """The entries of a directory as (name, inode number, mode's type bits), in the host's order."""
        try:
            with os.scandir(self._host(path)) as entries:
                return [(e.name, e.inode(), _type_bits(e)) for e in entries]
        except PermissionError as e:
            raise SysErr(errno.EACCES) from e
        except OSError as e:
            raise SysErr(errno.EIO) from e

    def pread(self, path: bytes, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes of a regular file from ``offset``."""
        try:
            return os.pread(self._fd(path), size, offset)
        except OSError as e:
            raise SysErr(errno.EIO) from e

    def pread_into(self, path: bytes, view: memoryview, offset: int) -> int:
        """Fill ``view`` from ``offset``; returns the bytes that were there."""
        fd = self._fd(path)
        done = 0
        try:
            while done < len(view):
                got = os.preadv(fd, [view[done:]], offset + done)
                if not got:
                    break
                done += got
        except OSError as e:
            raise SysErr(errno.EIO) from e
        return done

    def close(self) -> None:
        """Close every host descriptor."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _fd(self, path: bytes) -> int:
        fd = self._fds.get(path)
        if fd is not None:
            self._fds.move_to_end(path)
            return fd
        try:
            fd = os.open(self._host(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as e:
            raise SysErr(errno.EACCES if e.errno == errno.EACCES else errno.EIO) from e
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise SysErr(errno.EIO)
        if len(self._fds) >= MAX_FDS:
            os.close(self._fds.popitem(last=False)[1])
        self._fds[path] = fd
        return fd


def _type_bits(entry: os.DirEntry[bytes]) -> int:
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    if entry.is_symlink():
        return stat.S_IFLNK
    return stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
