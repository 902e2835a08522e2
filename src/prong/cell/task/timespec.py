"""Reading and writing the structures in which programs give times (timespec(3), timeval(3type)); nanoseconds inside."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr

if TYPE_CHECKING:
    from prong.cell.core.memory import GuestMemory

SECOND = 1_000_000_000
LONGEST = 1 << 62
"""Times are cut at this many nanoseconds (146 years), as the kernel cuts them at 2**63."""

_PAIR = struct.Struct("<qq")


def read_timespec(mem: GuestMemory, address: int) -> int:
    """A ``struct timespec`` as nanoseconds. SysErr: EFAULT; EINVAL if negative or with a second or more of fraction."""
    seconds, nanoseconds = _PAIR.unpack(mem.read(address, 16))
    if seconds < 0 or not 0 <= nanoseconds < SECOND:
        raise SysErr(errno.EINVAL)
    return min(int(seconds) * SECOND + int(nanoseconds), LONGEST)


def write_timespec(mem: GuestMemory, address: int, ns: int) -> None:
    """Store nanoseconds as a ``struct timespec``."""
    mem.write(address, _PAIR.pack(ns // SECOND, ns % SECOND))


def timeval(data: bytes, offset: int = 0) -> int:
    """A ``struct timeval`` in ``data`` as nanoseconds; SysErr(EINVAL) if negative or not normal."""
    seconds, micros = _PAIR.unpack_from(data, offset)
    if seconds < 0 or not 0 <= micros < 1_000_000:
        raise SysErr(errno.EINVAL)
    return min(int(seconds) * SECOND + int(micros) * 1000, LONGEST)


def pack_timeval(ns: int) -> bytes:
    """Nanoseconds as a ``struct timeval``, rounded down to microseconds."""
    return _PAIR.pack(ns // SECOND, ns % SECOND // 1000)
