"""/proc/PID/fd and fdinfo: one entry a descriptor."""

from __future__ import annotations

import errno
import stat as st
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.saved import saved
from prong.cell.fs.dirs import Entry
from prong.cell.fs.files import NodeFile
from prong.cell.fs.nodes import MagicLink, Node
from prong.cell.fs.opened import OpenedNode
from prong.cell.fs.proc.nodes import TextDir, TextNode, kernel_of, stable_ino, text

if TYPE_CHECKING:
    from prong.cell.fs.dirs import Directory
    from prong.cell.fs.volume import Volume
    from prong.cell.kernel import Kernel


@saved("fs.proc.fdlink")
class FdLink(MagicLink):
    """/proc/PID/fd/N."""

    __slots__ = ("fd",)

    def __init__(self, volume: Volume, fd: int) -> None:
        file = kernel_of(volume).fds.get(fd)
        mode = (0o500 if file.readable else 0) | (0o300 if file.writable else 0)
        super().__init__(volume, stable_ino("fd", fd), st.S_IFLNK | (mode or 0o100), 0)
        self.fd = fd

    @property
    def size(self) -> int:
        """What Linux tells."""
        return 64

    def text(self) -> bytes:
        """The file's own name for itself."""
        return kernel_of(self.volume).fds.get(self.fd).link_text().encode("utf-8", "surrogateescape")

    def jump(self) -> Node:
        """The open file's node, whether or not it still has a name."""
        kernel = kernel_of(self.volume)
        file = kernel.fds.files.get(self.fd)
        if file is None:
            raise SysErr(errno.ENOENT)
        return file.node if isinstance(file, NodeFile) else OpenedNode(kernel.fs.anon, file)


@saved("fs.proc.fddir")
class FdDir(TextDir):
    """/proc/PID/fd or /proc/PID/fdinfo, by its name."""

    __slots__ = ()

    def __init__(self, volume: Volume, tid: int, parent: Directory, name: bytes) -> None:
        super().__init__(volume, name.decode(), tid, parent, name)
        self.mode = st.S_IFDIR | 0o500 if name == b"fd" else self.mode

    def lookup(self, name: bytes) -> Node | None:
        """An open, visible descriptor."""
        if not name.isdigit() or len(name) > 9 or (name[:1] == b"0" and len(name) > 1):
            return None
        fds = kernel_of(self.volume).fds
        fd = int(name)
        if fd not in fds.files or fd in fds.hidden:
            return None
        return FdLink(self.volume, fd) if self.name == b"fd" else TextNode(self.volume, "fdinfo", fd, 0o400)

    def entries(self) -> list[Entry]:
        """All visible descriptors."""
        kind = st.S_IFLNK if self.name == b"fd" else st.S_IFREG
        return [(b"%d" % fd, stable_ino(self.key, fd), kind) for fd in kernel_of(self.volume).fds.visible()]


@text("fdinfo")
def fdinfo(kernel: Kernel, fd: int) -> bytes:
    """Position, flags and mount of a descriptor."""
    file = kernel.fds.get(fd)
    flags = file.flags | (0o2000000 if fd in kernel.fds.cloexec else 0)
    ino = file.node.ino if isinstance(file, NodeFile) else file.stat().ino
    return f"pos:\t{file.pos}\nflags:\t0{flags:o}\nmnt_id:\t1\nino:\t{ino}\n".encode()
