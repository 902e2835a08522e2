"""Open files over nodes: regular files, directories, and O_PATH handles."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, ClassVar

from prong.cell.core.errors import SysErr
from prong.cell.core.file import O_APPEND, O_PATH, File, Stat
from prong.cell.core.saved import saved
from prong.cell.fs import inotify
from prong.cell.fs.content import MAX_SIZE
from prong.cell.fs.dirs import Directory, OverlayDir
from prong.cell.fs.nodes import Node, Regular

if TYPE_CHECKING:
    from prong.cell.core.memory import FrameSource
    from prong.cell.fs.state import FsState
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE = range(5)
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE, F_SEAL_EXEC = 1, 2, 4, 8, 16, 32
FIONREAD = 0x541B


class NodeFile(File):
    """An open file that has a node. ``where`` is the (directory, name) it was opened by, for /proc/self/fd."""

    kind: ClassVar[str] = "node"
    seekable: ClassVar[bool] = True

    def __init__(self, fs: FsState, node: Node, flags: int, where: tuple[Directory, bytes] | None = None) -> None:
        super().__init__(flags)
        self.fs = fs
        self.node = node
        self.where = where
        node.opens += 1

    def stat(self) -> Stat:
        """The node's."""
        return self.node.stat()

    def link_text(self) -> str:
        """The path, as Linux shows it: followed by `` (deleted)`` if no name leads here any more."""
        return node_path(self.node, self.where).decode("utf-8", "surrogateescape")

    def release(self) -> None:
        """The node loses a holder; locks of this open file go."""
        node = self.node
        if node.locks is not None:
            node.locks.drop(self)
        if node.watches or node.where:
            inotify.closed(node, self)
        node.drop_open()


def node_path(node: Node, where: tuple[Directory, bytes] | None = None) -> bytes:
    """A path that leads to ``node``: by ``where`` if that still holds, else by where it was last seen."""
    if isinstance(node, Directory):
        return node.path() + (b" (deleted)" if node.dead else b"")
    for place in (where, node.where):
        if place is not None and not place[0].dead and place[0].lookup(place[1]) is node:
            return place[0].path().rstrip(b"/") + b"/" + place[1]
    if where is None:
        return b"/"
    return where[0].path().rstrip(b"/") + b"/" + where[1] + b" (deleted)"


@saved("fs.file.regular")
class RegularFile(NodeFile):
    """An open regular file of the overlay, the image or memory."""

    kind: ClassVar[str] = "regular"
    node: Regular

    def read(self, size: int) -> bytes:
        """From the position on."""
        data = self.node.read(self.pos, size)
        self.pos += len(data)
        if data and self.node.where is not None:
            inotify.touched(self.node, inotify.IN_ACCESS)
        return data

    def pread(self, size: int, offset: int) -> bytes:
        """From ``offset``."""
        return self.node.read(offset, size)

    def write(self, data: bytes) -> int:
        """At the position, or at the end with O_APPEND."""
        if not data:
            return 0
        at = self.node.size if self.flags & O_APPEND else self.pos
        done = self._store(data, at)
        self.pos = at + done
        return done

    def pwrite(self, data: bytes, offset: int) -> int:
        """At ``offset``; with O_APPEND at the end all the same, as Linux does (pwrite(2) BUGS)."""
        return self._store(data, self.node.size if self.flags & O_APPEND else offset)

    def _store(self, data: bytes, at: int) -> int:
        if not data:
            return 0
        node = self.node
        if node.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
            raise SysErr(errno.EPERM)
        if at >= MAX_SIZE:
            raise SysErr(errno.EFBIG)
        if node.seals & F_SEAL_GROW and at + len(data) > node.size:
            data = data[: max(0, node.size - at)]
            if not data:
                raise SysErr(errno.EPERM)
        done = node.content().write(at, data[: MAX_SIZE - at])
        node.mtime_ns = node.ctime_ns = self.fs.now()
        if node.where is not None:
            inotify.touched(node, inotify.IN_MODIFY)
        return done

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2); SysErr(EINVAL) for a position below zero, ENXIO for SEEK_DATA and SEEK_HOLE past the end."""
        node = self.node
        if whence in (SEEK_DATA, SEEK_HOLE):
            if offset < 0 or offset >= node.size:
                raise SysErr(errno.ENXIO)
            offset = self._data_or_hole(offset, whence)
        elif whence == SEEK_CUR:
            offset += self.pos
        elif whence == SEEK_END:
            offset += node.size
        elif whence != SEEK_SET:
            raise SysErr(errno.EINVAL)
        if offset < 0 or offset > MAX_SIZE:
            raise SysErr(errno.EINVAL)
        self.pos = offset
        return offset

    def _data_or_hole(self, offset: int, whence: int) -> int:
        node = self.node
        if node.data is None:
            return offset if whence == SEEK_DATA else node.size
        found = node.data.next_data(offset) if whence == SEEK_DATA else node.data.next_hole(offset)
        if found is None:
            raise SysErr(errno.ENXIO)
        return found

    def truncate(self, size: int) -> None:
        """ftruncate(2)."""
        truncate_node(self.fs, self.node, size)

    def ioctl(self, kernel: Kernel, task: Task, request: int, arg: int) -> int:
        """FIONREAD: what is left to read."""
        if request == FIONREAD:
            kernel.mem.put_u32(arg, (self.node.size - self.pos) & 0xFFFFFFFF)
            return 0
        raise SysErr(errno.ENOTTY)

    def fill(self, offset: int, view: memoryview) -> None:
        """Bytes for a private mapping."""
        self.node.fill(offset, view)

    def shared_frames(self, frames: FrameSource, first_page: int, count: int) -> list[int]:
        """The file's own frames."""
        return self.node.content().share(frames, first_page, count)

    def map_size(self) -> int:
        """Bytes."""
        return self.node.size

    def reopen(self, flags: int) -> File:
        """Open the same node anew (through /proc/self/fd)."""
        return RegularFile(self.fs, self.node, flags, self.where)


def truncate_node(fs: FsState, node: Node, size: int) -> None:
    """Set a regular file's length; SysErr: EINVAL for other kinds, EISDIR, EFBIG, EPERM (sealed)."""
    if node.is_dir:
        raise SysErr(errno.EISDIR)
    if not isinstance(node, Regular):
        raise SysErr(errno.EINVAL)
    if (size < node.size and node.seals & F_SEAL_SHRINK) or (size > node.size and node.seals & F_SEAL_GROW):
        raise SysErr(errno.EPERM)
    if size > MAX_SIZE:
        raise SysErr(errno.EFBIG)
    node.content().truncate(size)
    node.mtime_ns = node.ctime_ns = fs.now()
    if node.where is not None:
        inotify.touched(node, inotify.IN_MODIFY)


DIRENT64 = struct.Struct("<QqHB")


def encode_listing(entries: list[tuple[bytes, int, int]]) -> bytes:
    """Entries as linux_dirent64 records (getdents64(2)); each d_off is the byte offset of the next record."""
    out = bytearray()
    pack = DIRENT64.pack
    for name, ino, kind in entries:
        length = (20 + len(name) + 7) & ~7
        out += pack(ino, len(out) + length, length, kind >> 12)
        out += name + bytes(length - 19 - len(name))
    return bytes(out)


@saved("fs.file.directory")
class DirFile(NodeFile):
    """An open directory. The position is a byte offset into the listing taken when reading began."""

    kind: ClassVar[str] = "directory"
    node: Directory

    def __init__(self, fs: FsState, node: Directory, flags: int, where: tuple[Directory, bytes] | None = None) -> None:
        super().__init__(fs, node, flags, where)
        self.listing: bytes | None = None

    def records(self) -> bytes:
        """The listing; SysErr(ENOENT) if the directory was removed, ENOMEM if open directories hold too much."""
        if self.listing is None:
            node = self.node
            if node.dead:
                raise SysErr(errno.ENOENT)
            listing = node.listing if isinstance(node, OverlayDir) else None
            if listing is None:
                up = node.parent
                dots = [(b".", node.ino, 0o040000), (b"..", up.ino, 0o040000)]
                listing = encode_listing(dots + node.entries())
                if isinstance(node, OverlayDir):
                    node.listing = listing
            self.fs.hold_listing(len(listing))
            self.listing = listing
        return self.listing

    def read(self, size: int) -> bytes:
        """Directories are not read as bytes."""
        raise SysErr(errno.EISDIR)

    def pread(self, size: int, offset: int) -> bytes:
        """Nor here."""
        raise SysErr(errno.EISDIR)

    def seek(self, offset: int, whence: int) -> int:
        """To a d_off value; to 0 takes a new listing."""
        if whence == SEEK_CUR:
            offset += self.pos
        elif whence == SEEK_END:
            offset += len(self.records())
        elif whence != SEEK_SET:
            raise SysErr(errno.EINVAL)
        if offset < 0:
            raise SysErr(errno.EINVAL)
        if offset == 0:
            self._drop_listing()
        elif offset != self.pos:
            offset = self._record_at(offset)
        self.pos = offset
        return offset

    def _record_at(self, offset: int) -> int:
        """The start of the first record at or after ``offset``."""
        listing = self.records()
        at = 0
        while at < offset and at < len(listing):
            at += int.from_bytes(listing[at + 16 : at + 18], "little")
        return at

    def _drop_listing(self) -> None:
        if self.listing is not None:
            self.fs.hold_listing(-len(self.listing))
            self.listing = None

    def release(self) -> None:
        """Also lets the listing go."""
        self._drop_listing()
        super().release()


@saved("fs.file.path")
class PathFile(NodeFile):
    """An O_PATH handle: it names a node and does nothing else; every operation on content is EBADF."""

    kind: ClassVar[str] = "path"
    seekable: ClassVar[bool] = False

    def __init__(self, fs: FsState, node: Node, flags: int, where: tuple[Directory, bytes] | None = None) -> None:
        super().__init__(fs, node, flags & (O_PATH | 0o200000 | 0o400000), where)

    def seek(self, offset: int, whence: int) -> int:
        """Not through a handle."""
        raise SysErr(errno.EBADF)

    def truncate(self, size: int) -> None:
        """Not through a handle."""
        raise SysErr(errno.EBADF)

    def ioctl(self, kernel: Kernel, task: Task, request: int, arg: int) -> int:
        """Not through a handle."""
        raise SysErr(errno.EBADF)

    def poll(self) -> int:
        """POLLNVAL: poll(2) treats the descriptor as not open."""
        return 0x20
