"""Where named pipes and sockets meet those who implement them: a tiny register, so that files need not know of pipes."""

from __future__ import annotations

import errno
import stat as st
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.fs import ops
from prong.cell.fs.nodes import Special
from prong.cell.fs.walk import walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from prong.cell.core.file import File
    from prong.cell.fs.nodes import Node
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

    FifoOpener = Callable[[Kernel, Task, Special, int], File]

_fifo: list[FifoOpener] = []


def register_fifo(opener: FifoOpener) -> FifoOpener:
    """Say how FIFOs are opened: ``opener(kernel, task, node, flags) -> File``; used as a decorator.

    It is called for each open(2) of a FIFO node and keeps what it needs in ``node.state`` (None at first). It may raise
    Wait (no peer yet) and SysErr(ENXIO). A later registration replaces the earlier one.
    """
    _fifo[:] = [opener]
    return opener


def open_fifo(kernel: Kernel, task: Task, node: Node, flags: int) -> File:
    """Open a FIFO node; SysErr(ENXIO) where nothing implements FIFOs."""
    if not _fifo or not isinstance(node, Special):
        raise SysErr(errno.ENXIO)
    return _fifo[0](kernel, task, node, flags)


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
