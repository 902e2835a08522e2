"""The system calls about scheduling (sched(7)): answered plausibly; there is one CPU and everybody gets turns."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, Wait
from prong.cell.core.table import s32, syscall, u32
from prong.cell.process import PARENT, PID
from prong.cell.task.timespec import write_timespec

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE = 0, 1, 2, 3, 5
RESET_ON_FORK = 0x40000000
REAL_TIME = (SCHED_FIFO, SCHED_RR)
POLICIES = (SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE)
SLICE = 4_000_000
"""Nanoseconds sched_rr_get_interval tells."""


def _task(kernel: Kernel, task: Task, pid: int) -> Task:
    """The thread ``pid`` names (0: the caller). SysErr: EINVAL if negative, ESRCH."""
    if s32(pid) < 0:
        raise SysErr(errno.EINVAL)
    other = kernel.sched.tasks.get(s32(pid)) if s32(pid) else task
    if other is None:
        raise SysErr(errno.ESRCH)
    return other


def _told(kernel: Kernel, task: Task, pid: int) -> tuple[int, int]:
    """(policy, priority) of a thread, or of the parent: an ordinary process, which nobody here can change."""
    return (0, 0) if s32(pid) == PARENT else _get(kernel, _task(kernel, task, pid))


@syscall("sched_yield")
def sys_sched_yield(kernel: Kernel, task: Task) -> int:
    """sched_yield(2): wait for a moment that has already come, which puts the task behind the others that are ready."""
    if task.scratch is not None or not kernel.sched.ready:
        return 0
    task.scratch = True
    raise Wait(deadline=kernel.clock.monotonic())


def _set(kernel: Kernel, target: Task, policy: int, priority: int) -> int:
    policy &= ~RESET_ON_FORK
    if policy not in POLICIES or not ((1 <= priority <= 99) if policy in REAL_TIME else priority == 0):
        raise SysErr(errno.EINVAL)
    kernel.process.sched[target.tid] = (policy, priority)
    return 0


def _get(kernel: Kernel, target: Task) -> tuple[int, int]:
    return kernel.process.sched.get(target.tid, (SCHED_OTHER, 0))


@syscall("sched_setscheduler")
def sys_sched_setscheduler(kernel: Kernel, task: Task, pid: int, policy: int, param: int) -> int:
    """sched_setscheduler(2)."""
    if s32(policy) < 0 or not param:
        raise SysErr(errno.EINVAL)
    target = _task(kernel, task, pid)
    return _set(kernel, target, s32(policy), s32(kernel.mem.u32(param)))


@syscall("sched_getscheduler")
def sys_sched_getscheduler(kernel: Kernel, task: Task, pid: int) -> int:
    """sched_getscheduler(2)."""
    return _told(kernel, task, pid)[0]


@syscall("sched_setparam")
def sys_sched_setparam(kernel: Kernel, task: Task, pid: int, param: int) -> int:
    """sched_setparam(2)."""
    if not param:
        raise SysErr(errno.EINVAL)
    target = _task(kernel, task, pid)
    return _set(kernel, target, _get(kernel, target)[0], s32(kernel.mem.u32(param)))


@syscall("sched_getparam")
def sys_sched_getparam(kernel: Kernel, task: Task, pid: int, param: int) -> int:
    """sched_getparam(2)."""
    if not param:
        raise SysErr(errno.EINVAL)
    kernel.mem.put_u32(param, _told(kernel, task, pid)[1])
    return 0


@syscall("sched_getattr")
def sys_sched_getattr(kernel: Kernel, task: Task, pid: int, address: int, size: int, flags: int) -> int:
    """sched_getattr(2)."""
    if not address or u32(flags) or not 48 <= u32(size) <= 4096:
        raise SysErr(errno.EINVAL)
    policy, priority = _told(kernel, task, pid)
    nice = kernel.process.nice if policy not in REAL_TIME else 0
    kernel.mem.write(address, struct.pack("<IIQiIQQQ", 48, policy, 0, nice, priority, 0, 0, 0))
    return 0


@syscall("sched_setattr")
def sys_sched_setattr(kernel: Kernel, task: Task, pid: int, address: int, flags: int) -> int:
    """sched_setattr(2): policy, priority and nice; deadlines are not offered."""
    if not address or u32(flags):
        raise SysErr(errno.EINVAL)
    target = _task(kernel, task, pid)
    size, policy, _flags, nice, priority = struct.unpack("<IIQiI", kernel.mem.read(address, 24))
    if size and size < 48:
        raise SysErr(errno.E2BIG)
    _set(kernel, target, policy, priority)
    if policy not in REAL_TIME:
        kernel.process.nice = min(max(nice, -20), 19)
    return 0


@syscall("sched_get_priority_max")
def sys_sched_get_priority_max(kernel: Kernel, task: Task, policy: int) -> int:
    """sched_get_priority_max(2)."""
    if s32(policy) not in (*POLICIES, 6):
        raise SysErr(errno.EINVAL)
    return 99 if s32(policy) in REAL_TIME else 0


@syscall("sched_get_priority_min")
def sys_sched_get_priority_min(kernel: Kernel, task: Task, policy: int) -> int:
    """sched_get_priority_min(2)."""
    if s32(policy) not in (*POLICIES, 6):
        raise SysErr(errno.EINVAL)
    return 1 if s32(policy) in REAL_TIME else 0


@syscall("sched_rr_get_interval")
def sys_sched_rr_get_interval(kernel: Kernel, task: Task, pid: int, address: int) -> int:
    """sched_rr_get_interval(2)."""
    policy = _told(kernel, task, pid)[0]
    write_timespec(kernel.mem, address, 0 if policy == SCHED_FIFO else SLICE)
    return 0


def _affine(kernel: Kernel, task: Task, pid: int) -> None:
    """Whether there is such a thread. These two calls know no invalid ids, only ones that do not exist: SysErr(ESRCH)."""
    if s32(pid) < 0:
        raise SysErr(errno.ESRCH)
    _task(kernel, task, pid)


@syscall("sched_getaffinity")
def sys_sched_getaffinity(kernel: Kernel, task: Task, pid: int, size: int, address: int) -> int:
    """sched_getaffinity(2): CPU 0; returns the bytes written."""
    if u32(size) < 8 or size & 7:
        raise SysErr(errno.EINVAL)
    _affine(kernel, task, pid)
    kernel.mem.put_u64(address, 1)
    return 8


@syscall("sched_setaffinity")
def sys_sched_setaffinity(kernel: Kernel, task: Task, pid: int, size: int, address: int) -> int:
    """sched_setaffinity(2): the set must contain CPU 0."""
    mask = kernel.mem.read(address, min(u32(size), 8))
    _affine(kernel, task, pid)
    if not mask or not mask[0] & 1:
        raise SysErr(errno.EINVAL)
    return 0


def _priority_target(kernel: Kernel, which: int, who: int) -> None:
    """Check that getpriority's (which, who) is this process, its group or its user."""
    which, who = s32(which), s32(who)
    if not 0 <= which <= 2:
        raise SysErr(errno.EINVAL)
    known = ((0, PID, *kernel.sched.tasks), (0, PID), (0, kernel.process.credentials.uids[0]))
    if who not in known[which]:
        raise SysErr(errno.ESRCH)


@syscall("getpriority")
def sys_getpriority(kernel: Kernel, task: Task, which: int, who: int) -> int:
    """getpriority(2): 20 - nice, as the raw call returns it."""
    _priority_target(kernel, which, who)
    return 20 - kernel.process.nice


@syscall("setpriority")
def sys_setpriority(kernel: Kernel, task: Task, which: int, who: int, nice: int) -> int:
    """setpriority(2)."""
    _priority_target(kernel, which, who)
    wanted = min(max(s32(nice), -20), 19)
    if wanted < kernel.process.nice and kernel.process.credentials.uids[1] != 0:
        raise SysErr(errno.EACCES)
    kernel.process.nice = wanted
    return 0
