"""Generated directories and files, and what opening one gives."""

from __future__ import annotations

import errno
import stat as st
import zlib
from typing import TYPE_CHECKING, ClassVar

from prong.cell.core.errors import SysErr
from prong.cell.core.file import File
from prong.cell.core.saved import saved
from prong.cell.fs.dirs import Directory, Entry
from prong.cell.fs.files import SEEK_CUR, SEEK_END, SEEK_SET, NodeFile
from prong.cell.fs.nodes import Node, Symlink

if TYPE_CHECKING:
    from collections.abc import Callable

    from prong.cell.fs.state import FsState
    from prong.cell.fs.volume import Volume
    from prong.cell.kernel import Kernel

    Maker = Callable[[Kernel, int], bytes]
    Taker = Callable[[Kernel, int, bytes], None]

TEXTS: dict[str, Maker] = {}
"""Path below the volume (``/self`` for the process, ``/task`` for a thread) → function ``(kernel, tid) -> bytes``."""

TAKERS: dict[str, Taker] = {}
"""The few texts that can be written: path → function ``(kernel, tid, data)``; SysErr for a bad value."""

LINKS: dict[str, Maker] = {}
"""Path → function that makes a symbolic link's text."""

FIXED: dict[str, str] = {}
"""Path → text that never changes (most of /sys)."""


def text(*paths: str) -> Callable[[Maker], Maker]:
    """Decorator: this function makes the text of ``paths``."""

    def register(maker: Maker) -> Maker:
        for path in paths:
            if path in TEXTS:
                raise ValueError(f"two functions make {path}")
            TEXTS[path] = maker
        return maker

    return register


def taker(*paths: str) -> Callable[[Taker], Taker]:
    """Decorator: this function takes what is written to ``paths``."""

    def register(function: Taker) -> Taker:
        TAKERS.update(dict.fromkeys(paths, function))
        return function

    return register


def stable_ino(path: str, tid: int) -> int:
    """The same number for the same file, every time it is looked up."""
    return 0xF0000000 + zlib.crc32(f"{path}:{tid}".encode()) % 0x0FFFFFFF


def kernel_of(volume: Volume) -> Kernel:
    """The cell a generated volume tells of; SysErr(EIO) before it is attached to one."""
    if volume.fs is None or volume.fs.kernel is None:
        raise SysErr(errno.EIO)
    return volume.fs.kernel


@saved("fs.text")
class TextNode(Node):
    """A generated file. ``key``: its path in :data:`TEXTS`; ``tid``: the thread it tells of, 0 if none."""

    __slots__ = ("key", "tid")

    def __init__(self, volume: Volume, key: str, tid: int, mode: int) -> None:
        super().__init__(volume, stable_ino(key, tid), st.S_IFREG | mode, 0)
        if volume.fs is not None:
            self.atime_ns = self.mtime_ns = self.ctime_ns = volume.fs.now()
        self.key = key
        self.tid = tid

    def allocated(self) -> int:
        """Nothing is held."""
        return 0

    def make(self) -> bytes:
        """The text as of now."""
        fixed = FIXED.get(self.key)
        if fixed is not None:
            return fixed.encode()
        return TEXTS[self.key](kernel_of(self.volume), self.tid)


@saved("fs.file.text")
class TextFile(NodeFile):
    """An open generated file: the text is made when reading starts and again after a seek to the start."""

    kind: ClassVar[str] = "text"
    node: TextNode

    def __init__(self, fs: FsState, node: TextNode, flags: int, where: tuple[Directory, bytes] | None = None) -> None:
        super().__init__(fs, node, flags, where)
        self.text: bytes | None = None

    def read(self, size: int) -> bytes:
        """From the position on."""
        data = self.pread(size, self.pos)
        self.pos += len(data)
        return data

    def pread(self, size: int, offset: int) -> bytes:
        """From ``offset``."""
        if self.text is None or offset == 0:
            self._drop_text()
            text = self.node.make()
            self.fs.hold_listing(len(text))
            self.text = text
        return self.text[offset : offset + size]

    def _drop_text(self) -> None:
        if self.text is not None:
            self.fs.hold_listing(-len(self.text))
            self.text = None

    def release(self) -> None:
        """Also lets the text go."""
        self._drop_text()
        super().release()

    def write(self, data: bytes) -> int:
        """For the few that take something."""
        function = TAKERS.get(self.node.key)
        if function is None:
            raise SysErr(errno.EINVAL)
        function(kernel_of(self.node.volume), self.node.tid, data[:4096])
        return len(data)

    def pwrite(self, data: bytes, offset: int) -> int:
        """As write."""
        return self.write(data)

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2); the end is not known, so SEEK_END is EINVAL as for most of /proc."""
        if whence == SEEK_CUR:
            offset += self.pos
        elif whence not in (SEEK_SET, SEEK_END) or whence == SEEK_END:
            raise SysErr(errno.EINVAL)
        if offset < 0:
            raise SysErr(errno.EINVAL)
        if offset == 0:
            self._drop_text()
        self.pos = offset
        return offset

    def reopen(self, flags: int) -> File:
        """Open the same node anew."""
        return open_text(self.fs, self.node, flags, self.where)


def open_text(fs: FsState, node: TextNode, flags: int, where: tuple[Directory, bytes] | None) -> TextFile:
    """Open a generated file; SysErr(EACCES) for writing one that takes nothing."""
    if flags & 3 and node.key not in TAKERS:
        raise SysErr(errno.EACCES)
    return TextFile(fs, node, flags, where)


@saved("fs.textdir")
class TextDir(Directory):
    """A generated directory: its entries are the next path components of the registered texts below ``key``."""

    __slots__ = ("key", "tid")

    def __init__(self, volume: Volume, key: str, tid: int, parent: Directory | None, name: bytes) -> None:
        super().__init__(volume, stable_ino(key + "/", tid), 0o555, 0, parent, name)
        if volume.fs is not None:
            self.atime_ns = self.mtime_ns = self.ctime_ns = volume.fs.now()
        self.key = key
        self.tid = tid

    @property
    def size(self) -> int:
        """Generated directories are 0 long."""
        return 0

    def lookup(self, name: bytes) -> Node | None:
        """From the tables."""
        kind = names_below(self.key).get(name)
        if kind is None:
            return None
        return self.child(name, f"{self.key}/{name.decode()}", kind)

    def child(self, name: bytes, key: str, kind: int) -> Node:
        """The node for a table entry."""
        if kind == st.S_IFDIR:
            return TextDir(self.volume, key, self.tid, self, name)
        if kind == st.S_IFLNK:
            link = Symlink(self.volume, stable_ino(key, self.tid), LINKS[key](kernel_of(self.volume), self.tid), 0)
            link.atime_ns = link.mtime_ns = link.ctime_ns = self.mtime_ns
            return link
        return TextNode(self.volume, key, self.tid, 0o644 if key in TAKERS else 0o444)

    def entries(self) -> list[Entry]:
        """From the tables."""
        return [
            (name, stable_ino(f"{self.key}/{name.decode()}" + "/" * (kind == st.S_IFDIR), self.tid), kind)
            for name, kind in names_below(self.key).items()
        ]


_below: dict[str, dict[bytes, int]] = {}


def names_below(key: str) -> dict[bytes, int]:
    """The names right below a path of the tables, and their type bits; computed once."""
    if not _below:
        _index()
    return _below.get(key, {})


def _index() -> None:
    kinds = dict.fromkeys([*TEXTS, *FIXED], st.S_IFREG) | dict.fromkeys(LINKS, st.S_IFLNK)
    for path, kind in kinds.items():
        while path:
            path, _, name = path.rpartition("/")
            names = _below.setdefault(path, {})
            if name.encode() in names:
                break
            names[name.encode()] = kind
            kind = st.S_IFDIR
