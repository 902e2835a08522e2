"""The devices of /dev that a program without hardware still expects: null, zero, full, random, pseudo-terminals."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, ClassVar

from prong.cell.core.errors import SysErr
from prong.cell.core.saved import saved
from prong.cell.fs.content import MAX_SIZE, Content
from prong.cell.fs.files import NodeFile
from prong.cell.fs.nodes import Special
from prong.cell.fs.tty.devpts import PtsDir
from prong.cell.fs.tty.files import open_master, open_slave
from prong.cell.fs.tty.terminal import Terminal

if TYPE_CHECKING:
    from prong.cell.core.file import File
    from prong.cell.core.memory import FrameSource
    from prong.cell.fs.dirs import Directory
    from prong.cell.fs.nodes import Node
    from prong.cell.fs.state import FsState
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

STEP = 1 << 20
"""Bytes a device gives or takes in one step."""


class Device(NodeFile):
    """An open character device: no position that matters, and every write is taken."""

    kind: ClassVar[str] = "device"

    def write(self, data: bytes) -> int:
        """Gone."""
        return len(data)

    def pwrite(self, data: bytes, offset: int) -> int:
        """Gone."""
        return self.write(data)

    def pread(self, size: int, offset: int) -> bytes:
        """The offset does not matter."""
        return self.read(size)

    def seek(self, offset: int, whence: int) -> int:
        """Always at 0, as Linux's null device answers."""
        return 0

    def reopen(self, flags: int) -> File:
        """Open it again."""
        return type(self)(self.fs, self.node, flags, self.where)


@saved("fs.file.null")
class NullDevice(Device):
    """/dev/null."""

    def read(self, size: int) -> bytes:
        """Nothing."""
        return b""


@saved("fs.file.zero")
class ZeroDevice(Device):
    """/dev/zero; it can be mapped. ``pages`` are those of shared mappings."""

    def __init__(self, fs: FsState, node: Node, flags: int, where: tuple[Directory, bytes] | None = None) -> None:
        super().__init__(fs, node, flags, where)
        self.pages = Content(fs.quota)
        self.pages.size = MAX_SIZE

    def read(self, size: int) -> bytes:
        """Zeros."""
        return bytes(min(size, STEP))

    def fill(self, offset: int, view: memoryview) -> None:
        """A private mapping of /dev/zero is anonymous memory."""
        view[:] = bytes(len(view))

    def shared_frames(self, frames: FrameSource, first_page: int, count: int) -> list[int]:
        """Memory of this open file, as long as it is open or mapped."""
        return self.pages.share(frames, first_page, count)

    def release(self) -> None:
        """The shared pages go."""
        self.pages.free()
        super().release()

    def map_size(self) -> int:
        """Endless."""
        return 1 << 62


@saved("fs.file.full")
class FullDevice(ZeroDevice):
    """/dev/full: reads zeros, has no room."""

    def write(self, data: bytes) -> int:
        """Never fits."""
        raise SysErr(errno.ENOSPC)


@saved("fs.file.random")
class RandomDevice(Device):
    """/dev/random and /dev/urandom: the host kernel's generator, never a state of ours that a fork could copy."""

    def read(self, size: int) -> bytes:
        """Random bytes."""
        return os.urandom(min(size, STEP))

    def ioctl(self, kernel: Kernel, task: Task, request: int, arg: int) -> int:
        """RNDGETENTCNT."""
        if request == 0x80045200:
            kernel.mem.put_u32(arg, 256)
            return 0
        raise SysErr(errno.ENOTTY)


DEVICES: dict[tuple[int, int], type[Device]] = {
    (1, 3): NullDevice,
    (1, 5): ZeroDevice,
    (1, 7): FullDevice,
    (1, 8): RandomDevice,
    (1, 9): RandomDevice,
}
"""Character device (major, minor) → what opening it gives; all others answer ENXIO."""


def open_device(fs: FsState, node: Node, flags: int, where: tuple[Directory, bytes] | None) -> File:
    """Open a character device node; SysErr(ENXIO) if there is no such device."""
    state = node.state if isinstance(node, Special) else None
    if isinstance(state, PtsDir):
        return open_master(fs, node, flags, where, state)
    if isinstance(state, Terminal):
        return open_slave(fs, node, flags, where, state)
    device = DEVICES.get((os.major(node.rdev), os.minor(node.rdev)))
    if device is None:
        raise SysErr(errno.ENXIO)
    return device(fs, node, flags, where)
