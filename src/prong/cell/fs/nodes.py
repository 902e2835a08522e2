"""Nodes: what a name leads to. Attributes shared by all kinds, and the plain kinds; directories are in ``dirs.py``."""

from __future__ import annotations

import errno
import stat as st
from typing import TYPE_CHECKING, Any

from prong.cell.core.errors import SysErr
from prong.cell.core.file import Stat
from prong.cell.core.saved import saved
from prong.cell.fs.content import Content

if TYPE_CHECKING:
    from prong.cell.fs.dirs import Directory
    from prong.cell.fs.inotify import Watch
    from prong.cell.fs.locks import FileLocks
    from prong.cell.fs.volume import Volume


class Node:
    """An inode.

    ``volume``: the file system it is on. ``mode``: type and permission bits. ``opens``: how many open files, working
    directories and watches hold it, so that it is neither forgotten nor freed. ``dirty``: it says something the image does
    not. ``where``: a (directory, name) it was last known under, for /proc/self/fd.
    """

    __slots__ = (
        "atime_ns",
        "ctime_ns",
        "dirty",
        "gid",
        "ino",
        "locks",
        "mode",
        "mtime_ns",
        "nlink",
        "opens",
        "rdev",
        "uid",
        "volume",
        "watches",
        "where",
        "xattrs",
    )

    def __init__(self, volume: Volume, ino: int, mode: int, now: int) -> None:
        self.volume = volume
        self.ino = ino
        self.mode = mode
        self.uid = 0
        self.gid = 0
        self.nlink = 1
        self.rdev = 0
        self.atime_ns = self.mtime_ns = self.ctime_ns = now
        self.opens = 0
        self.dirty = True
        self.where: tuple[Directory, bytes] | None = None
        self.xattrs: dict[bytes, bytes] | None = None
        self.watches: list[Watch] | None = None
        self.locks: FileLocks | None = None

    @property
    def is_dir(self) -> bool:
        """A directory."""
        return self.mode & 0o170000 == 0o040000

    @property
    def is_link(self) -> bool:
        """A symbolic link."""
        return self.mode & 0o170000 == 0o120000

    @property
    def is_regular(self) -> bool:
        """A regular file."""
        return self.mode & 0o170000 == 0o100000

    @property
    def size(self) -> int:
        """st_size in bytes."""
        return 0

    def allocated(self) -> int:
        """Bytes held, for st_blocks."""
        return (self.size + 4095) & ~4095

    def stat(self) -> Stat:
        """What stat(2) tells."""
        return Stat(
            ino=self.ino,
            mode=self.mode,
            nlink=self.nlink,
            uid=self.uid,
            gid=self.gid,
            size=self.size,
            rdev=self.rdev,
            dev=self.volume.dev,
            atime_ns=self.atime_ns,
            mtime_ns=self.mtime_ns,
            ctime_ns=self.ctime_ns,
        )

    def content(self) -> Content:
        """The bytes, ours to change; SysErr(EINVAL) for what has none."""
        raise SysErr(errno.EINVAL)

    def forget(self) -> None:
        """No name and no open file is left: give back what is held. Doing it twice is harmless."""
        if self.xattrs:
            self.volume.quota.refund(sum(len(n) + len(v) for n, v in self.xattrs.items()))
            self.xattrs = None

    def drop_open(self) -> None:
        """One holder less; the last one of a nameless node frees it."""
        self.opens -= 1
        if self.opens == 0 and self.nlink == 0:
            self.forget()

    def drop_link(self, now: int) -> None:
        """One name less."""
        self.nlink -= 1
        self.ctime_ns = now
        self.dirty = True
        if self.nlink == 0 and self.opens == 0:
            self.forget()


@saved("fs.regular")
class Regular(Node):
    """A regular file: the image's bytes at ``lower`` until it is written, then :class:`Content`."""

    __slots__ = ("_size", "data", "lower", "seals", "tmpfile")

    def __init__(self, volume: Volume, ino: int, mode: int, now: int, lower: bytes | None = None, size: int = 0) -> None:
        super().__init__(volume, ino, mode, now)
        self.lower = lower
        self._size = size
        self.data: Content | None = None if lower is not None else Content(volume.quota)
        self.seals = 1
        """F_SEAL_* bits; F_SEAL_SEAL alone, as here, means no seals and none allowed."""
        self.tmpfile = False
        """Made by O_TMPFILE and still allowed to get a name by linkat(2)."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size if self.data is None else self.data.size

    def allocated(self) -> int:
        """Bytes held."""
        return (self.size if self.data is None else self.data.allocated()) + 511 & ~511

    def content(self) -> Content:
        """The bytes, copied up on the first call (chunks follow when they are written)."""
        if self.data is None:
            self.data = Content(self.volume.quota, self.volume.image, self.lower or b"", self._size)
            self.dirty = True
        return self.data

    def read(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset``."""
        if self.data is not None:
            return self.data.read(offset, size)
        size = min(size, self._size - offset)
        if size <= 0:
            return b""
        image = self.volume.image
        assert image is not None and self.lower is not None
        return image.pread(self.lower, size, offset)

    def fill(self, offset: int, view: memoryview) -> None:
        """Copy bytes from ``offset`` into ``view``, zeros past the end."""
        if self.data is not None:
            self.data.fill(offset, view)
            return
        image = self.volume.image
        assert image is not None and self.lower is not None
        have = max(0, min(len(view), self._size - offset))
        got = image.pread_into(self.lower, view[:have], offset) if have else 0
        view[got:] = bytes(len(view) - got)

    def forget(self) -> None:
        """Free the bytes."""
        super().forget()
        if self.data is not None:
            self.data.free()


@saved("fs.symlink")
class Symlink(Node):
    """A symbolic link with a fixed text."""

    __slots__ = ("paid", "target")

    def __init__(self, volume: Volume, ino: int, target: bytes, now: int) -> None:
        super().__init__(volume, ino, st.S_IFLNK | 0o777, now)
        self.target = target
        self.paid = 0
        """Bytes charged for the text."""

    @property
    def size(self) -> int:
        """Length of the text."""
        return len(self.target)

    def allocated(self) -> int:
        """The text lives in the inode."""
        return 0

    def forget(self) -> None:
        """Give back what the text cost."""
        super().forget()
        self.volume.quota.refund(self.paid)
        self.paid = 0


@saved("fs.special")
class Special(Node):
    """A FIFO, socket or device node. ``state`` belongs to whoever implements it (a pipe, a bound socket)."""

    __slots__ = ("state",)

    def __init__(self, volume: Volume, ino: int, mode: int, now: int, rdev: int = 0) -> None:
        super().__init__(volume, ino, mode, now)
        self.rdev = rdev
        self.state: Any = None


class MagicLink(Node):
    """A link of /proc that leads to an object, not to a text: ``text()`` for readlink(2), ``jump()`` for following it."""

    __slots__ = ()

    def text(self) -> bytes:
        """What readlink(2) returns."""
        raise NotImplementedError

    def jump(self) -> Node:
        """The node it leads to; SysErr(ENOENT) if the object is gone."""
        raise NotImplementedError
