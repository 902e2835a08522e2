"""The system calls futex, futex_waitv, set_robust_list, get_robust_list."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import s32, syscall, u32
from prong.cell.task.futex import MATCH_ANY, ROBUST_HEAD_SIZE, Waiter
from prong.cell.task.timespec import read_timespec

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

WAIT, WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, LOCK_PI, UNLOCK_PI, TRYLOCK_PI = 0, 1, 3, 4, 5, 6, 7, 8
WAIT_BITSET, WAKE_BITSET, LOCK_PI2 = 9, 10, 13
CLOCK_REALTIME_FLAG = 256
COMMANDS = 127
TIMED = (WAIT, WAIT_BITSET, LOCK_PI, LOCK_PI2)
TIMED_BY_REALTIME = (WAIT_BITSET, LOCK_PI2)


@syscall("futex")
def sys_futex(kernel: Kernel, task: Task, uaddr: int, op: int, val: int, timeout: int, uaddr2: int, val3: int) -> int:
    """futex(2). Private and shared futexes are the same here: there is one process."""
    futexes = kernel.process.futexes
    if type(task.scratch) is Waiter:
        return futexes.resume(task)
    command = op & COMMANDS
    if command == WAKE and not op & CLOCK_REALTIME_FLAG and not uaddr & 3:
        return futexes.wake(uaddr, s32(val))
    deadline = _deadline(kernel, timeout, op) if command in TIMED else None
    if op & CLOCK_REALTIME_FLAG and command not in TIMED_BY_REALTIME:
        raise SysErr(errno.ENOSYS)
    if command == UNLOCK_PI:
        return futexes.unlock(kernel.mem, task, uaddr)
    if uaddr & 3:
        raise SysErr(errno.EINVAL)
    if command in (WAIT, WAIT_BITSET):
        return _wait(kernel, task, uaddr, u32(val), deadline, MATCH_ANY if command == WAIT else u32(val3))
    if command == WAKE_BITSET:
        if not u32(val3):
            raise SysErr(errno.EINVAL)
        return futexes.wake(uaddr, s32(val), u32(val3))
    if command in (LOCK_PI, LOCK_PI2, TRYLOCK_PI):
        return futexes.lock(kernel, task, uaddr, deadline, wait=command != TRYLOCK_PI)
    if command in (REQUEUE, CMP_REQUEUE, WAKE_OP):
        return _two_words(kernel, command, uaddr, s32(val), s32(timeout), uaddr2, u32(val3))
    raise SysErr(errno.ENOSYS)


def _wait(kernel: Kernel, task: Task, uaddr: int, expected: int, deadline: int | None, bitset: int) -> int:
    if not bitset:
        raise SysErr(errno.EINVAL)
    if kernel.mem.u32(uaddr) != expected:
        raise SysErr(errno.EAGAIN)
    raise kernel.process.futexes.wait(task, uaddr, bitset, deadline, restart=deadline is None)


def _deadline(kernel: Kernel, timeout: int, op: int) -> int | None:
    """The end of the wait in cell monotonic nanoseconds: relative for WAIT, on real time for LOCK_PI or with the flag."""
    if not timeout:
        return None
    ns = read_timespec(kernel.mem, timeout)
    command = op & COMMANDS
    if command == WAIT:
        return kernel.clock.monotonic() + ns
    if command == LOCK_PI or op & CLOCK_REALTIME_FLAG:
        return kernel.clock.monotonic() + ns - kernel.clock.realtime()
    return ns


def _two_words(kernel: Kernel, command: int, uaddr: int, val: int, val2: int, uaddr2: int, val3: int) -> int:
    if uaddr2 & 3:
        raise SysErr(errno.EINVAL)
    futexes = kernel.process.futexes
    if command == WAKE_OP:
        wanted = _operate(kernel, uaddr2, val3)
        woken = futexes.wake(uaddr, val)
        return woken + (futexes.wake(uaddr2, val2) if wanted else 0)
    if val < 0 or val2 < 0:
        raise SysErr(errno.EINVAL)
    if command == CMP_REQUEUE and kernel.mem.u32(uaddr) != val3:
        raise SysErr(errno.EAGAIN)
    return futexes.requeue(uaddr, uaddr2, val, val2)


def _operate(kernel: Kernel, address: int, encoded: int) -> bool:
    """FUTEX_WAKE_OP's read-modify-write; returns whether the old value meets the comparison."""
    op, compare = encoded >> 28 & 15, encoded >> 24 & 15
    operand = _signed12(encoded >> 12)
    if op & 8:
        operand = 1 << (operand & 31)
        op &= 7
    old = kernel.mem.u32(address)
    results = (operand, old + operand, old | operand, old & ~operand, old ^ operand)
    if op >= len(results):
        raise SysErr(errno.ENOSYS)
    kernel.mem.put_u32(address, results[op] & 0xFFFFFFFF)
    left, right = s32(old), _signed12(encoded)
    answers = (left == right, left != right, left < right, left <= right, left > right, left >= right)
    if compare >= len(answers):
        raise SysErr(errno.ENOSYS)
    return answers[compare]


def _signed12(value: int) -> int:
    value &= 0xFFF
    return value - 0x1000 if value & 0x800 else value


@syscall("futex_waitv")
def sys_futex_waitv(kernel: Kernel, task: Task) -> int:
    """futex_waitv(2): not offered."""
    raise SysErr(errno.ENOSYS)


@syscall("set_robust_list")
def sys_set_robust_list(kernel: Kernel, task: Task, head: int, length: int) -> int:
    """set_robust_list(2)."""
    if length != ROBUST_HEAD_SIZE:
        raise SysErr(errno.EINVAL)
    task.robust_list = (head, length)
    return 0


@syscall("get_robust_list")
def sys_get_robust_list(kernel: Kernel, task: Task, pid: int, head: int, length: int) -> int:
    """get_robust_list(2), of any thread of the process."""
    other = kernel.sched.tasks.get(s32(pid)) if s32(pid) else task
    if other is None:
        raise SysErr(errno.ESRCH)
    kernel.mem.put_u64(length, ROBUST_HEAD_SIZE)
    kernel.mem.put_u64(head, other.robust_list[0])
    return 0
