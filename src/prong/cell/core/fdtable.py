"""The descriptor table: small numbers → open file descriptions."""

from __future__ import annotations

import errno

from prong.cell.core.errors import SysErr
from prong.cell.core.file import File
from prong.cell.core.saved import saved


@saved("fdtable")
class FdTable:
    """Descriptors of the one process. ``limit`` is RLIMIT_NOFILE's soft value.

    Descriptors in ``hidden`` belong to prong's own runtime: programs can read and write them if they know the number, but
    ``close``, ``dup2`` onto them, ``close_range`` and ``/proc/self/fd`` act as if they were not there.
    """

    def __init__(self, limit: int = 1024) -> None:
        self.limit = limit
        self.files: dict[int, File] = {}
        self.cloexec: set[int] = set()
        self.hidden: set[int] = set()

    def get(self, fd: int) -> File:
        """The file behind ``fd``; SysErr(EBADF) if none. Only the low 32 bits count, as in the kernel's ABI."""
        file = self.files.get(fd & 0xFFFFFFFF)
        if file is None:
            raise SysErr(errno.EBADF)
        return file

    def install(self, file: File, *, cloexec: bool = False, lowest: int = 0) -> int:
        """Give ``file`` the lowest free number that is at least ``lowest``; SysErr(EMFILE) when the table is full."""
        fd = lowest
        files = self.files
        while fd in files:
            fd += 1
        if fd >= self.limit:
            raise SysErr(errno.EMFILE)
        self._put(fd, file, cloexec)
        return fd

    def install_at(self, fd: int, file: File, *, cloexec: bool = False) -> None:
        """dup2's half: put ``file`` at ``fd``, closing what was there. SysErr(EBADF) if ``fd`` is out of range or hidden."""
        if fd < 0 or fd >= self.limit or fd in self.hidden:
            raise SysErr(errno.EBADF)
        file.refs += 1
        if fd in self.files:
            self._drop(fd)
        file.refs -= 1
        self._put(fd, file, cloexec)

    def install_hidden(self, fd: int, file: File) -> None:
        """Install one of prong's own channels at a number programs cannot close."""
        self._put(fd, file, True)
        self.hidden.add(fd)

    def close(self, fd: int) -> None:
        """close(2); SysErr(EBADF) if not open (or hidden)."""
        fd &= 0xFFFFFFFF
        if fd not in self.files or fd in self.hidden:
            raise SysErr(errno.EBADF)
        self._drop(fd)

    def close_range(self, first: int, last: int) -> None:
        """close_range(2) without flags."""
        for fd in [fd for fd in self.files if first <= fd <= last and fd not in self.hidden]:
            self._drop(fd)

    def visible(self) -> list[int]:
        """Open descriptor numbers in order, without the hidden ones."""
        return sorted(fd for fd in self.files if fd not in self.hidden)

    def _put(self, fd: int, file: File, cloexec: bool) -> None:
        self.files[fd] = file
        file.refs += 1
        if cloexec:
            self.cloexec.add(fd)
        else:
            self.cloexec.discard(fd)

    def _drop(self, fd: int) -> None:
        file = self.files.pop(fd)
        self.cloexec.discard(fd)
        file.refs -= 1
        if file.refs == 0:
            file.release()
