"""Directories: names → nodes. The base class, and the directory of the overlay, merged from the image and the changes."""

from __future__ import annotations

import errno
import stat as st
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.saved import saved
from prong.cell.fs.content import NAME_COST
from prong.cell.fs.nodes import Node, Regular, Special, Symlink

if TYPE_CHECKING:
    import os

    from prong.cell.fs.volume import Volume

Entry = tuple[bytes, int, int]
"""A directory entry: name, inode number, the mode's type bits."""


class Directory(Node):
    """A directory; it has one parent and one name, ``dead`` once it was removed. The root of a volume may be mounted."""

    __slots__ = ("dead", "name", "parent")

    def __init__(self, volume: Volume, ino: int, mode: int, now: int, parent: Directory | None, name: bytes) -> None:
        super().__init__(volume, ino, st.S_IFDIR | mode & 0o7777, now)
        self.parent: Directory = parent if parent is not None else self
        self.name = name
        self.dead = False
        self.nlink = 2

    @property
    def size(self) -> int:
        """What most file systems tell."""
        return 4096

    @property
    def is_mount(self) -> bool:
        """The root of a volume."""
        return self.parent is self or self.parent.volume is not self.volume

    def lookup(self, name: bytes) -> Node | None:
        """The node called ``name`` (never ``.`` or ``..``), or None."""
        raise NotImplementedError

    def entries(self) -> list[Entry]:
        """All entries but ``.`` and ``..``."""
        raise NotImplementedError

    def insert(self, name: bytes, node: Node, now: int) -> None:
        """Let ``name`` lead to ``node``, replacing what it led to."""
        raise SysErr(errno.EPERM)

    def remove(self, name: bytes, now: int) -> None:
        """Take ``name`` out."""
        raise SysErr(errno.EPERM)

    def is_empty(self) -> bool:
        """No entries but ``.`` and ``..``."""
        return not self.entries()

    def path(self) -> bytes:
        """Absolute path in the cell for now; of one over 4096 bytes only the end, after ``...``."""
        parts: list[bytes] = []
        size = 0
        here: Directory = self
        while here.parent is not here and size < 4096:
            parts.append(here.name)
            size += len(here.name) + 1
            here = here.parent
        parts.append(b"" if here.parent is here else b"...")
        return b"/".join(reversed(parts)) or b"/"


@saved("fs.directory")
class OverlayDir(Directory):
    """A directory of the overlay (or of a tmpfs, then without ``lower``).

    ``children`` holds what was looked up or changed; None is a whiteout. A name that is not in ``children`` is looked up in
    the image directory ``lower``. A directory that the program made has no ``lower``: nothing of the image shows through.
    """

    __slots__ = ("children", "listing", "lower", "own_names")

    def __init__(
        self,
        volume: Volume,
        ino: int,
        mode: int,
        now: int,
        parent: Directory | None,
        name: bytes,
        lower: bytes | None = None,
    ) -> None:
        super().__init__(volume, ino, mode, now, parent, name)
        self.children: dict[bytes, Node | None] = {}
        self.lower = lower
        self.own_names: set[bytes] = set()
        """Names the program was charged for."""
        self.listing: bytes | None = None
        """Encoded entries for getdents64(2), dropped at every change."""

    def lookup(self, name: bytes) -> Node | None:
        """From memory, else from the image."""
        try:
            return self.children[name]
        except KeyError:
            if self.lower is None:
                return None
        return self._materialise(name)

    def _materialise(self, name: bytes) -> Node | None:
        """Make the clean node for an image file."""
        volume = self.volume
        image = volume.image
        assert image is not None and self.lower is not None
        path = self.lower + b"/" + name
        info = image.lstat(path)
        if info is None:
            return None
        node = _from_image(self, name, path, info)
        self.children[name] = node
        volume.clean += 1
        return node

    def entries(self) -> list[Entry]:
        """Changes merged over the image's names."""
        children = self.children
        found: list[Entry] = []
        if self.lower is not None:
            assert self.volume.image is not None
            found = [e for e in self.volume.image.scan(self.lower) if e[0] not in children]
        found += [(name, n.ino, n.mode & 0o170000) for name, n in children.items() if n is not None]
        return found

    def insert(self, name: bytes, node: Node, now: int) -> None:
        """Charged as one name; SysErr(ENOSPC), ENOENT in a removed directory."""
        if self.dead:
            raise SysErr(errno.ENOENT)
        if name not in self.own_names:
            self.volume.quota.charge(NAME_COST)
            self.own_names.add(name)
        self.children[name] = node
        node.where = (self, name)
        self._changed(now)

    def remove(self, name: bytes, now: int) -> None:
        """Leaves a whiteout only where the image has the name, so that whiteouts cannot pile up."""
        if name in self.own_names:
            self.own_names.discard(name)
            self.volume.quota.refund(NAME_COST)
        if self.lower is not None and self.volume.image is not None and self.volume.image.lstat(self.lower + b"/" + name):
            self.children[name] = None
        else:
            self.children.pop(name, None)
        self._changed(now)

    def _changed(self, now: int) -> None:
        self.dirty = True
        self.listing = None
        self.mtime_ns = self.ctime_ns = now

    def is_empty(self) -> bool:
        """No name left, of the image or ours."""
        children = self.children
        if any(n is not None for n in children.values()):
            return False
        if self.lower is None:
            return True
        assert self.volume.image is not None
        return all(e[0] in children for e in self.volume.image.scan(self.lower))


def _from_image(directory: OverlayDir, name: bytes, path: bytes, info: os.stat_result) -> Node:
    """The clean node for what ``lstat`` told of an image path. Everything is owned by root, as installed."""
    volume = directory.volume
    assert volume.image is not None
    now = info.st_mtime_ns
    kind = st.S_IFMT(info.st_mode)
    node: Node
    if kind == st.S_IFDIR:
        node = OverlayDir(volume, info.st_ino, info.st_mode, now, directory, name, path)
        node.nlink = info.st_nlink
    elif kind == st.S_IFLNK:
        node = Symlink(volume, info.st_ino, volume.image.readlink(path), now)
    elif kind == st.S_IFREG:
        known = volume.hard_links.get(info.st_ino) if info.st_nlink > 1 else None
        if known is not None:
            return known
        node = Regular(volume, info.st_ino, info.st_mode, now, path, info.st_size)
        node.nlink = info.st_nlink
        if info.st_nlink > 1:
            volume.hard_links[info.st_ino] = node
    else:
        node = Special(volume, info.st_ino, info.st_mode, now, info.st_rdev)
    node.atime_ns = info.st_atime_ns
    node.ctime_ns = info.st_ctime_ns
    node.dirty = False
    node.where = (directory, name)
    return node
