"""Futexes: each command, timeouts, owners, robust lists; and a machine that compares with a simple model."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from prong.cell.process import PID
from prong.cell.task.futex import OWNER_DIED, WAITERS
from prong.cell.task.sigframe import RAX, RIP
from prong.cell.task.siginfo import SA_RESTART
from prong.cell.task.task import Task, TaskState
from tests.cell_task.world import HANDLER, MASK, World

A, B, TS = 0x20000, 0x20040, 0x21000
WAIT, WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, LOCK, UNLOCK, TRYLOCK, WAIT_BITSET, WAKE_BITSET = 0, 1, 3, 4, 5, 6, 7, 8, 9, 10
PRIVATE, REAL = 128, 256
USR1 = 10


def parked(w: World, count: int, address: int = A, op: int = WAIT, val3: int = 0) -> list[Task]:
    tasks = [w.spawn() for _ in range(count)]
    for task in tasks:
        assert w.call(task, "futex", address, op, w.mem.u32(address), 0, 0, val3) is None
    return tasks


def test_wait_wake_in_order() -> None:
    w = World()
    first, second, third = parked(w, 3)
    assert w.ok(w.main, "futex", A, WAKE | PRIVATE, 2) == 2
    assert w.run() == {first.tid: 0, second.tid: 0}
    assert third.state is TaskState.BLOCKED
    assert w.ok(w.main, "futex", A, WAKE, 100) == 1
    assert w.ok(w.main, "futex", A, WAKE, 100) == 0
    assert not w.process.futexes.queues


def test_wait_checks() -> None:
    w = World()
    assert w.fails(w.main, "futex", A, WAIT, 1) == errno.EAGAIN
    assert w.fails(w.main, "futex", A + 1, WAIT, 0) == errno.EINVAL
    assert w.fails(w.main, "futex", 0x10, WAIT, 0) == errno.EFAULT
    assert w.fails(w.main, "futex", A, WAIT_BITSET, 0, 0, 0, 0) == errno.EINVAL
    assert w.fails(w.main, "futex", A, WAKE_BITSET, 1, 0, 0, 0) == errno.EINVAL
    assert w.fails(w.main, "futex", A, 77, 0) == errno.ENOSYS
    assert w.fails(w.main, "futex", A, WAKE | REAL, 1) == errno.ENOSYS
    w.mem.put_u64(TS + 8, 1_000_000_000)
    assert w.fails(w.main, "futex", A, WAIT, 0, TS) == errno.EINVAL
    assert w.fails(w.main, "futex_waitv") == errno.ENOSYS


def test_bitsets_select() -> None:
    w = World()
    (low,), (high,) = parked(w, 1, op=WAIT_BITSET, val3=1), parked(w, 1, op=WAIT_BITSET, val3=6)
    assert w.ok(w.main, "futex", A, WAKE_BITSET, 9, 0, 0, 4) == 1
    assert w.run() == {high.tid: 0}
    assert w.ok(w.main, "futex", A, WAKE, 9) == 1
    assert w.run()[low.tid] == 0


@pytest.mark.parametrize(
    ("op", "absolute", "real"),
    [(WAIT, False, False), (WAIT_BITSET, True, False), (WAIT_BITSET | REAL, True, True), (LOCK, True, True)],
)
def test_timeouts(op: int, absolute: bool, real: bool) -> None:
    w = World()
    owner = w.spawn()
    word = owner.tid if op == LOCK else 0
    w.mem.put_u32(A, word)
    start = w.clock.realtime() if real else w.clock.monotonic()
    w.timespec(TS, (start if absolute else 0) + 500)
    assert w.call(w.main, "futex", A, op, word, TS, 0, 1) is None
    w.clock.advance(499)
    w.run()
    assert w.main.state is TaskState.BLOCKED
    w.clock.advance(1)
    assert w.run() == {w.main.tid: -errno.ETIMEDOUT}
    assert not w.process.futexes.queues


def test_a_timeout_in_the_past_ends_at_once() -> None:
    w = World()
    w.timespec(TS, 1)
    assert w.call(w.main, "futex", A, WAIT_BITSET, 0, TS, 0, 1) is None
    w.clock.run_due()
    assert w.run() == {w.main.tid: -errno.ETIMEDOUT}


def test_spurious_wake_ups_neither_end_the_wait_nor_lose_the_place() -> None:
    w = World()
    first, second = parked(w, 2)
    first.wake()
    w.run()
    assert first.state is TaskState.BLOCKED
    w.ok(w.main, "futex", A, WAKE, 1)
    assert w.run() == {first.tid: 0}
    assert second.state is TaskState.BLOCKED


def test_a_signal_takes_the_waiter_out() -> None:
    w = World()
    w.handle(USR1, SA_RESTART)
    (waiter,) = parked(w, 1)
    w.ok(w.main, "tgkill", PID, waiter.tid, USR1)
    w.run()
    assert waiter.regs[RIP] == HANDLER and not w.process.futexes.queues
    w.sigreturn(waiter)
    assert waiter.regs[RAX] == 202, "an endless wait restarts"


def test_a_timed_wait_is_not_restarted() -> None:
    w = World()
    w.handle(USR1, SA_RESTART)
    assert w.call(w.main, "futex", A, WAIT, 0, w.timespec(TS, 10**9)) is None
    w.signals.post(USR1)
    w.run()
    w.sigreturn(w.main)
    assert w.main.regs[RAX] == -errno.EINTR & MASK


def test_requeue_moves_and_compares() -> None:
    w = World()
    tasks = parked(w, 4)
    assert w.fails(w.main, "futex", A, CMP_REQUEUE, 1, 9, B, 5) == errno.EAGAIN
    assert w.fails(w.main, "futex", A, REQUEUE, 1, -1, B) == errno.EINVAL
    assert w.ok(w.main, "futex", A, CMP_REQUEUE, 1, 2, B, 0) == 3
    assert w.run() == {tasks[0].tid: 0}
    assert w.ok(w.main, "futex", B, WAKE, 9) == 2
    assert w.ok(w.main, "futex", A, WAKE, 9) == 1


@pytest.mark.parametrize(
    ("op", "old", "operand", "new"),
    [(0, 5, 9, 9), (1, 5, 9, 14), (2, 5, 8, 13), (3, 5, 4, 1), (4, 5, 4, 1), (8, 5, 4, 16), (1, 5, 0xFFF, 4)],
)
def test_wake_op(op: int, old: int, operand: int, new: int) -> None:
    w = World()
    parked(w, 2)
    w.mem.put_u32(B, old)
    parked(w, 2, B)
    encoded = op << 28 | 0 << 24 | operand << 12 | old
    assert w.ok(w.main, "futex", A, WAKE_OP, 1, 1, B, encoded) == 2
    assert w.mem.u32(B) == new
    w.mem.put_u32(B, old)
    assert w.ok(w.main, "futex", A, WAKE_OP, 1, 1, B, encoded | 1 << 24) == 1, "the comparison fails"


# -- locks with an owner ---------------------------------------------------------------------------------------------


def test_lock_hand_over() -> None:
    w = World()
    assert w.ok(w.main, "futex", A, LOCK) == 0
    assert w.mem.u32(A) == PID
    assert w.fails(w.main, "futex", A, LOCK) == errno.EDEADLK
    one, two = w.spawn(), w.spawn()
    assert w.fails(one, "futex", A, TRYLOCK) == errno.EAGAIN
    assert w.call(one, "futex", A, LOCK) is None and w.call(two, "futex", A, LOCK) is None
    assert w.mem.u32(A) == PID | WAITERS
    assert w.fails(w.main, "futex", A, WAKE, 1) == errno.EINVAL
    assert w.ok(w.main, "futex", A, UNLOCK) == 0
    assert w.run() == {one.tid: 0} and w.mem.u32(A) == one.tid | WAITERS
    assert w.fails(w.main, "futex", A, UNLOCK) == errno.EPERM
    assert w.ok(one, "futex", A, UNLOCK) == 0 and w.mem.u32(A) == two.tid
    w.run()
    assert w.ok(two, "futex", A, UNLOCK) == 0 and w.mem.u32(A) == 0
    w.mem.put_u32(A, 54321)
    assert w.fails(w.main, "futex", A, LOCK) == errno.ESRCH


def test_waiting_for_a_lock_always_restarts() -> None:
    w = World()
    w.handle(USR1)
    other = w.spawn()
    w.ok(other, "futex", A, LOCK)
    assert w.call(w.main, "futex", A, LOCK) is None
    w.signals.post(USR1)
    w.run()
    w.sigreturn(w.main)
    assert w.main.regs[RAX] == 202 and not w.process.futexes.queues


# -- the end of a thread ---------------------------------------------------------------------------------------------

HEAD, NODE = 0x22000, 0x22100


def robust(w: World, task: Task, words: list[int], pending: int = 0) -> None:
    """A robust list of nodes whose futex words lie 16 bytes after each."""
    nodes = [NODE + 64 * i for i in range(len(words))]
    for node, following, word in zip(nodes, [*nodes[1:], HEAD], words, strict=False):
        w.mem.put_u64(node, following)
        w.mem.put_u32(node + 16, word)
    w.mem.write(HEAD, struct.pack("<QqQ", nodes[0] if nodes else HEAD, 16, pending))
    assert w.ok(task, "set_robust_list", HEAD, 24) == 0


def test_robust_locks_of_a_dead_thread_are_marked_and_one_waiter_woken() -> None:
    w = World()
    owner = w.spawn()
    robust(w, owner, [owner.tid | WAITERS, owner.tid, w.main.tid])
    waiter = parked(w, 1, NODE + 16)[0]
    w.call(owner, "exit", 0)
    assert w.run() == {waiter.tid: 0}
    assert [w.mem.u32(NODE + 16 + 64 * i) for i in range(3)] == [OWNER_DIED | WAITERS, OWNER_DIED, w.main.tid]


def test_a_pending_robust_lock_counts_too() -> None:
    w = World()
    owner = w.spawn()
    robust(w, owner, [], pending=NODE)
    w.mem.put_u32(NODE + 16, owner.tid)
    w.call(owner, "exit", 0)
    assert w.mem.u32(NODE + 16) == OWNER_DIED


def test_a_robust_lock_with_owner_is_handed_over() -> None:
    w = World()
    owner = w.spawn()
    robust(w, owner, [owner.tid])
    w.mem.put_u64(HEAD, NODE | 1)
    assert w.call(w.main, "futex", NODE + 16, LOCK) is None
    w.call(owner, "exit", 0)
    assert w.run() == {w.main.tid: 0} and w.mem.u32(NODE + 16) == w.main.tid | OWNER_DIED


@pytest.mark.parametrize("spoil", ["cycle", "wild", "unmapped head", "misaligned"])
def test_hostile_robust_lists_end(spoil: str) -> None:
    w = World()
    owner = w.spawn()
    robust(w, owner, [owner.tid, owner.tid])
    if spoil == "cycle":
        w.mem.put_u64(NODE + 64, NODE)
    elif spoil == "wild":
        w.mem.put_u64(NODE + 64, MASK)
    elif spoil == "unmapped head":
        owner.robust_list = (MASK - 4, 24)
    else:
        w.mem.put_u64(HEAD + 8, 17)
    w.call(owner, "exit", 0)
    assert owner.state is TaskState.DEAD
    assert w.fails(w.main, "set_robust_list", HEAD, 25) == errno.EINVAL


def test_get_robust_list() -> None:
    w = World()
    other = w.spawn()
    w.ok(other, "set_robust_list", HEAD, 24)
    w.ok(w.main, "get_robust_list", other.tid, TS, TS + 8)
    assert (w.mem.u64(TS), w.mem.u64(TS + 8)) == (HEAD, 24)
    assert w.fails(w.main, "get_robust_list", 4242, TS, TS + 8) == errno.ESRCH


# -- against a model -------------------------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """Threads wait, are woken, moved, timed out, signalled and woken for nothing; the model is plain lists of tids."""

    waiters = Bundle("waiters")

    def __init__(self) -> None:
        super().__init__()
        self.w = World(threads=64)
        self.w.handle(USR1)
        self.model: dict[int, list[int]] = {A: [], B: []}
        self.deadlines: dict[int, int] = {}
        self.expected: dict[int, int] = {}

    def settle(self) -> None:
        got = {tid: r for tid, r in self.w.run().items() if tid != PID}
        assert got == self.expected
        for tid in got:
            self.w.results.pop(tid)
        self.expected = {}

    def leave(self, tid: int) -> None:
        for queue in self.model.values():
            if tid in queue:
                queue.remove(tid)
        self.deadlines.pop(tid, None)

    @rule(address=st.sampled_from((A, B)), timeout=st.none() | st.integers(1, 50))
    def wait(self, address: int, timeout: int | None) -> None:
        idle = [t for t in self.w.sched.tasks.values() if t.tid != PID and t.call is None]
        if not idle and len(self.w.sched.tasks) >= 12:
            return
        task = idle[0] if idle else self.w.spawn()
        pointer = 0 if timeout is None else self.w.timespec(TS, timeout)
        assert self.w.call(task, "futex", address, WAIT, 0, pointer) is None
        self.model[address].append(task.tid)
        if timeout is not None:
            self.deadlines[task.tid] = self.w.clock.now + timeout

    def wake_model(self, address: int, count: int) -> int:
        chosen = self.model[address][:count]
        for tid in chosen:
            self.leave(tid)
            self.expected[tid] = 0
        return len(chosen)

    @rule(address=st.sampled_from((A, B)), count=st.integers(1, 4), settle=st.booleans())
    def wake(self, address: int, count: int, settle: bool) -> None:
        wanted = self.wake_model(address, count)
        assert self.w.ok(self.w.main, "futex", address, WAKE, count) == wanted
        if settle:
            self.settle()

    @rule(count=st.integers(0, 3), move=st.integers(0, 3), swap=st.booleans())
    def requeue(self, count: int, move: int, swap: bool) -> None:
        source, target = (B, A) if swap else (A, B)
        wanted = self.wake_model(source, count)
        moved = self.model[source][:move]
        self.model[source] = self.model[source][move:]
        self.model[target] += moved
        assert self.w.ok(self.w.main, "futex", source, REQUEUE, count, move, target) == wanted + len(moved)
        self.settle()

    @rule(ns=st.integers(1, 40))
    def pass_time(self, ns: int) -> None:
        self.settle()
        self.w.clock.advance(ns)
        for tid, deadline in sorted(self.deadlines.items()):
            if deadline <= self.w.clock.now:
                self.leave(tid)
                self.expected[tid] = -errno.ETIMEDOUT
        self.settle()

    @rule(pick=st.integers(0, 20), handled=st.booleans())
    def disturb(self, pick: int, handled: bool) -> None:
        waiting = [tid for queue in self.model.values() for tid in queue]
        if not waiting:
            return
        task = self.w.sched.tasks[waiting[pick % len(waiting)]]
        self.settle()
        if not handled:
            task.wake()
            self.settle()
            return
        self.w.signals.post(USR1, task)
        self.leave(task.tid)
        self.settle()
        assert task.regs[RIP] == HANDLER
        self.w.sigreturn(task)
        assert task.regs[RAX] == -errno.EINTR & MASK
        self.w.results.pop(task.tid, None)

    @invariant()
    def queues_agree(self) -> None:
        real = {a: [x.task.tid for x in q] for a, q in self.w.process.futexes.queues.items()}
        assert real == {a: q for a, q in self.model.items() if q}


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
