"""Random system calls with hostile arguments: handlers may only return, raise SysErr or Wait, and the books must balance."""

from __future__ import annotations

import random

import pytest

from prong.cell.core.table import TABLE
from prong.cell.task.futex import Waiter
from prong.cell.task.signals import Signals
from prong.cell.task.task import Task, TaskState
from tests.cell_task.world import World

BLOCK = 0x20000
CALLS = sorted(name for handler, _, name in TABLE.values() if handler.__module__.startswith("prong.cell.task"))
RARE = ("exit_group", "exit", "kill", "tkill", "tgkill", "getrandom")
EDGES = (0, 1, 2, 7, 8, 24, 32, 64, 65, 1000, 1001, 4095, 4096, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32)
FAR = (1 << 47, (1 << 47) - 1, 1 << 63, (1 << 63) - 1, (1 << 64) - 1, (1 << 64) - 8, (1 << 64) - 4096)


def argument(chance: random.Random) -> int:
    kind = chance.random()
    if kind < 0.3:
        return BLOCK + chance.randrange(0, 512, 8)
    if kind < 0.5:
        return chance.randrange(0, 16)
    if kind < 0.75:
        return chance.choice(EDGES)
    if kind < 0.85:
        return chance.choice(FAR)
    if kind < 0.95:
        return 1 << chance.randrange(64)
    return chance.getrandbits(64)


def disturb(w: World, chance: random.Random) -> None:
    """Something happens beside the calls: time, signals, wake-ups for nothing, CPU time."""
    event = chance.randrange(5)
    tasks = list(w.sched.tasks.values())
    if event == 0:
        w.clock.advance(chance.choice((1, 1000, 10**6, 10**10)))
    elif event == 1:
        sig = chance.choice((10, 17, 28, 34, 40))
        w.handle(sig)
        w.signals.post(sig, chance.choice((None, *tasks)))
    elif event == 2 and tasks:
        chance.choice(tasks).wake()
    elif event == 3 and tasks:
        task = chance.choice(tasks)
        w.cpu.times[task.tid] = w.cpu.times.get(task.tid, 0) + 10**7
        w.signals.tick(w.kernel, task)
    w.mem.write(BLOCK + chance.randrange(0, 1024), chance.randbytes(chance.choice((1, 4, 8, 64))))
    w.run()


def check_books(w: World) -> None:
    """What must hold between any two calls."""
    tasks = list(w.sched.tasks.values())
    holders: list[Signals | Task] = [w.signals, *tasks]
    assert w.signals.queued == sum(len(q) for h in holders for q in h.pending.values())
    for holder in holders:
        assert holder.pending_mask == sum(1 << (sig - 1) for sig in holder.pending)
    for address, queue in w.process.futexes.queues.items():
        assert queue
        for waiter in queue:
            assert waiter.address == address and waiter.task.scratch is waiter and not waiter.woken
            assert waiter.task.state is not TaskState.DEAD
    for task in tasks:
        assert not task.sigmask & (1 << 8 | 1 << 18)
        assert task.state is not TaskState.BLOCKED or task.call is not None
        if isinstance(task.scratch, Waiter):
            assert task.call is not None
    assert len(w.process.timers) <= 1024 and len(w.clock.timers) < 5000


def idle(w: World) -> list[Task]:
    return [t for t in w.sched.tasks.values() if t.state is TaskState.READY and t.call is None]


@pytest.mark.parametrize("seed", range(8))
def test_random_calls(seed: int) -> None:
    chance = random.Random(f"task fuzz {seed}")
    w, stuck, made = World(threads=8), 0, 0
    for _ in range(2500):
        ready = idle(w)
        stuck = 0 if ready else stuck + 1
        if w.process.exit_status is not None or stuck > 20:
            w, stuck = World(threads=8), 0
            continue
        if not ready or chance.random() < 0.2:
            disturb(w, chance)
        else:
            name = chance.choice(CALLS)
            if name in RARE and chance.random() < 0.8:
                continue
            made += 1
            w.call(chance.choice(ready), name, *(argument(chance) for _ in range(6)))
        check_books(w)
        w.results.clear()
    assert made > 1000, "most steps should be calls"
