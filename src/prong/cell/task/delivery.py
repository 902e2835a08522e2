"""What happens to a thread that has a signal to handle, just before it would return to the program.

The rules for an interrupted call are those of signal(7), "Interruption of system calls": moved bytes win, then
SA_RESTART where the call allows it, then EINTR; without a handler the call goes on as if nothing had happened.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.task import siginfo
from prong.cell.task.sigframe import RAX, RIP, BadFrame, push
from prong.cell.task.siginfo import (
    DEFAULT_ACTION,
    HARMLESS,
    SA_NODEFER,
    SA_RESETHAND,
    SA_RESTART,
    SI_KERNEL,
    SIG_DFL,
    SIG_IGN,
    SIGSEGV,
    STOPS,
    Action,
    SignalInfo,
    bit,
)

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

Trap = tuple[int, int, int]


def deliver(kernel: Kernel, task: Task) -> None:
    """Act on every deliverable signal of ``task``: run default actions, or push one frame per handler.

    ``task.regs`` must be current. With ``task.call`` None the task is on its way back to the program. With
    ``task.call`` set the call's handler has just raised Wait (``restart`` and ``partial`` already copied to the task):
    if the program has a handler to run, the call is ended here and ``task.call`` is None afterwards; otherwise it stays
    set and the task must be parked. Afterwards look at ``process.exit_status``: a default action may have ended the
    process.
    """
    signals = kernel.signals
    while (info := signals.take(task)) is not None:
        action = signals.actions.get(info.signo, DEFAULT_ACTION)
        if action[0] == SIG_IGN or (action[0] == SIG_DFL and bit(info.signo) & (HARMLESS | STOPS)):
            continue
        if action[0] == SIG_DFL:
            kill_process(kernel, info.signo, f"terminated by {siginfo.name(info.signo)}")
            return
        if task.call is not None:
            _interrupt(kernel, task, bool(action[1] & SA_RESTART))
        run_handler(kernel, task, info, action, (0, 0, 0))
        if kernel.process.exit_status is not None:
            return
    if task.call is None:
        signals.restore_mask(task)


def _interrupt(kernel: Kernel, task: Task, restarts: bool) -> None:
    """End the call the task is blocked in, so that a handler can run: set what the program will see after it."""
    call, scratch = task.call, task.scratch
    if call is None:
        raise ValueError("the task is not in a call")
    always = kernel.process.futexes.abandon(scratch)
    if task.partial > 0:
        task.regs[RAX] = task.partial
    elif always or (restarts and task.restart):
        task.regs[RAX] = call[0]
        task.regs[RIP] -= 2
    else:
        task.regs[RAX] = -errno.EINTR & 0xFFFFFFFFFFFFFFFF
    finish_call(task)


def finish_call(task: Task) -> None:
    """Forget the call the task was in; its result is in ``task.regs`` already."""
    task.call = None
    task.scratch = None
    task.expired = False
    task.partial = 0
    task.sigwait = 0


def run_handler(kernel: Kernel, task: Task, info: SignalInfo, action: Action, trap: Trap) -> None:
    """Push a frame and switch to the handler; if the stack cannot hold it, SIGSEGV, and if that fails too, death."""
    signals = kernel.signals
    try:
        push(kernel, task, info, action, trap)
    except BadFrame:
        if info.signo == SIGSEGV:
            kill_process(kernel, SIGSEGV, "SIGSEGV: no room on the stack to handle SIGSEGV")
        else:
            reason = f"no room on the stack to handle {siginfo.name(info.signo)}"
            force(kernel, task, SignalInfo(SIGSEGV, SI_KERNEL), trap, reason)
        return
    _, flags, restorer, mask = action
    if flags & SA_RESETHAND:
        signals.actions[info.signo] = (SIG_DFL, flags, restorer, mask)
    blocked = task.sigmask | mask if flags & SA_NODEFER else task.sigmask | mask | bit(info.signo)
    # The frame holds the mask from before a sigsuspend or ppoll; rt_sigreturn brings that one back.
    task.saved_sigmask = None
    signals.set_mask(task, blocked)


def force(kernel: Kernel, task: Task, info: SignalInfo, trap: Trap, reason: str) -> None:
    """Deliver a signal that cannot wait: if it is blocked, ignored or has no handler the process dies of it."""
    action = kernel.signals.actions.get(info.signo, DEFAULT_ACTION)
    if task.sigmask & bit(info.signo) or action[0] in (SIG_DFL, SIG_IGN):
        kill_process(kernel, info.signo, f"{siginfo.name(info.signo)}: {reason}")
        return
    run_handler(kernel, task, info, action, trap)


def fault(kernel: Kernel, task: Task, sig: int, code: int, addr: int, trapno: int, err: int) -> None:
    """Deliver a CPU exception of ``task`` (its registers in ``task.regs``), at once.

    Args:
        kernel: the cell.
        task: the thread that caused it.
        sig: SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGTRAP.
        code: ``si_code``, such as SEGV_MAPERR (1).
        addr: ``si_addr``; for page faults also cr2.
        trapno: exception vector.
        err: its error code.

    If the signal is blocked, ignored or unhandled the process ends and ``process.exit_reason`` tells address,
    instruction and mapping.
    """
    trap = (trapno, err, addr if trapno == 14 else 0)
    info = SignalInfo(sig, code, addr=addr)
    action = kernel.signals.actions.get(sig, DEFAULT_ACTION)
    if task.sigmask & bit(sig) or action[0] in (SIG_DFL, SIG_IGN):
        kill_process(kernel, sig, describe_fault(kernel, task, sig, code, addr, trapno, err))
    else:
        run_handler(kernel, task, info, action, trap)


_CAUSES = {
    (siginfo.SIGSEGV, 1): "no mapping",
    (siginfo.SIGSEGV, 2): "not permitted by the mapping",
    (siginfo.SIGBUS, 1): "misaligned",
    (siginfo.SIGBUS, 2): "beyond the end of the mapped file",
    (siginfo.SIGFPE, 1): "integer division by zero",
    (siginfo.SIGFPE, 2): "integer overflow",
    (siginfo.SIGILL, 1): "illegal instruction",
    (siginfo.SIGILL, 2): "illegal operand",
}


def describe_fault(kernel: Kernel, task: Task, sig: int, code: int, addr: int, trapno: int, err: int) -> str:
    """One line: ``SIGSEGV at 0x401000 reading 0x0: no mapping; instruction in libfoo.so+0x123``."""
    rip = task.regs[RIP]
    text = f"{siginfo.name(sig)} at {rip:#x}"
    if trapno == 14:
        text += f" {'executing' if err & 16 else 'writing' if err & 2 else 'reading'} {addr:#x}"
    cause = _CAUSES.get((sig, code), f"exception {trapno}, error code {err:#x}")
    place = kernel.signals.locate(rip) if kernel.signals.locate is not None else ""
    return f"{text}: {cause}" + (f"; instruction in {place}" if place else "")


def kill_process(kernel: Kernel, sig: int, reason: str) -> None:
    """End the process by signal ``sig``; the first end counts."""
    if kernel.process.exit_status is None:
        kernel.process.exit_status = sig
        kernel.process.exit_reason = reason
