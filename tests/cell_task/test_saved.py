"""Everything the task layer keeps can be written to a snapshot and goes on from it."""

from __future__ import annotations

from prong.cell.process import PID, Process
from prong.cell.state.codec import decode, encode
from prong.cell.task.clock import Clock
from prong.cell.task.siginfo import SI_QUEUE, SIGALRM, SignalInfo, bit
from prong.cell.task.signals import Signals
from prong.cell.task.task import TaskState
from prong.cell.task.timers import RealTimer
from tests.cell_task.world import World

A, B = 0x20000, 0x20100
HOUR = 3600 * 10**9


def test_waits_timers_and_pending_signals_survive_a_snapshot() -> None:
    w = World(clock=Clock())
    waiter, timed, sleeper = w.spawn(), w.spawn(), w.spawn()
    assert w.call(waiter, "futex", A, 0, 0, 0) is None
    assert w.call(timed, "futex", A, 0, 0, w.timespec(B, HOUR)) is None
    assert w.call(sleeper, "nanosleep", w.timespec(B, HOUR), 0) is None
    w.signals.set_mask(w.main, bit(40) | bit(10))
    for value in (1, 2):
        w.signals.post(40, w.main, SignalInfo(40, SI_QUEUE, value=value))
    w.signals.post(10, w.main)
    w.ok(w.main, "alarm", 3600)
    w.ok(w.main, "timer_create", 1, 0, B)
    w.handle(SIGALRM)

    process = decode(encode(w.process), None, Process)
    alarm = process.alarms[0]
    assert isinstance(alarm, RealTimer) and alarm.entry in alarm.clock.timers
    signals = alarm.signals
    assert isinstance(signals, Signals) and signals is process.timers[0].signals
    assert signals.actions == w.signals.actions and signals.queued == 3
    tasks = signals.sched.tasks
    again = [tasks[t.tid] for t in (waiter, timed, sleeper)]
    assert all(t is not old for t, old in zip(again, (waiter, timed, sleeper), strict=True))
    assert [x.task for x in process.futexes.queues[A]] == again[:2]
    assert process.futexes.wake(A, 9) == 2
    assert [t.state for t in again] == [TaskState.READY, TaskState.READY, TaskState.BLOCKED]
    assert again[0].scratch.woken
    taken = [signals.dequeue(tasks[PID], bit(40)) for _ in range(3)]
    assert [info.value if info else None for info in taken] == [1, 2, None]
    assert tasks[PID].pending_mask == bit(10)  # what was taken is gone
