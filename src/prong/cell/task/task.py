"""One thread of the program, as data, and the scheduler that picks who runs."""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from prong.cell.core.saved import saved

if TYPE_CHECKING:
    from prong.cell.core.waiting import WaitQueue
    from prong.cell.task.clock import Clock, TimerEntry
    from prong.cell.task.signals import SignalInfo


@saved("task_state")
class TaskState(IntEnum):
    """READY: wants the CPU. BLOCKED: parked by a Wait. DEAD: exited."""

    READY = 0
    BLOCKED = 1
    DEAD = 2


@saved("task")
class Task:
    """A thread: identity, saved CPU context, signal state, and the system call it is blocked in, if any.

    ``regs`` are the 18 general registers in the order of ``struct kvm_regs``; valid while the task is not on the CPU.
    ``call`` is (number, six arguments) of the system call to run again when the task is woken.
    ``scratch`` belongs to that call's handler: anything that must survive the wait; reset when the call ends.
    """

    def __init__(self, tid: int, scheduler: Scheduler) -> None:
        self.tid = tid
        self.scheduler = scheduler
        self.state = TaskState.READY
        self.name = b""
        self.regs: list[int] = [0] * 18
        self.fs_base = 0
        self.gs_base = 0
        self.xsave: bytes | None = None
        self.call: tuple[int, ...] | None = None
        self.scratch: Any = None
        self.expired = False
        self.queues: tuple[WaitQueue, ...] = ()
        self.timer: TimerEntry | None = None
        self.restart = True
        self.partial = 0
        self.sigmask = 0
        self.saved_sigmask: int | None = None
        self.pending: dict[int, deque[SignalInfo]] = {}
        self.pending_mask = 0
        self.sigwait = 0
        self.altstack: tuple[int, int, int] = (0, 0, 2)
        self.clear_tid = 0
        self.robust_list = (0, 0)
        self.cpu_ns = 0

    def block(self, queues: tuple[WaitQueue, ...], deadline: int | None, restart: bool, partial: int) -> None:
        """Park on ``queues`` until woken or ``deadline`` (cell ns)."""
        self.state = TaskState.BLOCKED
        self.queues = queues
        self.restart = restart
        self.partial = partial
        for queue in queues:
            queue.waiters.append(self)
        if deadline is not None:
            self.timer = self.scheduler.clock.arm(deadline, self)

    def wake(self) -> None:
        """Leave every queue and become ready; the blocked call's handler will run again. No effect if not blocked."""
        if self.state is not TaskState.BLOCKED:
            return
        self.unpark()
        self.state = TaskState.READY
        self.scheduler.ready.append(self)

    def unpark(self) -> None:
        """Leave the wait queues and cancel the deadline, without becoming ready."""
        for queue in self.queues:
            try:
                queue.waiters.remove(self)
            except ValueError:
                continue
        self.queues = ()
        if self.timer is not None:
            self.timer.cancelled = True
            self.timer = None

    def due(self, now: int) -> None:
        """The deadline of the wait has passed (Clock's callback)."""
        self.timer = None
        self.expired = True
        self.wake()


@saved("scheduler")
class Scheduler:
    """All tasks, and the queue of those that want the CPU; one runs at a time, in turn."""

    def __init__(self, clock: Clock, limit: int = 256) -> None:
        self.clock = clock
        self.limit = limit
        self.tasks: dict[int, Task] = {}
        self.ready: deque[Task] = deque()
        self.current: Task | None = None
        self.next_tid = 1000

    def create(self) -> Task:
        """A new task, known but not yet ready."""
        task = Task(self.next_tid, self)
        self.next_tid += 1
        self.tasks[task.tid] = task
        return task

    @property
    def leader(self) -> Task | None:
        """The task whose id is the process id, if it still lives."""
        return self.tasks.get(1000)
