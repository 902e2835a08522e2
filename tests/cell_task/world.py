"""A kernel with fakes around the task layer, and a small cooperative driver that keeps the run loop's contract."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any, cast

import prong.cell.task.calls  # noqa: F401  registers the handlers
from prong.cell.abi.numbers import NR
from prong.cell.core.cpu import FakeCpu
from prong.cell.core.errors import SysErr, Wait
from prong.cell.core.fdtable import FdTable
from prong.cell.core.memory import FlatMemory, ListFrames
from prong.cell.core.table import TABLE
from prong.cell.kernel import Kernel
from prong.cell.limits import Limits
from prong.cell.process import Process
from prong.cell.refusals import RefusalLog
from prong.cell.task.clock import Clock
from prong.cell.task.delivery import finish_call
from prong.cell.task.sigframe import RAX, RDI, RFLAGS, RIP, RSI, RSP
from prong.cell.task.signals import Signals
from prong.cell.task.task import Scheduler, Task, TaskState

MASK = 0xFFFFFFFFFFFFFFFF
STACK = 0x80000
CODE = 0x400000
HANDLER, RESTORER = 0x401000, 0x402000
SA_RESTORER = 0x04000000


class ManualClock(Clock):
    """A clock that moves only when told."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000_000_000

    def monotonic(self) -> int:
        return self.now

    def realtime(self) -> int:
        return self.now + 1_700_000_000_000_000_000 + self.real_offset

    def advance(self, ns: int) -> None:
        self.now += ns
        self.run_due()


class World:
    """One cell's kernel without a CPU. ``call`` runs a system call of a task, ``run`` those whose tasks were woken."""

    def __init__(self, threads: int = 16, clock: Clock | None = None) -> None:
        self.clock = cast(ManualClock, clock or ManualClock())
        self.mem = FlatMemory(size=1 << 20, base=0x10000)
        self.sched = Scheduler(self.clock)
        self.cpu = FakeCpu()
        self.refusals = RefusalLog()
        self.kernel = Kernel(
            mem=self.mem,
            space=cast(Any, SimpleNamespace(phys=SimpleNamespace(used=100, peak=200))),
            frames=ListFrames(64),
            fds=FdTable(),
            fs=cast(Any, None),
            net=cast(Any, None),
            sched=self.sched,
            clock=self.clock,
            signals=Signals(self.sched),
            process=Process([b"prog"], [], b"/bin/prog"),
            limits=Limits(threads=threads),
            refusals=self.refusals,
            cpu=self.cpu,
        )
        self.signals = self.kernel.signals
        self.process = self.kernel.process
        self.results: dict[int, int] = {}
        self.main = self.spawn()

    def spawn(self) -> Task:
        """A further ready thread with a stack of its own."""
        task = self.sched.create()
        task.regs[RIP], task.regs[RSP], task.regs[RFLAGS] = CODE, STACK + 0x4000 * len(self.sched.tasks), 0x202
        self.sched.ready.append(task)
        return task

    # -- the run loop's contract ------------------------------------------------------------------------------------

    def call(self, task: Task, name: str, *args: int) -> int | None:
        """Make a system call; its signed result, or None if the task is parked, dead, or off to a handler."""
        assert task.call is None and task.state is TaskState.READY, "a task makes one call at a time"
        number = NR[name]
        padded = tuple(a & MASK for a in args) + (0,) * (6 - len(args))
        regs = task.regs
        regs[RAX], regs[RDI], regs[RSI] = number, padded[0], padded[1]
        regs[RIP] += 2
        self.results.pop(task.tid, None)
        task.call = (number, *padded)
        self.sched.current = task
        self._attempt(task)
        return self.results.get(task.tid)

    def ok(self, task: Task, name: str, *args: int) -> int:
        """A call that must return at once and not fail."""
        result = self.call(task, name, *args)
        assert result is not None and result >= 0, f"{name}: {result if result is None else errno.errorcode[-result]}"
        return result

    def fails(self, task: Task, name: str, *args: int) -> int:
        """A call that must fail at once; its errno."""
        result = self.call(task, name, *args)
        assert result is not None and result < 0, f"{name}: {result}"
        return -result

    def _attempt(self, task: Task) -> None:
        assert task.call is not None
        handler, arity, _ = TABLE[task.call[0]]
        try:
            result = handler(self.kernel, task, *task.call[1 : 1 + arity])
        except SysErr as e:
            result = -e.errno
        except Wait as w:
            task.restart, task.partial = w.restart, w.partial
            if self.signals.deliverable(task):
                self.signals.deliver(self.kernel, task)
                if self.process.exit_status is not None or task.call is None:
                    return
            task.block(w.queues, w.deadline, w.restart, w.partial)
            return
        finish_call(task)
        if task.state is TaskState.DEAD:
            return
        task.regs[RAX] = result & MASK
        self.results[task.tid] = result
        self.signals.restore_mask(task)
        self.back_to_user(task)

    def back_to_user(self, task: Task) -> None:
        """What happens before each return to the program."""
        if self.process.exit_status is None and self.signals.deliverable(task):
            self.signals.deliver(self.kernel, task)

    def run(self) -> dict[int, int]:
        """Let every ready task go on until all are in user mode or parked; the results of finished calls by tid."""
        before = dict(self.results)
        for _ in range(1000):
            waiting = [t for t in self.sched.tasks.values() if t.state is TaskState.READY and t.call is not None]
            if not waiting or self.process.exit_status is not None:
                break
            for task in waiting:
                self.sched.current = task
                self._attempt(task)
        else:
            raise AssertionError("tasks spin")
        for task in list(self.sched.tasks.values()):
            if task.state is TaskState.READY:
                self.back_to_user(task)
        return {tid: r for tid, r in self.results.items() if tid not in before}

    # -- things tests say often -------------------------------------------------------------------------------------

    def handle(self, sig: int, flags: int = 0, mask: int = 0, handler: int = HANDLER) -> None:
        """Install a handler as a C library does."""
        self.signals.actions[sig] = (handler, flags | SA_RESTORER, RESTORER, mask)

    def timespec(self, address: int, ns: int) -> int:
        """Put a timespec into memory; returns its address."""
        self.mem.put_u64(address, ns // 1_000_000_000)
        self.mem.put_u64(address + 8, ns % 1_000_000_000)
        return address

    def sigreturn(self, task: Task) -> int | None:
        """Leave the handler as its ``ret`` into the restorer would."""
        task.regs[RSP] += 8
        return self.call(task, "rt_sigreturn")
