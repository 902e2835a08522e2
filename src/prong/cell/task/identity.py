"""The system calls about process ids, groups, sessions, users and capabilities (credentials(7), capabilities(7))."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import s32, syscall, u32
from prong.cell.process import PARENT, PID

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

NOBODY = 0xFFFFFFFF
"""-1: leave this id as it is."""
REAL, EFFECTIVE, SAVED, FS = range(4)
ALL_CAPS = (1 << 41) - 1
GROUPS_MAX = 65536
CAP_VERSION_1, CAP_VERSION_2, CAP_VERSION_3 = 0x19980330, 0x20071026, 0x20080522


@syscall("getpid")
def sys_getpid(kernel: Kernel, task: Task) -> int:
    """getpid(2)."""
    return PID


@syscall("getppid")
def sys_getppid(kernel: Kernel, task: Task) -> int:
    """getppid(2)."""
    return PARENT


@syscall("getpgrp")
def sys_getpgrp(kernel: Kernel, task: Task) -> int:
    """getpgrp(2): the program leads its own group."""
    return PID


def _self(kernel: Kernel, pid: int) -> int:
    """Check that ``pid`` means this process; SysErr(ESRCH) otherwise."""
    if s32(pid) not in (0, PID) and s32(pid) not in kernel.sched.tasks:
        raise SysErr(errno.ESRCH)
    return PID


@syscall("getpgid")
def sys_getpgid(kernel: Kernel, task: Task, pid: int) -> int:
    """getpgid(2)."""
    return _self(kernel, pid)


@syscall("getsid")
def sys_getsid(kernel: Kernel, task: Task, pid: int) -> int:
    """getsid(2): the program leads its own session."""
    return _self(kernel, pid)


@syscall("setpgid")
def sys_setpgid(kernel: Kernel, task: Task, pid: int, pgid: int) -> int:
    """setpgid(2): a session leader cannot change its group."""
    if s32(pgid) < 0:
        raise SysErr(errno.EINVAL)
    _self(kernel, pid)
    raise SysErr(errno.EPERM)


@syscall("setsid")
def sys_setsid(kernel: Kernel, task: Task) -> int:
    """setsid(2): refused to a group leader, which the program is."""
    raise SysErr(errno.EPERM)


# -- users and groups ------------------------------------------------------------------------------------------------


def _privileged(kernel: Kernel) -> bool:
    return kernel.process.credentials.uids[EFFECTIVE] == 0


def _set_ids(kernel: Kernel, *, users: bool, real: int, effective: int, saved: int) -> int:
    """Store new ids (already permitted); leaving user 0 drops the capabilities, as the kernel does."""
    credentials = kernel.process.credentials
    ids = [real, effective, saved, effective]
    if not users:
        credentials.gids = ids
        return 0
    before, credentials.uids = credentials.uids, ids
    caps = credentials.caps
    if 0 in before[:3] and 0 not in ids[:3]:
        caps[0] = caps[1] = 0
    elif ids[EFFECTIVE] != 0:
        caps[0] = 0
    elif before[EFFECTIVE] != 0:
        caps[0] = caps[1]
    return 0


def _ids(kernel: Kernel, users: bool) -> list[int]:
    return kernel.process.credentials.uids if users else kernel.process.credentials.gids


def _setid(kernel: Kernel, users: bool, value: int) -> int:
    """setuid(2), setgid(2)."""
    value = u32(value)
    ids = _ids(kernel, users)
    if value == NOBODY:
        raise SysErr(errno.EINVAL)
    if _privileged(kernel):
        return _set_ids(kernel, users=users, real=value, effective=value, saved=value)
    if value not in (ids[REAL], ids[SAVED]):
        raise SysErr(errno.EPERM)
    return _set_ids(kernel, users=users, real=ids[REAL], effective=value, saved=ids[SAVED])


def _setreid(kernel: Kernel, users: bool, real: int, effective: int) -> int:
    """setreuid(2), setregid(2)."""
    real, effective = u32(real), u32(effective)
    ids = _ids(kernel, users)
    if not _privileged(kernel) and (real not in (NOBODY, ids[REAL], ids[EFFECTIVE]) or effective not in (NOBODY, *ids[:3])):
        raise SysErr(errno.EPERM)
    new_real = ids[REAL] if real == NOBODY else real
    new_effective = ids[EFFECTIVE] if effective == NOBODY else effective
    follows = real != NOBODY or (effective != NOBODY and effective != ids[REAL])
    saved = new_effective if follows else ids[SAVED]
    return _set_ids(kernel, users=users, real=new_real, effective=new_effective, saved=saved)


def _setresid(kernel: Kernel, users: bool, wanted: tuple[int, int, int]) -> int:
    """setresuid(2), setresgid(2)."""
    ids = _ids(kernel, users)
    values = [u32(v) for v in wanted]
    if not _privileged(kernel) and any(v != NOBODY and v not in ids[:3] for v in values):
        raise SysErr(errno.EPERM)
    real, effective, saved = (old if v == NOBODY else v for v, old in zip(values, ids[:3], strict=True))
    return _set_ids(kernel, users=users, real=real, effective=effective, saved=saved)


def _setfsid(kernel: Kernel, users: bool, value: int) -> int:
    """setfsuid(2), setfsgid(2): returns the old id, whether or not it changed."""
    value = u32(value)
    ids = _ids(kernel, users)
    before = ids[FS]
    if value != NOBODY and (_privileged(kernel) or value in ids):
        ids[FS] = value
    return before


def _getresid(kernel: Kernel, users: bool, addresses: tuple[int, int, int]) -> int:
    for address, value in zip(addresses, _ids(kernel, users), strict=False):
        kernel.mem.put_u32(address, value)
    return 0


@syscall("getuid")
def sys_getuid(kernel: Kernel, task: Task) -> int:
    """getuid(2)."""
    return kernel.process.credentials.uids[REAL]


@syscall("geteuid")
def sys_geteuid(kernel: Kernel, task: Task) -> int:
    """geteuid(2)."""
    return kernel.process.credentials.uids[EFFECTIVE]


@syscall("getgid")
def sys_getgid(kernel: Kernel, task: Task) -> int:
    """getgid(2)."""
    return kernel.process.credentials.gids[REAL]


@syscall("getegid")
def sys_getegid(kernel: Kernel, task: Task) -> int:
    """getegid(2)."""
    return kernel.process.credentials.gids[EFFECTIVE]


@syscall("setuid")
def sys_setuid(kernel: Kernel, task: Task, uid: int) -> int:
    """setuid(2)."""
    return _setid(kernel, True, uid)


@syscall("setgid")
def sys_setgid(kernel: Kernel, task: Task, gid: int) -> int:
    """setgid(2)."""
    return _setid(kernel, False, gid)


@syscall("setreuid")
def sys_setreuid(kernel: Kernel, task: Task, real: int, effective: int) -> int:
    """setreuid(2)."""
    return _setreid(kernel, True, real, effective)


@syscall("setregid")
def sys_setregid(kernel: Kernel, task: Task, real: int, effective: int) -> int:
    """setregid(2)."""
    return _setreid(kernel, False, real, effective)


@syscall("setresuid")
def sys_setresuid(kernel: Kernel, task: Task, real: int, effective: int, saved: int) -> int:
    """setresuid(2)."""
    return _setresid(kernel, True, (real, effective, saved))


@syscall("setresgid")
def sys_setresgid(kernel: Kernel, task: Task, real: int, effective: int, saved: int) -> int:
    """setresgid(2)."""
    return _setresid(kernel, False, (real, effective, saved))


@syscall("getresuid")
def sys_getresuid(kernel: Kernel, task: Task, real: int, effective: int, saved: int) -> int:
    """getresuid(2)."""
    return _getresid(kernel, True, (real, effective, saved))


@syscall("getresgid")
def sys_getresgid(kernel: Kernel, task: Task, real: int, effective: int, saved: int) -> int:
    """getresgid(2)."""
    return _getresid(kernel, False, (real, effective, saved))


@syscall("setfsuid")
def sys_setfsuid(kernel: Kernel, task: Task, uid: int) -> int:
    """setfsuid(2)."""
    return _setfsid(kernel, True, uid)


@syscall("setfsgid")
def sys_setfsgid(kernel: Kernel, task: Task, gid: int) -> int:
    """setfsgid(2)."""
    return _setfsid(kernel, False, gid)


@syscall("getgroups")
def sys_getgroups(kernel: Kernel, task: Task, size: int, address: int) -> int:
    """getgroups(2)."""
    groups = kernel.process.credentials.groups
    room = s32(size)
    if room < 0 or (room and room < len(groups)):
        raise SysErr(errno.EINVAL)
    if room:
        kernel.mem.write(address, struct.pack(f"<{len(groups)}I", *groups))
    return len(groups)


@syscall("setgroups")
def sys_setgroups(kernel: Kernel, task: Task, size: int, address: int) -> int:
    """setgroups(2)."""
    if not _privileged(kernel):
        raise SysErr(errno.EPERM)
    if u32(size) > GROUPS_MAX:
        raise SysErr(errno.EINVAL)
    groups = struct.unpack(f"<{u32(size)}I", kernel.mem.read(address, 4 * u32(size))) if u32(size) else ()
    if NOBODY in groups:
        raise SysErr(errno.EINVAL)
    kernel.process.credentials.groups = sorted(groups)
    return 0


# -- capabilities ----------------------------------------------------------------------------------------------------


def _cap_words(kernel: Kernel, header: int) -> tuple[int, int]:
    """(32-bit words per set, pid) of a capget header; SysErr(EINVAL) for an unknown version (told back in it)."""
    version, pid = struct.unpack("<Ii", kernel.mem.read(header, 8))
    if version in (CAP_VERSION_2, CAP_VERSION_3):
        return 2, pid
    if version == CAP_VERSION_1:
        return 1, pid
    kernel.mem.put_u32(header, CAP_VERSION_3)
    raise SysErr(errno.EINVAL)


@syscall("capget")
def sys_capget(kernel: Kernel, task: Task, header: int, data: int) -> int:
    """capget(2)."""
    try:
        words, pid = _cap_words(kernel, header)
    except SysErr as e:
        if e.errno == errno.EINVAL and not data:
            return 0  # how programs ask for the preferred version
        raise
    if pid < 0:
        raise SysErr(errno.EINVAL)
    _self(kernel, pid)
    if data:
        caps = kernel.process.credentials.caps
        for word in range(words):
            kernel.mem.write(data + 12 * word, struct.pack("<3I", *(c >> 32 * word & 0xFFFFFFFF for c in caps)))
    return 0


@syscall("capset")
def sys_capset(kernel: Kernel, task: Task, header: int, data: int) -> int:
    """capset(2): permitted can only shrink, effective must lie within it."""
    words, pid = _cap_words(kernel, header)
    if pid and pid not in kernel.sched.tasks:
        raise SysErr(errno.EPERM)
    flat = struct.unpack(f"<{3 * words}I", kernel.mem.read(data, 12 * words))
    effective, permitted, inheritable = (
        sum(flat[3 * word + i] << 32 * word for word in range(words)) & ALL_CAPS for i in range(3)
    )
    caps = kernel.process.credentials.caps
    if permitted & ~caps[1] or effective & ~permitted:
        raise SysErr(errno.EPERM)
    kernel.process.credentials.caps = [effective, permitted, inheritable]
    return 0
