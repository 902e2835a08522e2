"""Where the tree meets those who implement named pipes and sockets: their nodes carry the pipe or the bound socket."""

from __future__ import annotations

import errno
import stat as st
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, Wait
from prong.cell.fs import ops
from prong.cell.fs.files import PathFile
from prong.cell.fs.nodes import Special
from prong.cell.fs.walk import walk
from prong.cell.ipc import fifo
from prong.cell.ipc.pipe import Pipe

if TYPE_CHECKING:
    from prong.cell.core.file import File
    from prong.cell.fs.dirs import Directory
    from prong.cell.fs.nodes import Node
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task


def open_fifo(kernel: Kernel, task: Task, node: Node, flags: int, where: tuple[Directory, bytes] | None) -> File:
    """Open a FIFO node: its pipe is made at the first open and lives in ``node.state``. Raises Wait, SysErr (fifo(7))."""
    if not isinstance(node, Special):
        raise SysErr(errno.ENXIO)
    if node.state is None:
        node.state = Pipe(kernel.net)
    handle = PathFile(kernel.fs, node, flags, where)
    try:
        return fifo.open_fifo(task, node.state, flags, handle)
    except (Wait, SysErr):
        handle.release()
        raise


def bind_socket(kernel: Kernel, path: bytes, mode: int = 0o777) -> Special:
    """Make the socket node that bind(2) on a path makes; SysErr(EADDRINUSE) if the name exists.

    The caller keeps its socket in ``node.state``.
    """
    fs = kernel.fs
    found = walk(fs, fs.cwd, path, follow=False, parent_only=True)
    if found.node is not None:
        raise SysErr(errno.EADDRINUSE)
    return ops.make_special(fs, found, st.S_IFSOCK | mode)


def find_socket(kernel: Kernel, path: bytes) -> Special:
    """The node connect(2) on a path reaches; SysErr(ENOENT), or ECONNREFUSED if it is not a socket in use."""
    node = walk(kernel.fs, kernel.fs.cwd, path).existing()
    if not isinstance(node, Special) or st.S_IFMT(node.mode) != st.S_IFSOCK or node.state is None:
        raise SysErr(errno.ECONNREFUSED)
    return node
