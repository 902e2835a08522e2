"""Which descriptors come along. A hostile VMM holds what it inherits: the list is short, and each one is looked at."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable

from prong.cell.jail import libc
from prong.cell.jail.hostfit import building
from prong.cell.jail.layers import Fact, Layer
from prong.errors import InvalidInput

_STDIO = (0, 1, 2)
_LAST = 2**32 - 1


def check(keep: Iterable[int]) -> None:
    """Refuses descriptors that would be a hole: one of a directory leads out of the new root by ``openat(fd, "..")``.

    Raises:
        InvalidInput: one is not open, a directory, a block device, or was opened with ``O_PATH``.
    """
    for fd in sorted(keep):
        try:
            mode = os.fstat(fd).st_mode
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        except OSError as error:
            raise _refused(fd, f"is not open: {error}") from error
        if stat.S_ISDIR(mode):
            raise _refused(fd, "is a directory, and leads out of the jail")
        if stat.S_ISBLK(mode):
            raise _refused(fd, "is a block device, and holds file systems of the host")
        if flags & os.O_PATH:
            raise _refused(fd, "was opened with O_PATH, and leads out of the jail")


def _refused(fd: int, why: str) -> InvalidInput:
    return InvalidInput(f"descriptor {fd}, to be kept in the jail, {why}", data={"field": "keep_fds", "fd": fd})


def open_null() -> int:
    """A descriptor of ``/dev/null``, to stand in for standard streams not kept; opened while there is a /dev."""
    with building(Layer.DESCRIPTORS):
        return os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)


def close_all_but(keep: Iterable[int], null: int) -> None:
    """Closes every other descriptor. 0, 1 and 2, where not kept, lead to ``null``: no file can take their place.

    Raises:
        HostUnfit: the kernel has no close_range(2).
    """
    kept = set(keep)
    with building(Layer.DESCRIPTORS):
        for fd in _STDIO:
            if fd not in kept:
                os.dup2(null, fd, inheritable=True)
        edge = 0
        for fd in sorted(kept.union(_STDIO)):
            if fd > edge:
                libc.close_range(edge, fd - 1)
            edge = fd + 1
        libc.close_range(edge, _LAST)


def describe(keep: Iterable[int]) -> Fact:
    """The fact: which descriptors are left, and what each one is."""
    return Fact(Layer.DESCRIPTORS, "only " + ", ".join(f"{fd} ({_kind(fd)})" for fd in sorted({*_STDIO, *keep})))


def _kind(fd: int) -> str:
    status = os.fstat(fd)
    kinds = {stat.S_IFSOCK: "socket", stat.S_IFIFO: "pipe", stat.S_IFREG: "file", 0: "anonymous"}
    if stat.S_ISCHR(status.st_mode):
        return f"device {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return kinds.get(stat.S_IFMT(status.st_mode), "other")
