"""/dev/pts: one device node for each pseudo-terminal whose master is open."""

from __future__ import annotations

import errno
import os
import stat as st
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.saved import saved
from prong.cell.fs.dirs import Directory, Entry
from prong.cell.fs.nodes import Node, Special
from prong.cell.fs.tty.terminal import Terminal

if TYPE_CHECKING:
    from prong.cell.fs.volume import Volume

DEVPTS_MAGIC = 0x1CD1
MOST = 64
"""Pseudo-terminals at a time."""
SLAVE_MAJOR = 136


@saved("fs.devpts")
class PtsDir(Directory):
    """The directory, and the table of terminals. The node of /dev/ptmx has it as its ``state``."""

    __slots__ = ("nodes",)

    def __init__(self, volume: Volume, parent: Directory, now: int) -> None:
        super().__init__(volume, volume.ino(), 0o755, now, parent, b"pts")
        self.nodes: dict[int, Special] = {}

    def allocate(self) -> Terminal:
        """A new terminal with the lowest free number; SysErr(ENOSPC)."""
        number = next((n for n in range(MOST) if n not in self.nodes), None)
        if number is None:
            raise SysErr(errno.ENOSPC)
        node = Special(self.volume, 3 + number, st.S_IFCHR | 0o620, self.mtime_ns, os.makedev(SLAVE_MAJOR, number))
        node.state = terminal = Terminal(number)
        self.nodes[number] = node
        return terminal

    def drop(self, number: int) -> None:
        """The master of this one was closed."""
        self.nodes.pop(number, None)

    def lookup(self, name: bytes) -> Node | None:
        """By number."""
        return self.nodes.get(int(name)) if name.isdigit() and len(name) < 4 else None

    def entries(self) -> list[Entry]:
        """The numbers in use."""
        return [(b"%d" % n, node.ino, st.S_IFCHR) for n, node in self.nodes.items()]
