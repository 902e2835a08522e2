"""The one network interface, ``lo``, as ioctl(2) tells of it (netdevice(7))."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.ipc.ports import LOOP4

if TYPE_CHECKING:
    from prong.cell.core.memory import GuestMemory

NAME, INDEX, MTU = b"lo", 1, 65536
FLAGS = 0x1 | 0x8 | 0x40
"""IFF_UP, IFF_LOOPBACK, IFF_RUNNING."""
ARPHRD_LOOPBACK = 772
IFREQ = 40
SIOCGIFNAME, SIOCGIFCONF, SIOCGIFINDEX = 0x8910, 0x8912, 0x8933


def _inet(ip: bytes) -> bytes:
    return struct.pack("<HH4s8x", 2, 0, ip)


ANSWERS: dict[int, bytes] = {
    0x8913: struct.pack("<H", FLAGS),  # SIOCGIFFLAGS
    0x8915: _inet(LOOP4),  # SIOCGIFADDR
    0x8917: _inet(LOOP4),  # SIOCGIFDSTADDR
    0x8919: _inet(bytes(4)),  # SIOCGIFBRDADDR
    0x891B: _inet(b"\xff\0\0\0"),  # SIOCGIFNETMASK
    0x891D: struct.pack("<i", 0),  # SIOCGIFMETRIC
    0x8921: struct.pack("<i", MTU),  # SIOCGIFMTU
    0x8927: struct.pack("<H14x", ARPHRD_LOOPBACK),  # SIOCGIFHWADDR
    SIOCGIFINDEX: struct.pack("<i", INDEX),
    0x8942: struct.pack("<i", 1000),  # SIOCGIFTXQLEN
}
"""Request → what is stored in the union of struct ifreq."""
CHANGES = frozenset((0x8914, 0x8916, 0x8918, 0x891A, 0x891C, 0x891E, 0x8922, 0x8923, 0x8924, 0x8943))
"""The SIOCSIF… requests that would change an interface."""


def ioctl(mem: GuestMemory, request: int, arg: int) -> int:
    """Answer one SIOCGIF… request. SysErr: ENODEV for any interface but ``lo``, EPERM to change it, else ENOTTY."""
    if request == SIOCGIFCONF:
        return _conf(mem, arg)
    if request == SIOCGIFNAME:
        if mem.u32(arg + 16) != INDEX:
            raise SysErr(errno.ENODEV)
        mem.write(arg, NAME.ljust(16, b"\0"))
        return 0
    answer = ANSWERS.get(request)
    if answer is None and request not in CHANGES:
        raise SysErr(errno.ENOTTY)
    if mem.read(arg, 16).split(b"\0")[0] != NAME:
        raise SysErr(errno.ENODEV)
    if answer is None:
        raise SysErr(errno.EPERM)
    mem.write(arg + 16, answer)
    return 0


def _conf(mem: GuestMemory, arg: int) -> int:
    """SIOCGIFCONF: the size alone when no buffer is given."""
    room, buffer = struct.unpack("<i4xQ", mem.read(arg, 16))
    size = IFREQ
    if buffer:
        size = IFREQ if room >= IFREQ else 0
        if size:
            mem.write(buffer, NAME.ljust(16, b"\0") + _inet(LOOP4) + bytes(8))
    mem.put_u32(arg, size)
    return 0
