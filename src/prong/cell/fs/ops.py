"""Changes to the tree: make, remove, link, rename; with the checks of the Linux VFS in its order."""

from __future__ import annotations

import errno
import stat as st
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.fs import inotify
from prong.cell.fs.dirs import Directory, OverlayDir
from prong.cell.fs.nodes import Node, Regular, Special, Symlink
from prong.cell.fs.walk import NAME_MAX

if TYPE_CHECKING:
    from prong.cell.fs.state import FsState
    from prong.cell.fs.walk import Found

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4


def check_room(found: Found, *, directory: bool = False) -> Directory:
    """The directory a new name may be made in. SysErr: EEXIST, ENOENT (slash after a file's name; removed), EROFS."""
    if found.node is not None:
        raise SysErr(errno.EEXIST)
    if len(found.name) > NAME_MAX or (found.slash and not directory):
        raise found.missing()
    parent = found.parent
    if not isinstance(parent, OverlayDir):
        raise SysErr(errno.EACCES if parent.volume.kind == "proc" else errno.EPERM)
    if parent.dead:
        raise SysErr(errno.ENOENT)
    return parent


def make_regular(fs: FsState, found: Found, mode: int) -> Regular:
    """A new empty file; ``mode`` before the umask."""
    parent = check_room(found)
    now = fs.now()
    node = Regular(parent.volume, parent.volume.ino(), st.S_IFREG | mode & 0o7777 & ~fs.umask, now)
    _inherit_group(parent, node)
    parent.insert(found.name, node, now)
    inotify.notify(parent, inotify.IN_CREATE, found.name)
    return node


def make_directory(fs: FsState, found: Found, mode: int) -> OverlayDir:
    """mkdir(2)."""
    parent = check_room(found, directory=True)
    now = fs.now()
    node = OverlayDir(parent.volume, parent.volume.ino(), mode & 0o1777 & ~fs.umask, now, parent, found.name)
    _inherit_group(parent, node)
    parent.insert(found.name, node, now)
    parent.nlink += 1
    inotify.notify(parent, inotify.IN_CREATE | inotify.IN_ISDIR, found.name)
    return node


def make_symlink(fs: FsState, found: Found, target: bytes) -> Symlink:
    """symlink(2); the text is charged like a file's bytes."""
    parent = check_room(found)
    now = fs.now()
    node = Symlink(parent.volume, parent.volume.ino(), target, now)
    fs.quota.charge(len(target))
    node.paid = len(target)
    try:
        parent.insert(found.name, node, now)
    except SysErr:
        node.forget()
        raise
    inotify.notify(parent, inotify.IN_CREATE, found.name)
    return node


def make_special(fs: FsState, found: Found, mode: int, rdev: int = 0) -> Special:
    """A FIFO, socket or device node; ``mode`` with its type bits."""
    parent = check_room(found)
    now = fs.now()
    node = Special(parent.volume, parent.volume.ino(), st.S_IFMT(mode) | mode & 0o7777 & ~fs.umask, now, rdev)
    _inherit_group(parent, node)
    parent.insert(found.name, node, now)
    inotify.notify(parent, inotify.IN_CREATE, found.name)
    return node


def _inherit_group(parent: Directory, node: Node) -> None:
    if parent.mode & st.S_ISGID:
        node.gid = parent.gid
        if node.is_dir:
            node.mode |= st.S_ISGID


def make_link(fs: FsState, source: Node, found: Found) -> None:
    """link(2): one more name for ``source``."""
    parent = check_room(found)
    if source.volume is not parent.volume:
        raise SysErr(errno.EXDEV)
    if source.is_dir:
        raise SysErr(errno.EPERM)
    if source.nlink == 0 and not (isinstance(source, Regular) and source.tmpfile):
        raise SysErr(errno.ENOENT)
    if source.nlink >= 65000:
        raise SysErr(errno.EMLINK)
    now = fs.now()
    parent.insert(found.name, source, now)
    source.nlink += 1
    source.ctime_ns = now
    source.dirty = True
    inotify.notify(source, inotify.IN_ATTRIB, None)
    inotify.notify(parent, inotify.IN_CREATE, found.name)


def unlink(fs: FsState, found: Found) -> None:
    """unlink(2)."""
    if found.name in (b".", b"..", b"/"):
        raise SysErr(errno.EISDIR)
    node = found.existing()
    if found.slash:
        raise SysErr(errno.EISDIR if node.is_dir else errno.ENOTDIR)
    if node.is_dir:
        raise SysErr(errno.EISDIR)
    _writable(found.parent)
    now = fs.now()
    found.parent.remove(found.name, now)
    _lose(fs, node, now)
    inotify.notify(found.parent, inotify.IN_DELETE, found.name)


def rmdir(fs: FsState, found: Found) -> None:
    """rmdir(2)."""
    if found.name == b".":
        raise SysErr(errno.EINVAL)
    if found.name == b"..":
        raise SysErr(errno.ENOTEMPTY)
    if found.name == b"/":
        raise SysErr(errno.EBUSY)
    node = found.existing()
    if not isinstance(node, Directory):
        raise SysErr(errno.ENOTDIR)
    if node.is_mount:
        raise SysErr(errno.EBUSY)
    _writable(found.parent)
    if not node.is_empty():
        raise SysErr(errno.ENOTEMPTY)
    now = fs.now()
    found.parent.remove(found.name, now)
    _bury(fs, node, now)
    inotify.notify(found.parent, inotify.IN_DELETE | inotify.IN_ISDIR, found.name)


def _writable(parent: Directory) -> None:
    if not isinstance(parent, OverlayDir):
        raise SysErr(errno.EPERM)


def _lose(fs: FsState, node: Node, now: int) -> None:
    """A name of a file went away."""
    node.drop_link(now)
    if node.watches:
        inotify.notify(node, inotify.IN_ATTRIB, None)
        if node.nlink == 0 and not inotify.held(node):
            inotify.deleted(node)


def _bury(fs: FsState, node: Directory, now: int) -> None:
    """A directory went away; those who stand in it see an empty one."""
    node.dead = True
    _one_less(node.parent)
    node.nlink = 0
    node.ctime_ns = now
    if isinstance(node, OverlayDir):
        node.children.clear()
        node.lower = None
        node.listing = None
        node.dirty = True
    inotify.deleted(node)
    if node.opens == 0:
        node.forget()


def rename(fs: FsState, old: Found, new: Found, flags: int = 0) -> None:
    """renameat2(2); ``flags`` NOREPLACE and EXCHANGE. The lookups were made with ``parent_only``."""
    if old.parent.volume is not new.parent.volume:
        raise SysErr(errno.EXDEV)
    if old.name in (b".", b"..", b"/") or new.name in (b".", b"..", b"/"):
        raise SysErr(errno.EEXIST if flags & RENAME_NOREPLACE and old.name not in (b".", b"..", b"/") else errno.EBUSY)
    source, target = old.existing(), new.node
    if len(new.name) > NAME_MAX:
        raise new.missing()
    if flags & RENAME_NOREPLACE and target is not None:
        raise SysErr(errno.EEXIST)
    if flags & RENAME_EXCHANGE:
        if target is None:
            raise SysErr(errno.ENOENT)
        if not target.is_dir and new.slash:
            raise SysErr(errno.ENOTDIR)
    if not source.is_dir and (old.slash or (new.slash and not flags & RENAME_EXCHANGE)):
        raise SysErr(errno.ENOTDIR)
    if isinstance(source, Directory) and _is_below(new.parent, source):
        raise SysErr(errno.EINVAL)
    if isinstance(target, Directory) and _is_below(old.parent, target):
        raise SysErr(errno.EINVAL if flags & RENAME_EXCHANGE else errno.ENOTEMPTY)
    if source is target:
        return
    _writable(old.parent)
    _writable(new.parent)
    if new.parent.dead:
        raise SysErr(errno.ENOENT)
    if flags & RENAME_EXCHANGE:
        assert target is not None
        _exchange(fs, old, new, source, target)
    else:
        _check_replace(source, target)
        _move(fs, old, new, source, target)


def _is_below(directory: Directory, ancestor: Directory) -> bool:
    """Whether ``directory`` is ``ancestor`` or inside it."""
    here = directory
    while here is not ancestor:
        if here.parent is here:
            return False
        here = here.parent
    return True


def _check_replace(source: Node, target: Node | None) -> None:
    if isinstance(source, Directory):
        if target is not None and not isinstance(target, Directory):
            raise SysErr(errno.ENOTDIR)
    elif target is not None and target.is_dir:
        raise SysErr(errno.EISDIR)
    if (isinstance(source, Directory) and source.is_mount) or (isinstance(target, Directory) and target.is_mount):
        raise SysErr(errno.EBUSY)
    if isinstance(target, Directory) and not target.is_empty():
        raise SysErr(errno.ENOTEMPTY)


def _move(fs: FsState, old: Found, new: Found, source: Node, target: Node | None) -> None:
    now = fs.now()
    new.parent.insert(new.name, source, now)  # may raise ENOSPC; nothing has changed then
    old.parent.remove(old.name, now)
    source.ctime_ns = now
    source.dirty = True
    if isinstance(target, Directory):
        _bury(fs, target, now)
    elif target is not None:
        _lose(fs, target, now)
    _settle(source, old.parent, new.parent, new.name)
    inotify.moved(fs, source, old.parent, old.name, new.parent, new.name)


def _exchange(fs: FsState, old: Found, new: Found, source: Node, target: Node) -> None:
    for node in (source, target):
        if isinstance(node, Directory) and node.is_mount:
            raise SysErr(errno.EBUSY)
    now = fs.now()
    new.parent.insert(new.name, source, now)
    old.parent.insert(old.name, target, now)
    for node in (source, target):
        node.ctime_ns = now
        node.dirty = True
    _settle(source, old.parent, new.parent, new.name)
    _settle(target, new.parent, old.parent, old.name)
    inotify.moved(fs, source, old.parent, old.name, new.parent, new.name)
    inotify.moved(fs, target, new.parent, new.name, old.parent, old.name)


def _settle(node: Node, old: Directory, new: Directory, name: bytes) -> None:
    """A moved directory knows its new parent and name."""
    if isinstance(node, Directory):
        node.parent = new
        node.name = name
        _one_less(old)
        new.nlink += 1


def _one_less(directory: Directory) -> None:
    """A subdirectory is gone. Some host file systems (btrfs) give every directory of an image one link only."""
    if directory.nlink > 2:
        directory.nlink -= 1
