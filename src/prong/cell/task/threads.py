"""Threads begin and end: clone, clone3, exit, exit_group and relatives; starting a second process is refused."""

from __future__ import annotations

import contextlib
import errno
import struct
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.table import s32, syscall, u32
from prong.cell.task.sigframe import RAX, RSP, SS_DISABLE, USER_TOP
from prong.cell.task.task import TaskState

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_PIDFD = 0x100, 0x200, 0x400, 0x800, 0x1000
CLONE_VFORK, CLONE_THREAD, CLONE_NEWNS, CLONE_SYSVSEM, CLONE_SETTLS = 0x4000, 0x10000, 0x20000, 0x40000, 0x80000
CLONE_PARENT_SETTID, CLONE_CHILD_CLEARTID, CLONE_DETACHED, CLONE_CHILD_SETTID = 0x100000, 0x200000, 0x400000, 0x1000000
CLONE_NAMESPACES = 0x7E020080
CLONE_ARGS_SIZE, CLONE_ARGS_LARGEST = 64, 4096


@syscall("clone")
def sys_clone(kernel: Kernel, task: Task, flags: int, stack: int, parent_tid: int, child_tid: int, tls: int) -> int:
    """clone(2) (the x86-64 argument order); threads only."""
    return _clone(kernel, task, "clone", flags & ~0xFF, stack, parent_tid, child_tid, tls)


@syscall("clone3")
def sys_clone3(kernel: Kernel, task: Task, args: int, size: int) -> int:
    """clone3(2); threads only. EINVAL for a structure too small, E2BIG for unknown fields that are not zero."""
    if size > CLONE_ARGS_LARGEST:
        raise SysErr(errno.E2BIG)
    if size < CLONE_ARGS_SIZE:
        raise SysErr(errno.EINVAL)
    data = kernel.mem.read(args, size)
    if any(data[88:]):
        raise SysErr(errno.E2BIG)
    flags, _pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls = struct.unpack_from("<8Q", data)
    set_tid_size = struct.unpack_from("<Q", data, 72)[0] if size >= 80 else 0
    if flags & (0xFF | CLONE_DETACHED) or exit_signal > 64 or bool(stack) != bool(stack_size):
        raise SysErr(errno.EINVAL)
    if flags & CLONE_THREAD and exit_signal:
        raise SysErr(errno.EINVAL)
    if set_tid_size:
        raise SysErr(errno.EINVAL)
    return _clone(kernel, task, "clone3", flags, stack + stack_size, parent_tid, child_tid, tls)


def _clone(kernel: Kernel, task: Task, call: str, flags: int, stack: int, parent_tid: int, child_tid: int, tls: int) -> int:
    if not flags & CLONE_THREAD:
        raise kernel.refusals.refuse("process", call, "a new process")
    if flags & (CLONE_VM | CLONE_SIGHAND) != CLONE_VM | CLONE_SIGHAND or flags & (CLONE_NAMESPACES | CLONE_PIDFD):
        raise SysErr(errno.EINVAL)
    sched = kernel.sched
    if len(sched.tasks) >= min(kernel.limits.threads, sched.limit):
        raise SysErr(errno.EAGAIN)
    if flags & CLONE_SETTLS and tls >= USER_TOP:
        raise SysErr(errno.EPERM)
    fpu = kernel.cpu.fpu_get(task)
    if flags & CLONE_PARENT_SETTID:
        kernel.mem.put_u32(parent_tid, sched.next_tid)
    child = sched.create()
    child.regs = list(task.regs)
    child.regs[RAX] = 0
    if stack:
        child.regs[RSP] = stack & 0xFFFFFFFFFFFFFFFF
    child.fs_base = tls if flags & CLONE_SETTLS else task.fs_base
    child.gs_base = task.gs_base
    child.name, child.sigmask, child.altstack = task.name, task.sigmask, (0, 0, SS_DISABLE)
    if task.tid in kernel.process.sched:
        kernel.process.sched[child.tid] = kernel.process.sched[task.tid]
    kernel.cpu.fpu_set(child, fpu)
    if flags & CLONE_CHILD_CLEARTID:
        child.clear_tid = child_tid
    if flags & CLONE_CHILD_SETTID:
        # A bad pointer here stops nothing, as in schedule_tail() of the kernel.
        with contextlib.suppress(SysErr):
            kernel.mem.put_u32(child_tid, child.tid)
    sched.ready.append(child)
    return child.tid


def _refuse_process(call: str) -> None:
    @syscall(call)
    def refused(kernel: Kernel, task: Task) -> int:
        raise kernel.refusals.refuse("process", call)


for _call in ("fork", "vfork", "execve", "execveat"):
    _refuse_process(_call)


@syscall("exit")
def sys_exit(kernel: Kernel, task: Task, status: int) -> int:
    """_exit(2) of one thread; the last one's ends the process."""
    end_task(kernel, task, status & 0xFF)
    return 0


@syscall("exit_group")
def sys_exit_group(kernel: Kernel, task: Task, status: int) -> int:
    """exit_group(2): the process ends, whatever its threads do."""
    if kernel.process.exit_status is None:
        kernel.process.exit_status = (status & 0xFF) << 8
        kernel.process.exit_reason = f"exited with code {status & 0xFF}"
    return 0


def end_task(kernel: Kernel, task: Task, code: int) -> None:
    """A thread is over: release its robust locks, clear and wake its tid word, forget it. ``code``: 0…255."""
    process, sched = kernel.process, kernel.sched
    process.futexes.walk_robust_list(kernel.mem, task)
    # Linux clears the word only while somebody else can still look at it.
    if task.clear_tid and len(sched.tasks) > 1:
        try:
            kernel.mem.put_u32(task.clear_tid, 0)
        except SysErr:
            task.clear_tid = 0  # a bad pointer here is the program's own loss, as in mm_release() of the kernel
        else:
            process.futexes.wake(task.clear_tid, 1)
    if task is sched.leader:
        process.leader_status = code
    task.unpark()
    task.state = TaskState.DEAD
    sched.tasks.pop(task.tid, None)
    process.sched.pop(task.tid, None)
    kernel.signals.forget(task)
    if not sched.tasks and process.exit_status is None:
        process.exit_status = process.leader_status << 8
        process.exit_reason = f"exited with code {process.leader_status}"


@syscall("set_tid_address")
def sys_set_tid_address(kernel: Kernel, task: Task, address: int) -> int:
    """set_tid_address(2)."""
    task.clear_tid = address
    return task.tid


@syscall("gettid")
def sys_gettid(kernel: Kernel, task: Task) -> int:
    """gettid(2)."""
    return task.tid


@syscall("wait4")
def sys_wait4(kernel: Kernel, task: Task, pid: int, status: int, options: int) -> int:
    """wait4(2): there are never children. EINVAL for unknown options, ESRCH for the one pid that has no negative."""
    if u32(options) & ~0xE000000B:
        raise SysErr(errno.EINVAL)
    raise SysErr(errno.ESRCH if s32(pid) == -0x80000000 else errno.ECHILD)


@syscall("waitid")
def sys_waitid(kernel: Kernel, task: Task, which: int, pid: int, info: int, options: int) -> int:
    """waitid(2): there are never children."""
    options = u32(options)
    if options & ~0xE100000F or not options & 0xE or u32(which) > 3:
        raise SysErr(errno.EINVAL)
    if u32(which) == 1 and s32(pid) <= 0:
        raise SysErr(errno.EINVAL)
    raise SysErr(errno.ECHILD)
