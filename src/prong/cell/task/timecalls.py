"""The system calls that tell and set time, and sleep (clock_gettime(2), nanosleep(2), gettimeofday(2))."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, Wait
from prong.cell.core.table import s32, syscall, u32
from prong.cell.task.clockids import (
    MONOTONIC,
    REAL_CLOCKS,
    REALTIME,
    SLEEP_CLOCKS,
    STEADY_CLOCKS,
    THREAD_CPUTIME,
    cpu_target,
    read_clock,
)
from prong.cell.task.timespec import SECOND, pack_timeval, read_timespec, write_timespec

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

TIMER_ABSTIME = 1
COARSE = (5, 6)
CPU_NAP = 10_000_000
"""Nanoseconds between looks at a CPU-time clock that somebody sleeps on."""

_TIMESPEC = struct.Struct("<qq")


@syscall("clock_gettime")
def sys_clock_gettime(kernel: Kernel, task: Task, clock: int, address: int) -> int:
    """clock_gettime(2)."""
    if clock == MONOTONIC:
        ns = kernel.clock.monotonic()
    elif clock == REALTIME:
        ns = kernel.clock.realtime()
    else:
        ns = read_clock(kernel, task, s32(clock))
    kernel.mem.write(address, _TIMESPEC.pack(ns // SECOND, ns % SECOND))
    return 0


@syscall("clock_getres")
def sys_clock_getres(kernel: Kernel, task: Task, clock: int, address: int) -> int:
    """clock_getres(2): a nanosecond; four milliseconds for the coarse clocks."""
    read_clock(kernel, task, s32(clock))
    if address:
        write_timespec(kernel.mem, address, 4_000_000 if s32(clock) in COARSE else 1)
    return 0


def _set_real(kernel: Kernel, ns: int) -> None:
    if kernel.process.credentials.uids[1] != 0:
        raise SysErr(errno.EPERM)
    kernel.clock.set_realtime(ns)


@syscall("clock_settime")
def sys_clock_settime(kernel: Kernel, task: Task, clock: int, address: int) -> int:
    """clock_settime(2): the cell has its own real time; nobody outside is affected."""
    clock = s32(clock)
    if clock != REALTIME:
        _, counts_cpu = cpu_target(kernel, task, clock)
        raise SysErr(errno.EPERM if counts_cpu and clock < 0 else errno.EINVAL)
    _set_real(kernel, read_timespec(kernel.mem, address))
    return 0


@syscall("gettimeofday")
def sys_gettimeofday(kernel: Kernel, task: Task, address: int, zone: int) -> int:
    """gettimeofday(2); the time zone is always UTC."""
    if address:
        kernel.mem.write(address, pack_timeval(kernel.clock.realtime()))
    if zone:
        kernel.mem.write(zone, bytes(8))
    return 0


@syscall("settimeofday")
def sys_settimeofday(kernel: Kernel, task: Task, address: int, zone: int) -> int:
    """settimeofday(2); a time zone is accepted and not kept."""
    if address:
        seconds, micros = _TIMESPEC.unpack(kernel.mem.read(address, 16))
        if seconds < 0 or not 0 <= micros < 1_000_000:
            raise SysErr(errno.EINVAL)
        _set_real(kernel, seconds * SECOND + micros * 1000)
    if zone:
        kernel.mem.read(zone, 8)
    return 0


@syscall("time")
def sys_time(kernel: Kernel, task: Task, address: int) -> int:
    """time(2)."""
    seconds = kernel.clock.realtime() // SECOND
    if address:
        kernel.mem.put_u64(address, seconds)
    return seconds


@syscall("nanosleep")
def sys_nanosleep(kernel: Kernel, task: Task, request: int, remaining: int) -> int:
    """nanosleep(2)."""
    if task.scratch is None:
        task.scratch = kernel.clock.monotonic() + read_timespec(kernel.mem, request)
    return _sleep(kernel, task, task.scratch, remaining)


@syscall("clock_nanosleep")
def sys_clock_nanosleep(kernel: Kernel, task: Task, clock: int, flags: int, request: int, remaining: int) -> int:
    """clock_nanosleep(2). A later clock_settime does not move a sleep that has begun."""
    clock = s32(clock)
    absolute = bool(u32(flags) & TIMER_ABSTIME)
    if clock not in SLEEP_CLOCKS:
        return _cpu_sleep(kernel, task, clock, absolute, request)
    if task.scratch is None:
        ns = read_timespec(kernel.mem, request)
        now = kernel.clock.monotonic()
        if not absolute:
            ns += now
        elif clock in REAL_CLOCKS:
            ns += now - kernel.clock.realtime()
        task.scratch = ns
    return _sleep(kernel, task, task.scratch, 0 if absolute else remaining)


def _sleep(kernel: Kernel, task: Task, deadline: int, remaining: int) -> int:
    """Wait for a cell time; if a signal is about to interrupt, tell what is left first."""
    left = deadline - kernel.clock.monotonic()
    if left <= 0 or task.expired:
        return 0
    if remaining and kernel.signals.deliverable(task):
        write_timespec(kernel.mem, remaining, left)
    raise Wait(deadline=deadline, restart=False)


def _cpu_sleep(kernel: Kernel, task: Task, clock: int, absolute: bool, request: int) -> int:
    """Sleep until a CPU clock reaches a time; it is never faster than time itself, so look when it could be there."""
    target, counts_cpu = cpu_target(kernel, task, clock)
    if clock == THREAD_CPUTIME or clock in STEADY_CLOCKS or clock in REAL_CLOCKS:
        raise SysErr(errno.EOPNOTSUPP)
    if not counts_cpu:
        raise SysErr(errno.EINVAL)
    if target is task:
        raise SysErr(errno.EINVAL)
    now = kernel.cpu.cpu_time(target)
    if task.scratch is None:
        ns = read_timespec(kernel.mem, request)
        task.scratch = ns if absolute else now + ns
    left = task.scratch - now
    if left <= 0:
        return 0
    task.expired = False
    raise Wait(deadline=kernel.clock.monotonic() + max(left, CPU_NAP), restart=False)


@syscall("adjtimex")
def sys_adjtimex(kernel: Kernel, task: Task, address: int) -> int:
    """adjtimex(2): the host's clock is not the program's to steer."""
    raise SysErr(errno.EPERM)


@syscall("clock_adjtime")
def sys_clock_adjtime(kernel: Kernel, task: Task, clock: int, address: int) -> int:
    """clock_adjtime(2): as adjtimex."""
    raise SysErr(errno.EPERM)
