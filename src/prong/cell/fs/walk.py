"""Path resolution (path_resolution(7)): from a text to a node, or to the place where one could be made."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from prong.cell.core.errors import SysErr
from prong.cell.fs.dirs import Directory
from prong.cell.fs.nodes import MagicLink, Node, Symlink

if TYPE_CHECKING:
    from prong.cell.fs.state import FsState

NAME_MAX, PATH_MAX, LINKS_MAX = 255, 4096, 40

RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS = 0x01, 0x02, 0x04
RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_CACHED = 0x08, 0x10, 0x20


class Found(NamedTuple):
    """Where a path leads. ``node`` is None if nothing has that ``name`` in ``parent`` (which exists).

    ``name`` is ``.`` or ``..`` as written, or ``/`` for the root. ``slash``: the path ends in a slash, so it must name a
    directory. For the target of a magic link ``parent`` and ``name`` tell where the link is.
    """

    parent: Directory
    name: bytes
    node: Node | None
    slash: bool

    def existing(self) -> Node:
        """The node; SysErr(ENOENT) if there is none."""
        if self.node is None:
            raise self.missing()
        return self.node

    def missing(self) -> SysErr:
        """Why there is no node: ENOENT; ENAMETOOLONG for a name no directory can have (found out late, as in Linux)."""
        return SysErr(errno.ENAMETOOLONG if len(self.name) > NAME_MAX else errno.ENOENT)


def walk(
    fs: FsState,
    base: Node,
    path: bytes,
    *,
    follow: bool = True,
    parent_only: bool = False,
    creating: bool = False,
    resolve: int = 0,
) -> Found:
    """Resolve ``path`` from directory ``base``.

    Args:
        fs: for the root directory.
        base: where a relative path starts.
        path: without NUL; SysErr(ENOENT) if empty, ENAMETOOLONG from 4096 bytes on.
        follow: whether a symbolic link in the last place is followed (a trailing slash does it anyway).
        parent_only: the caller wants the *name* (unlink, rename, mkdir): never follow the last, whatever slashes say.
        creating: open(2) with O_CREAT: a last name with a slash behind it is SysErr(EISDIR), whatever it is.
        resolve: RESOLVE_* flags of openat2(2).

    Raises SysErr: ENOENT, ENOTDIR, ELOOP (more than 40 links), ENAMETOOLONG, EXDEV (for the RESOLVE flags).
    """
    if not path:
        raise SysErr(errno.ENOENT)
    if len(path) >= PATH_MAX:
        raise SysErr(errno.ENAMETOOLONG)
    root: Directory = fs.root
    if resolve & RESOLVE_IN_ROOT:
        assert isinstance(base, Directory)
        root = base
    elif resolve & RESOLVE_BENEATH and path[0] == 0x2F:
        raise SysErr(errno.EXDEV)
    todo = [p for p in path.split(b"/") if p]
    todo.reverse()
    slash = path[-1] == 0x2F
    here: Node = root if path[0] == 0x2F else base
    parent, name = here, b"/"
    links = 0
    while todo:
        name = todo.pop()
        if not isinstance(here, Directory):
            raise SysErr(errno.ENOTDIR)
        parent = here
        if name == b".":
            continue
        if name == b"..":
            here = _up(fs, here, base, root, resolve)
            continue
        if len(name) > NAME_MAX:
            if parent_only and not todo:
                return Found(here, name, None, slash)
            raise SysErr(errno.ENAMETOOLONG)
        if creating and slash and not todo:
            raise SysErr(errno.EISDIR)
        child = here.lookup(name)
        if child is None:
            if todo:
                raise SysErr(errno.ENOENT)
            return Found(here, name, None, slash)
        if child.mode & 0o170000 == 0o120000 and (todo or ((follow or slash) and not parent_only)):
            links += 1
            if links > LINKS_MAX or resolve & RESOLVE_NO_SYMLINKS:
                raise SysErr(errno.ELOOP)
            if isinstance(child, MagicLink):
                if resolve:
                    _check_magic(here, resolve)
                here = child.jump()
                continue
            assert isinstance(child, Symlink)
            target = child.target
            if target[0] == 0x2F:
                if resolve & RESOLVE_BENEATH:
                    raise SysErr(errno.EXDEV)
                here = parent = root
            if not todo:
                slash = slash or target[-1] == 0x2F
            todo += [p for p in reversed(target.split(b"/")) if p]
            name = b"/"
            continue
        if resolve & RESOLVE_NO_XDEV and child.volume is not here.volume:
            raise SysErr(errno.EXDEV)
        here = child
    if slash and not parent_only and not isinstance(here, Directory):
        raise SysErr(errno.ENOTDIR)
    return Found(parent if isinstance(parent, Directory) else fs.root, name, here, slash)


def _up(fs: FsState, here: Directory, base: Node, root: Directory, resolve: int) -> Directory:
    if resolve & RESOLVE_BENEATH and here is base:
        raise SysErr(errno.EXDEV)
    if here is root or here is fs.root:
        return here
    if resolve & RESOLVE_NO_XDEV and here.parent.volume is not here.volume:
        raise SysErr(errno.EXDEV)
    return here.parent


def _check_magic(here: Directory, resolve: int) -> None:
    if resolve & RESOLVE_NO_MAGICLINKS:
        raise SysErr(errno.ELOOP)
    if resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_NO_XDEV):
        raise SysErr(errno.EXDEV)
