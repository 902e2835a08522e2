"""The system calls about resource limits and what has been used (getrlimit(2), getrusage(2), times(2), sysinfo(2))."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import s32, syscall, u32
from prong.cell.process import PID, RLIM_INFINITY, RLIMIT_COUNT, RLIMIT_CPU, RLIMIT_NOFILE, RLIMIT_NPROC
from prong.cell.task.timers import count_cpu_timers
from prong.cell.task.timespec import SECOND, pack_timeval

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

RUSAGE_SELF, RUSAGE_CHILDREN, RUSAGE_THREAD = 0, -1, 1
TICKS = 100
"""USER_HZ: clock ticks per second that times(2) counts in."""


def get_rlimit(kernel: Kernel, resource: int) -> tuple[int, int]:
    """(soft, hard) of one RLIMIT number; SysErr(EINVAL) for an unknown one."""
    if resource >= RLIMIT_COUNT:
        raise SysErr(errno.EINVAL)
    soft, hard = kernel.process.rlimits[resource]
    if resource == RLIMIT_NOFILE:
        return kernel.fds.limit, min(hard, max(kernel.limits.files, kernel.fds.limit))
    if resource == RLIMIT_NPROC and soft == RLIM_INFINITY:
        return kernel.limits.threads, kernel.limits.threads
    return soft, hard


def set_rlimit(kernel: Kernel, resource: int, soft: int, hard: int) -> None:
    """Change one limit. SysErr: EINVAL if soft > hard; EPERM beyond what the cell itself allows."""
    if soft > hard:
        raise SysErr(errno.EINVAL)
    old_hard = get_rlimit(kernel, resource)[1]
    if hard > old_hard and (kernel.process.credentials.uids[1] != 0 or resource in (RLIMIT_NOFILE, RLIMIT_NPROC)):
        raise SysErr(errno.EPERM)
    kernel.process.rlimits[resource] = (soft, hard)
    if resource == RLIMIT_NOFILE:
        kernel.fds.limit = soft
    elif resource == RLIMIT_CPU:
        count_cpu_timers(kernel)


def _read(kernel: Kernel, address: int) -> tuple[int, int]:
    soft, hard = struct.unpack("<QQ", kernel.mem.read(address, 16))
    return soft, hard


@syscall("getrlimit")
def sys_getrlimit(kernel: Kernel, task: Task, resource: int, address: int) -> int:
    """getrlimit(2)."""
    kernel.mem.write(address, struct.pack("<QQ", *get_rlimit(kernel, u32(resource))))
    return 0


@syscall("setrlimit")
def sys_setrlimit(kernel: Kernel, task: Task, resource: int, address: int) -> int:
    """setrlimit(2)."""
    set_rlimit(kernel, u32(resource), *_read(kernel, address))
    return 0


@syscall("prlimit64")
def sys_prlimit64(kernel: Kernel, task: Task, pid: int, resource: int, new: int, old: int) -> int:
    """prlimit(2), of the process itself."""
    if s32(pid) != 0 and s32(pid) not in kernel.sched.tasks and s32(pid) != PID:
        raise SysErr(errno.ESRCH)
    before = get_rlimit(kernel, u32(resource))
    if new:
        set_rlimit(kernel, u32(resource), *_read(kernel, new))
    if old:
        kernel.mem.write(old, struct.pack("<QQ", *before))
    return 0


@syscall("getrusage")
def sys_getrusage(kernel: Kernel, task: Task, who: int, address: int) -> int:
    """getrusage(2): all CPU time counts as user time; there are no children."""
    who = s32(who)
    if who not in (RUSAGE_SELF, RUSAGE_CHILDREN, RUSAGE_THREAD):
        raise SysErr(errno.EINVAL)
    if who == RUSAGE_CHILDREN:
        kernel.mem.write(address, bytes(144))
        return 0
    cpu = kernel.cpu.cpu_time(task if who == RUSAGE_THREAD else None)
    peak = kernel.space.phys.peak * 4
    counts = struct.pack("<14Q", peak, 0, 0, 0, kernel.process.faults, *[0] * 9)
    kernel.mem.write(address, pack_timeval(cpu) + bytes(16) + counts)
    return 0


@syscall("times")
def sys_times(kernel: Kernel, task: Task, address: int) -> int:
    """times(2)."""
    if address:
        ticks = kernel.cpu.cpu_time(None) * TICKS // SECOND
        kernel.mem.write(address, struct.pack("<4q", ticks, 0, 0, 0))
    return kernel.clock.monotonic() * TICKS // SECOND


@syscall("sysinfo")
def sys_sysinfo(kernel: Kernel, task: Task, address: int) -> int:
    """sysinfo(2): the cell's memory limit is its RAM."""
    uptime = kernel.clock.monotonic() // SECOND
    total = kernel.limits.memory
    free = max(total - kernel.space.phys.used * 4096, 0)
    data = struct.pack("<10QHH4xQQI4x", uptime, 0, 0, 0, total, free, 0, 0, 0, 0, len(kernel.sched.tasks), 0, 0, 0, 1)
    kernel.mem.write(address, data)
    return 0
