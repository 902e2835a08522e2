"""Nodes that stand for open files: what /proc/self/fd/N leads to when there is no inode in the tree."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from prong.cell.core.errors import SysErr
from prong.cell.core.file import File, Stat
from prong.cell.core.saved import saved
from prong.cell.fs.nodes import Node

if TYPE_CHECKING:
    from prong.cell.fs.volume import Volume


@runtime_checkable
class Reopens(Protocol):
    """A File that can be opened once more through /proc/self/fd/N (pipes, terminals, channels)."""

    def reopen(self, flags: int) -> File:
        """A File on the same object with open(2) ``flags``; SysErr if that cannot be."""
        ...


@runtime_checkable
class PipeSized(Protocol):
    """A File with a pipe's buffer (F_GETPIPE_SZ, F_SETPIPE_SZ)."""

    def pipe_size(self) -> int:
        """Capacity in bytes."""
        ...

    def set_pipe_size(self, size: int) -> int:
        """Change it; returns the capacity given."""
        ...


@saved("fs.opened")
class OpenedNode(Node):
    """The inode of a pipe, a socket, an event descriptor…: it has attributes, and perhaps it can be opened again."""

    __slots__ = ("file",)

    def __init__(self, volume: Volume, file: File) -> None:
        info = file.stat()
        super().__init__(volume, info.ino, info.mode, info.mtime_ns)
        self.file = file

    def stat(self) -> Stat:
        """The file's own."""
        return self.file.stat()

    @property
    def size(self) -> int:
        """st_size."""
        return self.file.stat().size

    def reopen(self, flags: int) -> File:
        """Open it once more; SysErr(ENXIO) for what cannot be."""
        if isinstance(self.file, Reopens):
            return self.file.reopen(flags)
        raise SysErr(errno.ENXIO)
