"""Making, linking, renaming and removing names: mkdir(2), unlink(2), rename(2), link(2), symlink(2), mknod(2)."""

from __future__ import annotations

import errno
import stat as st
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import syscall, u32
from prong.cell.fs import ops
from prong.cell.fs.calls.paths import AT_EMPTY_PATH, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, CWD, find, node_at

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task


@syscall("mkdir")
def mkdir(kernel: Kernel, task: Task, path: int, mode: int) -> int:
    """mkdir(2)."""
    return mkdirat(kernel, task, CWD, path, mode)


@syscall("mkdirat")
def mkdirat(kernel: Kernel, task: Task, dirfd: int, path: int, mode: int) -> int:
    """mkdirat(2)."""
    ops.make_directory(kernel.fs, find(kernel, dirfd, path, follow=False, parent_only=True), u32(mode))
    return 0


@syscall("rmdir")
def rmdir(kernel: Kernel, task: Task, path: int) -> int:
    """rmdir(2)."""
    return unlinkat(kernel, task, CWD, path, AT_REMOVEDIR)


@syscall("unlink")
def unlink(kernel: Kernel, task: Task, path: int) -> int:
    """unlink(2)."""
    return unlinkat(kernel, task, CWD, path, 0)


@syscall("unlinkat")
def unlinkat(kernel: Kernel, task: Task, dirfd: int, path: int, flags: int) -> int:
    """unlinkat(2)."""
    if u32(flags) & ~AT_REMOVEDIR:
        raise SysErr(errno.EINVAL)
    found = find(kernel, dirfd, path, follow=False, parent_only=True)
    if flags & AT_REMOVEDIR:
        ops.rmdir(kernel.fs, found)
    else:
        ops.unlink(kernel.fs, found)
    return 0


@syscall("rename")
def rename(kernel: Kernel, task: Task, old: int, new: int) -> int:
    """rename(2)."""
    return renameat2(kernel, task, CWD, old, CWD, new, 0)


@syscall("renameat")
def renameat(kernel: Kernel, task: Task, old_dir: int, old: int, new_dir: int, new: int) -> int:
    """renameat(2)."""
    return renameat2(kernel, task, old_dir, old, new_dir, new, 0)


@syscall("renameat2")
def renameat2(kernel: Kernel, task: Task, old_dir: int, old: int, new_dir: int, new: int, flags: int) -> int:
    """renameat2(2) with RENAME_NOREPLACE and RENAME_EXCHANGE."""
    flags = u32(flags)
    if flags & ~3 or flags == 3:
        raise SysErr(errno.EINVAL)
    source = find(kernel, old_dir, old, follow=False, parent_only=True)
    target = find(kernel, new_dir, new, follow=False, parent_only=True)
    ops.rename(kernel.fs, source, target, flags)
    return 0


@syscall("link")
def link(kernel: Kernel, task: Task, old: int, new: int) -> int:
    """link(2)."""
    return linkat(kernel, task, CWD, old, CWD, new, 0)


@syscall("linkat")
def linkat(kernel: Kernel, task: Task, old_dir: int, old: int, new_dir: int, new: int, flags: int) -> int:
    """linkat(2)."""
    flags = u32(flags)
    if flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH):
        raise SysErr(errno.EINVAL)
    follow = 0 if flags & AT_SYMLINK_FOLLOW else 0x100
    source = node_at(kernel, old_dir, old, flags & AT_EMPTY_PATH | follow)
    ops.make_link(kernel.fs, source, find(kernel, new_dir, new, follow=False, parent_only=True))
    return 0


@syscall("symlink")
def symlink(kernel: Kernel, task: Task, target: int, path: int) -> int:
    """symlink(2)."""
    return symlinkat(kernel, task, target, CWD, path)


@syscall("symlinkat")
def symlinkat(kernel: Kernel, task: Task, target: int, dirfd: int, path: int) -> int:
    """symlinkat(2)."""
    text = kernel.mem.cstr(target)
    if not text:
        raise SysErr(errno.ENOENT)
    ops.make_symlink(kernel.fs, find(kernel, dirfd, path, follow=False, parent_only=True), text)
    return 0


@syscall("mknod")
def mknod(kernel: Kernel, task: Task, path: int, mode: int, dev: int) -> int:
    """mknod(2)."""
    return mknodat(kernel, task, CWD, path, mode, dev)


@syscall("mknodat")
def mknodat(kernel: Kernel, task: Task, dirfd: int, path: int, mode: int, dev: int) -> int:
    """mknodat(2): regular files, FIFOs, sockets and device nodes (of which only /dev's own can be opened)."""
    mode, dev = mode & 0xFFFF, u32(dev)
    kind = st.S_IFMT(mode)
    if kind == st.S_IFDIR:
        raise SysErr(errno.EPERM)
    if kind not in (0, st.S_IFREG, st.S_IFIFO, st.S_IFSOCK, st.S_IFCHR, st.S_IFBLK):
        raise SysErr(errno.EINVAL)
    found = find(kernel, dirfd, path, follow=False, parent_only=True)
    if kind in (0, st.S_IFREG):
        ops.make_regular(kernel.fs, found, mode)
    else:
        ops.make_special(kernel.fs, found, mode, dev if kind in (st.S_IFCHR, st.S_IFBLK) else 0)
    return 0
