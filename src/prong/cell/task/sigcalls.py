"""The system calls about the program's own signals: actions, masks, stacks, waiting, and the return from a handler."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, Wait
from prong.cell.core.table import s32, s64, syscall, u32
from prong.cell.task.delivery import force
from prong.cell.task.sigframe import (
    RAX,
    RSP,
    SS_AUTODISARM,
    BadFrame,
    altstack_flags,
    pack_siginfo,
    pop,
    set_altstack,
)
from prong.cell.task.siginfo import (
    DEFAULT_ACTION,
    SI_KERNEL,
    SIGKILL,
    SIGMAX,
    SIGSEGV,
    SIGSTOP,
    UNBLOCKABLE,
    SignalInfo,
    bit,
)
from prong.cell.task.timespec import read_timespec

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2
KNOWN_FLAGS = 0xDC000807
"""The flags Linux keeps: NOCLDSTOP NOCLDWAIT SIGINFO EXPOSE_TAGBITS RESTORER ONSTACK RESTART NODEFER RESETHAND."""

_ACTION = struct.Struct("<QQQQ")
_STACK = struct.Struct("<QI4xQ")


def _check_size(size: int) -> None:
    if size != 8:
        raise SysErr(errno.EINVAL)


@syscall("rt_sigaction")
def sys_rt_sigaction(kernel: Kernel, task: Task, sig: int, act: int, oact: int, size: int) -> int:
    """rt_sigaction(2). Setting a signal to be ignored throws away what is pending of it."""
    _check_size(size)
    sig = s32(sig)
    new = _ACTION.unpack(kernel.mem.read(act, 32)) if act else None
    if not 1 <= sig <= SIGMAX or (new is not None and sig in (SIGKILL, SIGSTOP)):
        raise SysErr(errno.EINVAL)
    signals = kernel.signals
    old = signals.actions.get(sig, DEFAULT_ACTION)
    if new is not None:
        handler, flags, restorer, mask = new
        signals.actions[sig] = (handler, flags & KNOWN_FLAGS, restorer, mask & ~UNBLOCKABLE)
        if signals.ignored(sig):
            signals.flush(bit(sig))
    if oact:
        kernel.mem.write(oact, _ACTION.pack(*old))
    return 0


@syscall("rt_sigprocmask")
def sys_rt_sigprocmask(kernel: Kernel, task: Task, how: int, new: int, old: int, size: int) -> int:
    """rt_sigprocmask(2), of the calling thread."""
    _check_size(size)
    before = task.sigmask
    if new:
        bits = kernel.mem.u64(new)
        how = s32(how)
        if how == SIG_BLOCK:
            bits |= before
        elif how == SIG_UNBLOCK:
            bits = before & ~bits
        elif how != SIG_SETMASK:
            raise SysErr(errno.EINVAL)
        kernel.signals.set_mask(task, bits)
    if old:
        kernel.mem.put_u64(old, before)
    return 0


@syscall("rt_sigpending")
def sys_rt_sigpending(kernel: Kernel, task: Task, address: int, size: int) -> int:
    """sigpending(2): blocked signals that wait for this thread or the process."""
    if size > 8:
        raise SysErr(errno.EINVAL)
    bits = (kernel.signals.pending_mask | task.pending_mask) & task.sigmask
    kernel.mem.write(address, bits.to_bytes(8, "little")[:size])
    return 0


@syscall("rt_sigsuspend")
def sys_rt_sigsuspend(kernel: Kernel, task: Task, mask: int, size: int) -> int:
    """sigsuspend(2): wait, with another mask, until a handler has run."""
    _check_size(size)
    if task.scratch is None:
        kernel.signals.temporary_mask(task, kernel.mem.u64(mask))
        task.scratch = True
    raise Wait(restart=False)


@syscall("pause")
def sys_pause(kernel: Kernel, task: Task) -> int:
    """pause(2)."""
    raise Wait(restart=False)


@syscall("rt_sigtimedwait")
def sys_rt_sigtimedwait(kernel: Kernel, task: Task, these: int, info: int, timeout: int, size: int) -> int:
    """sigtimedwait(2) and its family: take one pending signal of a set, waiting for it."""
    _check_size(size)
    mask = kernel.mem.u64(these) & ~UNBLOCKABLE
    if task.scratch is None and timeout:
        task.scratch = kernel.clock.monotonic() + read_timespec(kernel.mem, timeout)
    deadline: int | None = task.scratch
    taken = kernel.signals.dequeue(task, mask)
    if taken is not None:
        task.sigwait = 0
        if info:
            kernel.mem.write(info, pack_siginfo(taken))
        return taken.signo
    if task.expired or (deadline is not None and deadline <= kernel.clock.monotonic()):
        task.sigwait = 0
        raise SysErr(errno.EAGAIN)
    task.sigwait = mask
    raise Wait((kernel.signals.waitq,), deadline=deadline, restart=False)


@syscall("sigaltstack")
def sys_sigaltstack(kernel: Kernel, task: Task, new: int, old: int) -> int:
    """sigaltstack(2)."""
    wanted = _STACK.unpack(kernel.mem.read(new, 24)) if new else None
    base, size, flags = task.altstack
    now = _STACK.pack(base, altstack_flags(task, task.regs[RSP]) | (flags & SS_AUTODISARM), size)
    if wanted is not None:
        set_altstack(task, *wanted)
    if old:
        kernel.mem.write(old, now)
    return 0


@syscall("rt_sigreturn")
def sys_rt_sigreturn(kernel: Kernel, task: Task) -> int:
    """rt_sigreturn(2): the program leaves a handler; the frame is its own, so nothing in it is believed.

    Sets all of ``task.regs``; the result is the restored rax. A bad frame is a SIGSEGV.
    """
    task.saved_sigmask = None
    try:
        pop(kernel, task)
    except BadFrame:
        force(kernel, task, SignalInfo(SIGSEGV, SI_KERNEL), (0, 0, 0), "bad frame in rt_sigreturn")
    return s64(task.regs[RAX])


@syscall("restart_syscall")
def sys_restart_syscall(kernel: Kernel, task: Task) -> int:
    """restart_syscall(2): only ever called by the real kernel's own restarts, of which there are none here."""
    raise SysErr(errno.EINTR)


@syscall("seccomp")
def sys_seccomp(kernel: Kernel, task: Task, operation: int, flags: int, args: int) -> int:
    """seccomp(2): as a kernel built without filters answers."""
    raise SysErr(errno.EINVAL if u32(operation) else errno.EPERM)
