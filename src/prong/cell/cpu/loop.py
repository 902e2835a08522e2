"""The run loop: enter the program, answer what it left for, switch tasks, keep time."""

from __future__ import annotations

import errno
import fcntl
import signal
from typing import TYPE_CHECKING, Protocol

from prong.cell.core.errors import SysErr, Wait
from prong.cell.core.table import TABLE
from prong.cell.cpu import faults
from prong.cell.cpu.cpu import ALL_DIRTY, DIRTY_AT, REGS_AT, REGS_END, Cpu
from prong.cell.cpu.timepage import TimePage
from prong.cell.memory.layout import PORT_SYSCALL, PORT_VECTOR, SUPERVISOR
from prong.cell.task.task import TaskState
from prong.kvm import abi

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

TICK = 0.004
"""Seconds between ticks while the program runs: the bound on how long control messages and other tasks wait."""

SYS_RT_SIGRETURN = 15
LIMIT_ERRNOS = frozenset({errno.ENOMEM, errno.ENOSPC, errno.EMFILE, errno.EAGAIN})
_MASK = 0xFFFFFFFFFFFFFFFF
_ENOSYS = -errno.ENOSYS & _MASK
_TICK_SIGNAL = {signal.SIGALRM}


class VmBroken(Exception):
    """KVM stopped running the guest for a reason that is not the program's doing."""


class Host(Protocol):
    """What the loop needs of the process around it."""

    def service(self, timeout: int | None) -> None:
        """Handle control messages; wait for one up to ``timeout`` ns (None: for ever; 0: only what is there)."""
        ...

    def short_of(self, number: int, error: int) -> None:
        """System call ``number`` failed with one of LIMIT_ERRNOS: perhaps a limit of the cell was hit."""
        ...

    def stopping(self) -> bool:
        """Whether :meth:`Loop.run` should return now (the program's state stays intact)."""
        ...


class Loop:
    """Runs the tasks of one kernel on one CPU until the program ends or the host says stop."""

    def __init__(self, kernel: Kernel, cpu: Cpu, host: Host) -> None:
        self.kernel = kernel
        self.cpu = cpu
        self.host = host
        self.ticking = False
        self.timepage = TimePage(kernel.space, kernel.clock, cpu.vcpu, cpu.vm.kvm)

    # -- outer loop: who runs ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until the program's exit status is set or ``host.stopping()``. Task state is saved in the tasks then."""
        kernel, host = self.kernel, self.host
        sched, clock = kernel.sched, kernel.clock
        self.timepage.refresh()
        try:
            while kernel.process.exit_status is None and not host.stopping():
                if clock.timers:
                    clock.run_due()
                if not sched.ready:
                    self._idle()
                    continue
                task = sched.ready.popleft()
                if task.state is not TaskState.READY:
                    continue
                sched.current = task
                self._run_task(task)
                sched.current = None
                if task.state is TaskState.READY and kernel.process.exit_status is None:
                    sched.ready.append(task)
        finally:
            self.rest()
            self.cpu.unload()

    def _idle(self) -> None:
        """Nobody wants the CPU: wait for time or the host. Without any task left the process is over."""
        kernel = self.kernel
        self.rest()
        if not kernel.sched.tasks:
            if kernel.process.exit_status is None:
                kernel.process.exit_status = 0
            return
        deadline = kernel.clock.next_deadline()
        timeout = None if deadline is None else max(deadline - kernel.clock.monotonic(), 0)
        self.host.service(timeout)
        self.timepage.refresh()
        self.cpu.skip_time()

    def rest(self) -> None:
        """Stop ticking."""
        if self.ticking:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.ticking = False

    # -- inner loop: one task's turn --------------------------------------------------------------------------------------

    def _run_task(self, task: Task) -> None:
        """Run ``task`` until it blocks, ends, or its time slice is over while others are ready."""
        kernel, cpu = self.kernel, self.cpu
        signals = kernel.signals
        if task.call is not None and not self._resume(task):
            return
        cpu.load(task)
        cpu.put_regs(task.regs)
        if not self.ticking:
            signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
            self.ticking = True
        run, words, fd, ioctl = cpu.run, cpu.words, cpu.fd, fcntl.ioctl
        process = kernel.process
        whole = True
        while True:
            if whole and signals.deliverable(task):
                if not words[DIRTY_AT]:
                    task.regs = cpu.get_regs()
                signals.deliver(kernel, task)
                if process.exit_status is not None or task.state is not TaskState.READY:
                    return
                cpu.load_bases(task)
                cpu.put_regs(task.regs)
            try:
                ioctl(fd, abi.KVM_RUN, 0)
            except InterruptedError:
                whole = self._outside_stub()
                if whole and self._tick(task):
                    return
                continue
            whole = True
            words[DIRTY_AT] = 0
            if run[abi.RUN_EXIT_REASON] != abi.EXIT_IO:
                self._trouble(task)
            port = run[abi.RUN_IO_PORT]
            if port == PORT_SYSCALL:
                if not self._syscall(task):
                    return
            elif not self._exception(task, port - PORT_VECTOR):
                return

    def _syscall(self, task: Task) -> bool:
        """Answer a system call; False when the task cannot go on now."""
        cpu = self.cpu
        words = cpu.words
        regs = words[REGS_AT:REGS_END].tolist()
        regs[abi.RIP] = regs[abi.RCX] & faults.USER_ADDRESSES
        regs[abi.RFLAGS] = regs[abi.R11] & 0x240DD5 | 0x202
        task.regs = regs
        number = regs[0]
        args = (regs[5], regs[4], regs[3], regs[10], regs[8], regs[9])
        result = self._dispatch(task, number, args)
        if result is None:
            return False
        regs = task.regs
        if number == SYS_RT_SIGRETURN:
            cpu.load_bases(task)
            cpu.put_regs(regs)
            return True
        regs[0] = result
        if task.fs_base != cpu._fs or task.gs_base != cpu._gs:
            cpu.load_bases(task)
        words[REGS_AT] = result
        words[REGS_AT + abi.RIP] = regs[abi.RIP]
        words[REGS_AT + abi.RFLAGS] = regs[abi.RFLAGS]
        cpu.run[abi.RUN_SREGS : abi.RUN_SREGS + abi.SREGS_SIZE] = cpu.sregs
        words[DIRTY_AT] = ALL_DIRTY
        return True

    def _dispatch(self, task: Task, number: int, args: tuple[int, ...]) -> int | None:
        """Run the handler; returns the 64-bit result, or None if the task is blocked, dead, or the process over."""
        kernel = self.kernel
        kernel.process.syscalls += 1
        entry = TABLE.get(number)
        if entry is None:
            return _ENOSYS
        handler, arity, _name = entry
        try:
            result = handler(kernel, task, *args[:arity])
        except SysErr as e:
            result = -e.errno
            if e.errno in LIMIT_ERRNOS:
                self.host.short_of(number, e.errno)
        except Wait as w:
            task.call = (number, *args)
            task.restart, task.partial = w.restart, w.partial
            # A signal that came, or that the call itself unblocked (sigsuspend), ends it if there is a handler to run.
            if kernel.signals.deliverable(task):
                kernel.signals.deliver(kernel, task)
            if task.call is not None and kernel.process.exit_status is None:
                task.block(w.queues, w.deadline, w.restart, w.partial)
            return None
        task.scratch = None
        task.expired = False
        if task.saved_sigmask is not None:
            kernel.signals.restore_mask(task)
        if task.state is TaskState.DEAD or kernel.process.exit_status is not None:
            return None
        return result & _MASK

    def _resume(self, task: Task) -> bool:
        """A woken task runs its handler again, whatever woke it (``prong.cell.task``). False if it stays off the CPU."""
        call = task.call
        assert call is not None
        task.call = None
        result = self._dispatch(task, call[0], call[1:])
        if result is None:
            return False
        if call[0] != SYS_RT_SIGRETURN:
            task.regs[0] = result
        return True

    # -- other exits ------------------------------------------------------------------------------------------------------

    def _outside_stub(self) -> bool:
        """After a tick: whether the program itself was interrupted. In a stub, the exit it is about to make comes first.

        So does an exception that has been raised and not entered: left in the virtual CPU, it would hit the next task,
        with the address of the fault overwritten when that task's registers are loaded.
        """
        signal.sigtimedwait(_TICK_SIGNAL, 0)
        words = self.cpu.words
        if words[DIRTY_AT]:
            return True
        return words[REGS_AT + abi.RIP] < SUPERVISOR and not self.cpu.vcpu.exception_waits()

    def _tick(self, task: Task) -> bool:
        """The tick ended KVM_RUN: keep time, serve the host, and say whether the task's turn is over."""
        kernel, cpu = self.kernel, self.cpu
        pending_regs = bool(cpu.words[DIRTY_AT])
        if not pending_regs:
            task.regs = cpu.get_regs()
        cpu.book()
        kernel.signals.tick(kernel, task)
        if kernel.clock.timers:
            kernel.clock.run_due()
        self.host.service(0)
        self.timepage.refresh()
        cpu.skip_time()
        if kernel.process.exit_status is not None or self.host.stopping() or kernel.sched.ready:
            return True
        if cpu.loaded is not task:
            cpu.load(task)
            cpu.put_regs(task.regs)
        return False

    def _exception(self, task: Task, vector: int) -> bool:
        """A CPU exception: resolve page faults, turn the rest into signals. False if the task cannot go on."""
        kernel, cpu = self.kernel, self.cpu
        exception = faults.read_frame(kernel.space.phys, vector)
        regs = cpu.get_regs()
        regs[abi.RIP], regs[abi.RSP], regs[abi.RFLAGS] = exception.rip, exception.rsp, exception.rflags
        task.regs = regs
        kernel.process.faults += 1
        if vector == faults.PAGE_FAULT:
            exception = exception.at(cpu.fault_address())
        faults.handle(kernel, task, exception)
        if kernel.process.exit_status is not None or task.state is not TaskState.READY:
            return False
        cpu.put_regs(task.regs)
        return True

    def _trouble(self, task: Task) -> None:
        """KVM left for a reason no program can cause in a sound VM."""
        run = self.cpu.run
        rip = self.cpu.get_regs()[abi.RIP]
        detail = bytes(run[32:64]).hex()
        raise VmBroken(f"KVM exit reason {run[abi.RUN_EXIT_REASON]} at {rip:#x} ({detail})")
