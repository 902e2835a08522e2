"""Open file descriptions: the base class of everything a descriptor can point at."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from prong.cell.core.errors import SysErr
from prong.cell.core.waiting import WaitQueue

if TYPE_CHECKING:
    from prong.cell.core.memory import FrameSource
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 0x001, 0x002, 0x004, 0x008, 0x010, 0x020
POLLRDNORM, POLLRDBAND, POLLWRNORM, POLLWRBAND, POLLRDHUP = 0x040, 0x080, 0x100, 0x200, 0x2000

O_ACCMODE, O_RDONLY, O_WRONLY, O_RDWR = 3, 0, 1, 2
O_APPEND, O_NONBLOCK, O_CLOEXEC, O_PATH = 0o2000, 0o4000, 0o2000000, 0o10000000


@dataclass(frozen=True, slots=True)
class Stat:
    """What stat(2) tells of a file; times in nanoseconds since the epoch, sizes in bytes."""

    ino: int
    mode: int
    nlink: int = 1
    uid: int = 0
    gid: int = 0
    size: int = 0
    rdev: int = 0
    dev: int = 1
    blksize: int = 4096
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0

    @property
    def blocks(self) -> int:
        """Number of 512-byte blocks."""
        return (self.size + 511) // 512


class File:
    """An open file description (open(2)): position, status flags and the operations on what is behind it.

    Subclasses override what they can do; the rest answers the errno the kernel gives for that kind of file.
    ``refs`` counts the descriptors that point here; :class:`FdTable` keeps it and calls :meth:`release` at zero.
    """

    kind: ClassVar[str] = "file"
    seekable: ClassVar[bool] = False

    def __init__(self, flags: int = O_RDWR) -> None:
        self.flags = flags & ~O_CLOEXEC
        self.pos = 0
        self.refs = 0
        self.waitq = WaitQueue()
        self.owner = 0
        """F_SETOWN's value."""

    @property
    def readable(self) -> bool:
        """Opened for reading."""
        return self.flags & O_ACCMODE in (O_RDONLY, O_RDWR) and not self.flags & O_PATH

    @property
    def writable(self) -> bool:
        """Opened for writing."""
        return self.flags & O_ACCMODE in (O_WRONLY, O_RDWR) and not self.flags & O_PATH

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes from the current position; empty at the end. Raises WouldBlock or SysErr."""
        raise SysErr(errno.EINVAL)

    def write(self, data: bytes) -> int:
        """Write at the current position (or the end with O_APPEND); returns the bytes taken. Raises WouldBlock or SysErr."""
        raise SysErr(errno.EINVAL)

    def pread(self, size: int, offset: int) -> bytes:
        """Read at ``offset`` without moving the position."""
        raise SysErr(errno.ESPIPE)

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write at ``offset`` without moving the position."""
        raise SysErr(errno.ESPIPE)

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2); returns the new position."""
        raise SysErr(errno.ESPIPE)

    def truncate(self, size: int) -> None:
        """ftruncate(2)."""
        raise SysErr(errno.EINVAL)

    def stat(self) -> Stat:
        """fstat(2)."""
        raise SysErr(errno.EBADF)

    def poll(self) -> int:
        """The poll(2) events that hold now; regular files are always readable and writable."""
        return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM

    def ioctl(self, kernel: Kernel, task: Task, request: int, arg: int) -> int:
        """ioctl(2)."""
        raise SysErr(errno.ENOTTY)

    def link_text(self) -> str:
        """What ``/proc/self/fd/N`` points at (a path, or ``pipe:[12]``-like text)."""
        return f"anon_inode:[{self.kind}]"

    def fill(self, offset: int, view: memoryview) -> None:
        """Copy file content from ``offset`` (bytes) into ``view``, zeros past the end; used to map files (mmap(2)).

        Raises SysErr(ENODEV) for files that cannot be mapped.
        """
        raise SysErr(errno.ENODEV)

    def shared_frames(self, frames: FrameSource, first_page: int, count: int) -> list[int]:
        """The physical frames that *are* pages ``first_page…`` of this file, for MAP_SHARED writable mappings.

        On first use the content moves into frames, and reads and writes of the file go through them from then on.
        Raises SysErr(ENODEV) where sharing is not possible.
        """
        raise SysErr(errno.ENODEV)

    def map_size(self) -> int:
        """Current size in bytes, to tell SIGBUS from zeros at the end of a mapping."""
        return 0

    def release(self) -> None:
        """The last descriptor was closed."""
