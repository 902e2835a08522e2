"""The system calls that make and set timers: alarm, setitimer, timer_create and their relatives."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import s32, syscall, u32
from prong.cell.task.clockids import REAL_CLOCKS, SLEEP_CLOCKS, STEADY_CLOCKS, cpu_target
from prong.cell.task.siginfo import SIGALRM, SIGMAX
from prong.cell.task.timers import (
    ITIMER_REAL,
    ITIMER_SIGNALS,
    TIMER_LIMIT,
    PosixTimer,
    RealTimer,
    Ticker,
    count_cpu_timers,
)
from prong.cell.task.timespec import LONGEST, SECOND, pack_timeval, read_timespec, timeval

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID = 0, 1, 2, 4
TIMER_ABSTIME = 1


def _now(kernel: Kernel, ticker: Ticker) -> int:
    """The present time on the clock a timer counts."""
    if not ticker.cpu:
        return kernel.clock.monotonic()
    return kernel.cpu.cpu_time(kernel.sched.tasks.get(ticker.tid) if ticker.tid else None)


def _alarm(kernel: Kernel, which: int) -> RealTimer:
    alarms = kernel.process.alarms
    if which not in alarms:
        alarms[which] = RealTimer(which, kernel.clock, kernel.signals)
    return alarms[which]


def _set_alarm(kernel: Kernel, which: int, value: int, interval: int) -> tuple[int, int]:
    """Set an interval timer; returns what it was: (ns remaining, interval)."""
    alarm = _alarm(kernel, which)
    now = _now(kernel, alarm)
    before = alarm.remaining(now), alarm.interval
    alarm.arm(now + value if value else 0, interval if value else 0)
    count_cpu_timers(kernel)
    return before


@syscall("alarm")
def sys_alarm(kernel: Kernel, task: Task, seconds: int) -> int:
    """alarm(2): returns the seconds an earlier alarm had left, rounded as the kernel does."""
    left, _ = _set_alarm(kernel, ITIMER_REAL, u32(seconds) * SECOND, 0)
    if not left:
        return 0
    whole, part = divmod(left, SECOND)
    return max(whole + (part >= SECOND // 2), 1)


@syscall("setitimer")
def sys_setitimer(kernel: Kernel, task: Task, which: int, new: int, old: int) -> int:
    """setitimer(2)."""
    data = kernel.mem.read(new, 32) if new else bytes(32)
    interval, value = timeval(data, 0), timeval(data, 16)
    if s32(which) not in ITIMER_SIGNALS:
        raise SysErr(errno.EINVAL)
    left, before = _set_alarm(kernel, s32(which), value, interval)
    if old:
        kernel.mem.write(old, _itimerval(left, before))
    return 0


@syscall("getitimer")
def sys_getitimer(kernel: Kernel, task: Task, which: int, address: int) -> int:
    """getitimer(2)."""
    if s32(which) not in ITIMER_SIGNALS:
        raise SysErr(errno.EINVAL)
    alarm = _alarm(kernel, s32(which))
    kernel.mem.write(address, _itimerval(alarm.remaining(_now(kernel, alarm)), alarm.interval))
    return 0


def _itimerval(left: int, interval: int) -> bytes:
    # An armed timer never reads as 0, which would mean disarmed.
    return pack_timeval(interval) + pack_timeval(max(left, 1000) if left else 0)


# -- timer_create ----------------------------------------------------------------------------------------------------


@syscall("timer_create")
def sys_timer_create(kernel: Kernel, task: Task, clock: int, event: int, ident: int) -> int:
    """timer_create(2)."""
    clock, process = s32(clock), kernel.process
    target, counts_cpu = cpu_target(kernel, task, clock)
    if not counts_cpu and clock not in SLEEP_CLOCKS:
        raise SysErr(errno.EOPNOTSUPP if clock in STEADY_CLOCKS or clock in REAL_CLOCKS else errno.EINVAL)
    number = process.next_timer
    signo, value, tid = _event(kernel, event) if event else (SIGALRM, number, 0)
    if len(process.timers) >= TIMER_LIMIT:
        raise SysErr(errno.EAGAIN)
    timer = PosixTimer(number, clock, signo, value, tid, kernel.clock, kernel.signals)
    timer.cpu, timer.tid = counts_cpu, target.tid if target is not None else 0
    kernel.mem.put_u32(ident, number)
    process.next_timer = (number + 1) & 0x7FFFFFFF
    while process.next_timer in process.timers:
        process.next_timer = (process.next_timer + 1) & 0x7FFFFFFF
    process.timers[number] = timer
    return 0


def _event(kernel: Kernel, address: int) -> tuple[int, int, int]:
    """A ``struct sigevent``: (signal or 0 for none, value, thread id or 0). SysErr(EINVAL) if it makes no sense."""
    value, signo, notify, tid = struct.unpack("<Qiii", kernel.mem.read(address, 64)[:20])
    if notify == SIGEV_NONE:
        return 0, value, 0
    if notify not in (SIGEV_SIGNAL, SIGEV_THREAD, SIGEV_THREAD_ID) or not 1 <= signo <= SIGMAX:
        raise SysErr(errno.EINVAL)
    if notify != SIGEV_THREAD_ID:
        return signo, value, 0
    if tid not in kernel.sched.tasks:
        raise SysErr(errno.EINVAL)
    return signo, value, tid


def _timer(kernel: Kernel, ident: int) -> PosixTimer:
    timer = kernel.process.timers.get(s32(ident))
    if timer is None:
        raise SysErr(errno.EINVAL)
    return timer


@syscall("timer_settime")
def sys_timer_settime(kernel: Kernel, task: Task, ident: int, flags: int, new: int, old: int) -> int:
    """timer_settime(2)."""
    if not new:
        raise SysErr(errno.EINVAL)
    interval, value = read_timespec(kernel.mem, new), read_timespec(kernel.mem, new + 16)
    timer = _timer(kernel, ident)
    now = _now(kernel, timer)
    before = _itimerspec(timer, now)
    deadline = value
    if value and not u32(flags) & TIMER_ABSTIME:
        deadline = now + value
    elif value and timer.clockid in REAL_CLOCKS:
        deadline = now + value - kernel.clock.realtime()
    # An absolute time long past still has to expire, and 0 means disarmed.
    timer.arm(min(max(deadline, 1), LONGEST) if value else 0, interval if value else 0)
    timer.info, timer.delivered = None, 0
    count_cpu_timers(kernel)
    if old:
        kernel.mem.write(old, before)
    return 0


def _itimerspec(timer: PosixTimer, now: int) -> bytes:
    left = timer.remaining(now)
    return struct.pack("<4q", *divmod(timer.interval, SECOND), *divmod(left, SECOND))


@syscall("timer_gettime")
def sys_timer_gettime(kernel: Kernel, task: Task, ident: int, address: int) -> int:
    """timer_gettime(2)."""
    timer = _timer(kernel, ident)
    kernel.mem.write(address, _itimerspec(timer, _now(kernel, timer)))
    return 0


@syscall("timer_getoverrun")
def sys_timer_getoverrun(kernel: Kernel, task: Task, ident: int) -> int:
    """timer_getoverrun(2)."""
    return _timer(kernel, ident).overrun()


@syscall("timer_delete")
def sys_timer_delete(kernel: Kernel, task: Task, ident: int) -> int:
    """timer_delete(2)."""
    timer = _timer(kernel, ident)
    timer.arm(0, 0)
    del kernel.process.timers[timer.ident]
    count_cpu_timers(kernel)
    return 0
