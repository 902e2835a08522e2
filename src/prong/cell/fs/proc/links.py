"""The links of /proc/PID that lead to files: exe, cwd, root."""

from __future__ import annotations

import stat as st
from typing import TYPE_CHECKING

from prong.cell.core.saved import saved
from prong.cell.fs.files import node_path
from prong.cell.fs.nodes import MagicLink, Node
from prong.cell.fs.proc.nodes import kernel_of, stable_ino
from prong.cell.fs.walk import walk

if TYPE_CHECKING:
    from prong.cell.fs.volume import Volume

FILE_LINKS = (b"cwd", b"exe", b"root")


@saved("fs.proc.link")
class ProcessLink(MagicLink):
    """/proc/PID/{cwd,exe,root}."""

    __slots__ = ("name",)

    def __init__(self, volume: Volume, name: bytes, tid: int) -> None:
        super().__init__(volume, stable_ino(f"link/{name.decode()}", tid), st.S_IFLNK | 0o777, 0)
        self.name = name

    def text(self) -> bytes:
        """A path."""
        kernel = kernel_of(self.volume)
        if self.name == b"exe":
            return kernel.process.exe
        return node_path(kernel.fs.cwd if self.name == b"cwd" else kernel.fs.root)

    def jump(self) -> Node:
        """The directory, or the program's file."""
        kernel = kernel_of(self.volume)
        if self.name == b"exe":
            return walk(kernel.fs, kernel.fs.base, kernel.process.exe).existing()
        return kernel.fs.cwd if self.name == b"cwd" else kernel.fs.root
