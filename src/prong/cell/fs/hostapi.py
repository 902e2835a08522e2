"""The tree as the host uses it, to put files into a cell and get them out while the program does not run.

Paths are absolute in the cell (a relative one starts at ``/``), symbolic links in them are followed inside the cell only.
Every function raises SysErr with the errno the system call of that kind would give.
"""

from __future__ import annotations

import errno
import stat as st
from typing import TYPE_CHECKING, NamedTuple

from prong.cell.core.errors import SysErr
from prong.cell.core.file import Stat
from prong.cell.fs import inotify, ops
from prong.cell.fs.content import CHUNK, CHUNK_COST
from prong.cell.fs.dirs import Directory, OverlayDir
from prong.cell.fs.files import truncate_node
from prong.cell.fs.nodes import MagicLink, Node, Regular, Symlink
from prong.cell.fs.proc.nodes import TextNode
from prong.cell.fs.walk import Found, walk

if TYPE_CHECKING:
    from prong.cell.fs.state import FsState

MAX_READ = 16 << 20
"""Bytes one :func:`read_file` returns at most."""


class DirEntry(NamedTuple):
    """One name of a directory and what stat(2) tells of it (a symbolic link is not followed)."""

    name: bytes
    stat: Stat


def _find(fs: FsState, path: bytes, *, follow: bool = True, parent_only: bool = False) -> Found:
    if b"\0" in path:
        raise SysErr(errno.EINVAL)
    return walk(fs, fs.base, path, follow=follow, parent_only=parent_only)


def exists(fs: FsState, path: bytes) -> bool:
    """Whether ``path`` leads anywhere."""
    try:
        return _find(fs, path).node is not None
    except SysErr as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise


def stat_path(fs: FsState, path: bytes, *, follow: bool = True) -> Stat:
    """What stat(2) (or lstat(2)) tells."""
    return _find(fs, path, follow=follow).existing().stat()


def read_link(fs: FsState, path: bytes) -> bytes:
    """A symbolic link's text; SysErr(EINVAL) if it is none."""
    node = _find(fs, path, follow=False).existing()
    if isinstance(node, MagicLink):
        return node.text()
    if isinstance(node, Symlink):
        return node.target
    raise SysErr(errno.EINVAL)


def read_file(fs: FsState, path: bytes, offset: int = 0, size: int = MAX_READ) -> bytes:
    """Up to ``size`` (at most 16 MiB) bytes of a regular file from ``offset``; empty at its end."""
    node = _find(fs, path).existing()
    if offset < 0 or size < 0:
        raise SysErr(errno.EINVAL)
    if isinstance(node, TextNode):
        return node.make()[offset : offset + min(size, MAX_READ)]
    return _regular(node).read(offset, min(size, MAX_READ))


def _regular(node: Node) -> Regular:
    if node.is_dir:
        raise SysErr(errno.EISDIR)
    if not isinstance(node, Regular):
        raise SysErr(errno.EINVAL)
    return node


def write_file(fs: FsState, path: bytes, data: bytes, offset: int = 0, *, truncate: bool = True, mode: int = 0o644) -> int:
    """Write all of ``data`` at ``offset`` into a file, made with ``mode`` if it is not there; returns its new size.

    ``truncate`` empties it first when ``offset`` is 0. What is too big for the overlay is SysErr(ENOSPC), and then nothing
    has changed: the room is made sure of before the first byte.
    """
    if offset < 0:
        raise SysErr(errno.EINVAL)
    found = _find(fs, path)
    fresh = found.node is None
    if found.node is None:
        node = ops.make_regular(fs, found, mode)
        node.mode = st.S_IFREG | mode & 0o7777
    else:
        node = _regular(found.node)
    try:
        _store(fs, node, data, offset, truncate and not offset)
    except SysErr:
        if fresh:
            ops.unlink(fs, found._replace(node=node))
        raise
    node.mtime_ns = node.ctime_ns = fs.now()
    inotify.touched(node, inotify.IN_MODIFY)
    return node.size


def _store(fs: FsState, node: Regular, data: bytes, offset: int, empty_first: bool) -> None:
    """Write all or nothing."""
    if empty_first:
        held = node.data.charged() if node.data is not None else 0
        cost = len(data) + CHUNK_COST * ((len(data) + CHUNK - 1) // CHUNK)
        if fs.quota.used - held + cost > fs.quota.limit:
            raise SysErr(errno.ENOSPC)
        truncate_node(fs, node, 0)
    elif data:
        node.content().allocate(offset, len(data))
    if data:
        node.content().write(offset, data)


def list_dir(fs: FsState, path: bytes) -> list[DirEntry]:
    """The entries of a directory in name order, without ``.`` and ``..``."""
    node = _find(fs, path).existing()
    if not isinstance(node, Directory):
        raise SysErr(errno.ENOTDIR)
    found = []
    for name, _ino, _kind in sorted(node.entries()):
        child = node.lookup(name)
        if child is not None:
            found.append(DirEntry(name, child.stat()))
    return found


def make_dir(fs: FsState, path: bytes, *, parents: bool = False, mode: int = 0o755) -> None:
    """Make a directory; with ``parents`` also those above it, and one that exists is no error."""
    if not parents:
        ops.make_directory(fs, _find(fs, path, follow=False, parent_only=True), mode).mode = st.S_IFDIR | mode & 0o7777
        return
    parts = [p for p in path.split(b"/") if p]
    for i in range(1, len(parts) + 1):
        prefix = b"/" + b"/".join(parts[:i])
        found = _find(fs, prefix)
        if found.node is None:
            ops.make_directory(fs, found, mode).mode = st.S_IFDIR | mode & 0o7777
        elif not found.node.is_dir:
            raise SysErr(errno.ENOTDIR if i < len(parts) else errno.EEXIST)


def move(fs: FsState, old: bytes, new: bytes) -> None:
    """rename(2)."""
    source = _find(fs, old, follow=False, parent_only=True)
    ops.rename(fs, source, _find(fs, new, follow=False, parent_only=True))


def make_symlink(fs: FsState, target: bytes, path: bytes) -> None:
    """symlink(2)."""
    if not target or len(target) > 4095 or b"\0" in target:
        raise SysErr(errno.EINVAL)
    ops.make_symlink(fs, _find(fs, path, follow=False, parent_only=True), target)


def set_mode(fs: FsState, path: bytes, mode: int) -> None:
    """chmod(2)."""
    node = _find(fs, path).existing()
    if node.volume.readonly:
        raise SysErr(errno.EROFS)
    node.mode = node.mode & ~0o7777 | mode & 0o7777
    node.dirty = True
    node.ctime_ns = fs.now()


def remove(fs: FsState, path: bytes, *, recursive: bool = False) -> None:
    """Remove a file or an empty directory; with ``recursive`` a directory and everything in it (mounts are EBUSY)."""
    found = _find(fs, path, follow=False, parent_only=True)
    node = found.existing()
    if not isinstance(node, Directory):
        ops.unlink(fs, found)
        return
    if recursive:
        _empty(fs, node)
    ops.rmdir(fs, found)


def _empty(fs: FsState, top: Directory) -> None:
    """Remove what is below ``top``, deepest first, without recursion (trees may be deep)."""
    if top.is_mount or not isinstance(top, OverlayDir):
        raise SysErr(errno.EBUSY)
    stack: list[tuple[Directory, bool]] = [(top, False)]
    while stack:
        here, done = stack.pop()
        if done:
            ops.rmdir(fs, Found(here.parent, here.name, here, False))
            continue
        if here is not top:
            stack.append((here, True))
        for name, _ino, _kind in here.entries():
            child = here.lookup(name)
            if isinstance(child, Directory):
                if child.is_mount:
                    raise SysErr(errno.EBUSY)
                stack.append((child, False))
            elif child is not None:
                ops.unlink(fs, Found(here, name, child, False))
