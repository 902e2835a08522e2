"""What a ``clockid_t`` means here (clock_gettime(2)): reading, and converting its times to deadlines."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import s32
from prong.cell.process import PID

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

REALTIME, MONOTONIC, PROCESS_CPUTIME, THREAD_CPUTIME, MONOTONIC_RAW = 0, 1, 2, 3, 4
REALTIME_COARSE, MONOTONIC_COARSE, BOOTTIME, REALTIME_ALARM, BOOTTIME_ALARM, TAI = 5, 6, 7, 8, 9, 11

REAL_CLOCKS = frozenset((REALTIME, REALTIME_COARSE, REALTIME_ALARM, TAI))
STEADY_CLOCKS = frozenset((MONOTONIC, MONOTONIC_RAW, MONOTONIC_COARSE, BOOTTIME, BOOTTIME_ALARM))
SLEEP_CLOCKS = frozenset((REALTIME, MONOTONIC, BOOTTIME, REALTIME_ALARM, BOOTTIME_ALARM, TAI))
"""Clocks that sleeps and timers can use, besides those of CPU time."""

PER_THREAD = 4


def cpu_target(kernel: Kernel, task: Task, clock: int) -> tuple[Task | None, bool]:
    """Whose CPU time a clock id counts: (thread or None for the process, True), or (None, False) for other clocks.

    Negative ids are pid·8-encoded (posix-timers_types.h). SysErr(EINVAL) for a thread or process that is not ours.
    """
    if clock == PROCESS_CPUTIME:
        return None, True
    if clock == THREAD_CPUTIME:
        return task, True
    if clock >= 0:
        return None, False
    who, kind = ~(clock >> 3), clock & 3
    if kind == 3:
        raise SysErr(errno.EINVAL)
    if clock & PER_THREAD:
        other = kernel.sched.tasks.get(who) if who else task
        if other is None:
            raise SysErr(errno.EINVAL)
        return other, True
    if who not in (0, PID):
        raise SysErr(errno.EINVAL)
    return None, True


def read_clock(kernel: Kernel, task: Task, clock: int) -> int:
    """Nanoseconds on a clock (signed id); SysErr(EINVAL) if there is no such clock."""
    if clock in REAL_CLOCKS:
        return kernel.clock.realtime()
    if clock in STEADY_CLOCKS:
        return kernel.clock.monotonic()
    target, counts_cpu = cpu_target(kernel, task, clock)
    if not counts_cpu:
        raise SysErr(errno.EINVAL)
    return kernel.cpu.cpu_time(target)


def clock_id(value: int) -> int:
    """A raw argument as a signed clock id."""
    return s32(value)
