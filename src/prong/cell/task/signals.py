"""Which signals are pending, what the program wants done about them, and who should take one (signal(7))."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from prong.cell.core.saved import saved
from prong.cell.core.waiting import WaitQueue
from prong.cell.task import delivery, timers
from prong.cell.task.siginfo import (
    DEFAULT_ACTION,
    HARMLESS,
    QUEUE_LIMIT,
    SI_KERNEL,
    SI_TIMER,
    SIG_DFL,
    SIG_IGN,
    SIGCONT,
    SIGRTMIN,
    STOPS,
    SYNCHRONOUS,
    UNBLOCKABLE,
    Action,
    bit,
    each_bit,
)
from prong.cell.task.siginfo import SignalInfo as SignalInfo
from prong.cell.task.task import TaskState

if TYPE_CHECKING:
    from collections.abc import Callable

    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Scheduler, Task


@saved("signals", skip=("locate",))
class Signals:
    """Signal state of the process: actions, process-wide pending signals; per-thread ones are in ``Task.pending``.

    ``waitq`` is woken by every signal that becomes pending (sigtimedwait, signalfd). ``locate`` may be set to a
    function that names the mapping an address lies in (``libfoo.so+0x123``, or "" for none), for fault reports.
    """

    def __init__(self, sched: Scheduler) -> None:
        self.sched = sched
        self.actions: dict[int, Action] = {}
        self.pending: dict[int, deque[SignalInfo]] = {}
        self.pending_mask = 0
        self.queued = 0
        self.waitq = WaitQueue()
        self.locate: Callable[[int], str] | None = None

    def after_load(self, env: object) -> None:
        """The namer of mappings is set again by whoever owns the address space."""
        self.locate = None

    # -- sending ----------------------------------------------------------------------------------------------------

    def post(self, sig: int, task: Task | None = None, info: SignalInfo | None = None) -> bool:
        """Make ``sig`` (1…64) pending, for one task or (None) for the process; wakes a blocked task that will take it.

        Ignored signals are discarded, standard ones coalesce, real-time ones queue. Returns False only if the queue of
        real-time signals is full (sigqueue(3)'s EAGAIN). Never raises: timers call it.
        """
        holder: Signals | Task = self if task is None else task
        self._cancel_opposites(sig)
        if self._discards(sig, task):
            return True
        if info is None:
            info = SignalInfo(sig, SI_KERNEL)
        queue = holder.pending.get(sig)
        each = sig >= SIGRTMIN or info.code == SI_TIMER
        if each and self.queued >= QUEUE_LIMIT:
            return False
        if queue is None:
            queue = holder.pending[sig] = deque()
            holder.pending_mask |= bit(sig)
        if each or not queue:
            queue.append(info)
            info.queued = True
            self.queued += 1
        self._notify(sig, task)
        return True

    def _notify(self, sig: int, task: Task | None) -> None:
        target = self._choose(sig) if task is None else task
        if target is not None and target.state is TaskState.BLOCKED and not target.sigmask & bit(sig):
            target.wake()
        self.waitq.wake()

    def _choose(self, sig: int) -> Task | None:
        """Who should take a process-wide signal: the first thread if it can, then the running one, then any."""
        flag = bit(sig)
        leader, current = self.sched.leader, self.sched.current
        for task in (leader, current):
            if task is not None and task.state is not TaskState.DEAD and not task.sigmask & flag:
                return task
        free = [t for t in self.sched.tasks.values() if not t.sigmask & flag and t.state is not TaskState.DEAD]
        return next((t for t in free if t.state is TaskState.READY), free[0] if free else None)

    def _discards(self, sig: int, task: Task | None) -> bool:
        """Whether a signal sent now is thrown away: ignored, and not held back by a mask or a sigtimedwait."""
        if not self.ignored(sig):
            return False
        flag = bit(sig)
        if task is not None:
            return not (task.sigmask | task.sigwait) & flag
        leader = self.sched.leader
        if leader is not None and leader.sigmask & flag:
            return False
        return not any(t.sigwait & flag for t in self.sched.tasks.values())

    def ignored(self, sig: int) -> bool:
        """Whether the action for ``sig`` is to do nothing (SIG_IGN, or by default)."""
        handler = self.actions.get(sig, DEFAULT_ACTION)[0]
        return handler == SIG_IGN or (handler == SIG_DFL and bool(bit(sig) & HARMLESS))

    def _cancel_opposites(self, sig: int) -> None:
        """SIGCONT removes pending stop signals and the other way round (signal(7))."""
        flag = bit(sig)
        if sig == SIGCONT:
            self.flush(STOPS)
        elif flag & STOPS:
            self.flush(bit(SIGCONT))

    # -- taking -----------------------------------------------------------------------------------------------------

    def deliverable(self, task: Task) -> bool:
        """Whether :meth:`deliver` has something to do for ``task``; cheap, for every return to the program."""
        if not (self.pending_mask or task.pending_mask):
            return False
        return bool((task.pending_mask & ~task.sigmask) or self._shared(task))

    def _shared(self, task: Task) -> int:
        """Process-wide pending signals that this task should take: not those the first thread can take itself."""
        bits = self.pending_mask & ~task.sigmask
        if bits:
            leader = self.sched.leader
            if leader is not None and leader is not task and leader.state is not TaskState.DEAD:
                bits &= leader.sigmask
        return bits

    def take(self, task: Task) -> SignalInfo | None:
        """Remove and return the next signal ``task`` has to handle, faults first, then its own, then the process's."""
        own = task.pending_mask & ~task.sigmask
        if own:
            return self._pop(task, own)
        shared = self._shared(task)
        return self._pop(self, shared) if shared else None

    def dequeue(self, task: Task, mask: int) -> SignalInfo | None:
        """Remove and return a pending signal of the set ``mask`` (sigtimedwait(2), signalfd(2)), or None."""
        if task.pending_mask & mask:
            return self._pop(task, task.pending_mask & mask)
        if self.pending_mask & mask:
            return self._pop(self, self.pending_mask & mask)
        return None

    def _pop(self, holder: Signals | Task, bits: int) -> SignalInfo:
        bits = bits & SYNCHRONOUS or bits
        sig = (bits & -bits).bit_length()
        queue = holder.pending[sig]
        info = queue.popleft()
        if not queue:
            del holder.pending[sig]
            holder.pending_mask &= ~bit(sig)
        info.queued = False
        self.queued -= 1
        return info

    def flush(self, bits: int) -> None:
        """Throw away every pending signal of the set ``bits``, process-wide and of each task."""
        self._flush(self, bits)
        for task in self.sched.tasks.values():
            self._flush(task, bits)

    def _flush(self, holder: Signals | Task, bits: int) -> None:
        for sig in each_bit(holder.pending_mask & bits):
            for info in holder.pending.pop(sig):
                info.queued = False
                self.queued -= 1
        holder.pending_mask &= ~bits

    def forget(self, task: Task) -> None:
        """A thread ends: drop what was pending for it, and let another thread take what it might have taken."""
        self._flush(task, -1)
        self._retarget(~task.sigmask)

    # -- masks ------------------------------------------------------------------------------------------------------

    def set_mask(self, task: Task, mask: int) -> None:
        """Replace the task's signal mask (SIGKILL and SIGSTOP stay out); every change of a mask goes through here."""
        mask &= 0xFFFFFFFFFFFFFFFF & ~UNBLOCKABLE
        newly = mask & ~task.sigmask
        task.sigmask = mask
        if self.pending_mask & newly:
            self._retarget(newly)

    def temporary_mask(self, task: Task, mask: int) -> None:
        """Set a mask for the length of one call (sigsuspend, ppoll, pselect, …); a second time is harmless."""
        if task.saved_sigmask is None:
            task.saved_sigmask = task.sigmask
            self.set_mask(task, mask)

    def restore_mask(self, task: Task) -> None:
        """End :meth:`temporary_mask`; nothing to do if there is none."""
        if task.saved_sigmask is not None:
            mask, task.saved_sigmask = task.saved_sigmask, None
            self.set_mask(task, mask)

    def _retarget(self, bits: int) -> None:
        for sig in each_bit(self.pending_mask & bits):
            self._notify(sig, None)

    # -- acting -----------------------------------------------------------------------------------------------------

    def deliver(self, kernel: Kernel, task: Task) -> None:
        """Act on the task's deliverable signals; see :func:`prong.cell.task.delivery.deliver`."""
        delivery.deliver(kernel, task)

    def fault(self, kernel: Kernel, task: Task, sig: int, code: int, addr: int, trapno: int, err: int) -> None:
        """Deliver a CPU exception; see :func:`prong.cell.task.delivery.fault`."""
        delivery.fault(kernel, task, sig, code, addr, trapno, err)

    def tick(self, kernel: Kernel, task: Task) -> None:
        """CPU time has passed; see :func:`prong.cell.task.timers.tick`."""
        timers.tick(kernel, task)
