"""memfd_create(2): a file in memory without a name, with seals."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.file import O_RDWR
from prong.cell.core.saved import saved
from prong.cell.core.table import syscall, u32
from prong.cell.fs.files import F_SEAL_EXEC, F_SEAL_SEAL, RegularFile
from prong.cell.fs.nodes import Regular
from prong.cell.fs.opening import O_LARGEFILE

if TYPE_CHECKING:
    from prong.cell.core.file import File
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_HUGETLB, MFD_NOEXEC_SEAL, MFD_EXEC = 1, 2, 4, 8, 16
NAME_MAX = 249


@saved("fs.file.memory")
class MemoryFile(RegularFile):
    """An open memfd; ``label`` is the name it was made with."""

    label = b""

    def link_text(self) -> str:
        """As Linux shows it."""
        return f"/memfd:{self.label.decode('utf-8', 'surrogateescape')} (deleted)"

    def reopen(self, flags: int) -> File:
        """The same memory through /proc/self/fd."""
        again = MemoryFile(self.fs, self.node, flags)
        again.label = self.label
        return again


@syscall("memfd_create")
def memfd_create(kernel: Kernel, task: Task, name: int, flags: int) -> int:
    """memfd_create(2); huge pages are not offered."""
    flags = u32(flags)
    if flags & ~0x1F or (flags & MFD_EXEC and flags & MFD_NOEXEC_SEAL):
        raise SysErr(errno.EINVAL)
    try:
        label = kernel.mem.cstr(name, NAME_MAX + 1)
    except SysErr as error:
        raise SysErr(errno.EINVAL if error.errno == errno.ENAMETOOLONG else error.errno) from None
    fs = kernel.fs
    node = Regular(fs.anon, fs.anon.ino(), 0o100666 if flags & MFD_NOEXEC_SEAL else 0o100777, fs.now())
    node.nlink = 0
    node.seals = F_SEAL_SEAL
    if flags & (MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL):
        node.seals = F_SEAL_EXEC if flags & MFD_NOEXEC_SEAL else 0
    file = MemoryFile(fs, node, O_RDWR | O_LARGEFILE)
    file.label = label
    try:
        return kernel.fds.install(file, cloexec=bool(flags & MFD_CLOEXEC))
    except SysErr:
        file.release()
        raise
