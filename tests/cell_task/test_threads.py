"""Threads begin, end, and a second process is refused."""

from __future__ import annotations

import errno
import struct

import pytest

from prong.cell.process import PID
from prong.cell.refusals import Refusal
from prong.cell.task.sigframe import RAX, RBX, RIP, RSP
from prong.cell.task.siginfo import bit
from prong.cell.task.task import TaskState
from tests.cell_task.world import CODE, World

PTHREAD = 0x3D0F00
"""CLONE_VM FS FILES SIGHAND THREAD SYSVSEM SETTLS PARENT_SETTID CHILD_CLEARTID, as glibc's pthread_create."""
CHILD_SETTID = 0x1000000
AT, TID, TID2, STACK2 = 0x20000, 0x21000, 0x21010, 0x40000


def clone3(w: World, flags: int, *, exit_signal: int = 0, stack: int = STACK2, size: int = 0x8000, tls: int = 0x5000) -> int:
    """The call's result; the structure is as glibc 2.36 passes it (88 bytes)."""
    w.mem.write(AT, struct.pack("<11Q", flags, 0, TID2, TID, exit_signal, stack, size, tls, 0, 0, 0))
    result = w.call(w.main, "clone3", AT, 88)
    assert result is not None
    return result


def test_a_thread_is_a_copy_with_its_own_stack_and_tls() -> None:
    w = World()
    w.main.regs[RBX] = 77
    w.main.fs_base, w.main.gs_base = 1, 2
    w.signals.set_mask(w.main, bit(10))
    w.signals.post(10, w.main)
    w.main.altstack = (1, 2, 0)
    w.cpu.fpu_set(w.main, bytes(w.cpu.xsave_size - 1) + b"x")
    tid = clone3(w, PTHREAD | CHILD_SETTID)
    child = w.sched.tasks[tid]
    assert tid == w.main.regs[RAX] == w.mem.u32(TID) == w.mem.u32(TID2) == PID + 1
    assert (child.regs[RAX], child.regs[RSP], child.regs[RBX], child.regs[RIP]) == (0, STACK2 + 0x8000, 77, CODE + 2)
    assert (child.fs_base, child.gs_base, child.clear_tid) == (0x5000, 2, TID2)
    assert (child.sigmask, child.pending_mask, child.altstack) == (bit(10), 0, (0, 0, 2))
    assert w.cpu.fpu_get(child)[-1:] == b"x"
    assert child in w.sched.ready and child.state is TaskState.READY


def test_clone_takes_the_x86_argument_order() -> None:
    w = World()
    tid = w.ok(w.main, "clone", PTHREAD, STACK2, TID, TID2, 0x6000)
    child = w.sched.tasks[tid]
    assert (child.regs[RSP], child.fs_base, child.clear_tid, w.mem.u32(TID)) == (STACK2, 0x6000, TID2, tid)
    same = w.sched.tasks[w.ok(w.main, "clone", PTHREAD, 0, TID, TID2, 0x6000)]
    assert same.regs[RSP] == w.main.regs[RSP]


@pytest.mark.parametrize(
    ("flags", "arguments", "error"),
    [
        (PTHREAD & ~0x100, {}, errno.EINVAL),
        (PTHREAD & ~0x800, {}, errno.EINVAL),
        (PTHREAD | 0x20000, {}, errno.EINVAL),
        (PTHREAD | 0x400000, {}, errno.EINVAL),
        (PTHREAD, {"exit_signal": 17}, errno.EINVAL),
        (PTHREAD, {"exit_signal": 65}, errno.EINVAL),
        (PTHREAD, {"stack": 0}, errno.EINVAL),
        (PTHREAD, {"size": 0}, errno.EINVAL),
        (PTHREAD, {"tls": 1 << 47}, errno.EPERM),
    ],
)
def test_clone3_checks(flags: int, arguments: dict[str, int], error: int) -> None:
    w = World()
    assert clone3(w, flags, **arguments) == -error
    assert len(w.sched.tasks) == 1


def test_clone3_structure_sizes() -> None:
    w = World()
    assert w.fails(w.main, "clone3", AT, 63) == errno.EINVAL
    assert w.fails(w.main, "clone3", AT, 5000) == errno.E2BIG
    w.mem.put_u64(AT + 88, 1)
    assert w.fails(w.main, "clone3", AT, 96) == errno.E2BIG
    assert w.fails(w.main, "clone3", 1, 88) == errno.EFAULT


def test_a_bad_parent_tid_leaves_no_thread_behind() -> None:
    w = World()
    assert w.fails(w.main, "clone", PTHREAD, STACK2, 1, TID2, 0) == errno.EFAULT
    assert len(w.sched.tasks) == 1


def test_the_limit_is_eagain() -> None:
    w = World(threads=3)
    assert clone3(w, PTHREAD) > 0 and clone3(w, PTHREAD) > 0
    assert clone3(w, PTHREAD) == -errno.EAGAIN


@pytest.mark.parametrize(
    ("call", "arguments"),
    [("fork", ()), ("vfork", ()), ("execve", ()), ("execveat", ()), ("clone", (17,)), ("clone", (0x4111, STACK2))],
)
def test_a_second_process_is_refused_and_remembered(call: str, arguments: tuple[int, ...]) -> None:
    w = World()
    assert w.fails(w.main, call, *arguments) == errno.EPERM
    assert [r.kind for r in w.refusals.counts] == ["process"]
    assert next(iter(w.refusals.counts)).call == call


def test_clone3_process_is_refused() -> None:
    w = World()
    assert clone3(w, 0x4100, exit_signal=17) == -errno.EPERM
    assert w.refusals.counts == {Refusal("process", "clone3", "a new process"): 1}


def test_exit_clears_and_wakes_the_joiner() -> None:
    w = World()
    child = w.sched.tasks[clone3(w, PTHREAD)]
    w.mem.put_u32(TID2, child.tid)
    assert w.call(w.main, "futex", TID2, 0, child.tid) is None
    w.call(child, "exit", 3)
    assert child.state is TaskState.DEAD and child.tid not in w.sched.tasks
    assert w.mem.u32(TID2) == 0
    assert w.run() == {PID: 0}
    assert w.process.exit_status is None


def test_exit_of_the_last_thread_ends_the_process_with_the_first_ones_code() -> None:
    w = World()
    child = w.sched.tasks[clone3(w, PTHREAD)]
    w.call(w.main, "exit", 7)
    assert w.process.exit_status is None and w.sched.leader is None
    w.call(child, "exit", 9)
    assert w.process.exit_status == 7 << 8


def test_exit_survives_a_bad_tid_address() -> None:
    w = World()
    child = w.sched.tasks[clone3(w, PTHREAD)]
    assert w.ok(child, "set_tid_address", 3) == child.tid
    w.call(child, "exit", 0)
    assert child.state is TaskState.DEAD


def test_exit_group() -> None:
    w = World()
    child = w.sched.tasks[clone3(w, PTHREAD)]
    w.call(child, "exit_group", 0x1FF)
    assert w.process.exit_status == 0xFF00 and w.process.exit_reason == "exited with code 255"


def test_ids() -> None:
    w = World()
    other = w.spawn()
    assert (w.ok(other, "getpid"), w.ok(other, "gettid"), w.ok(other, "getppid")) == (PID, PID + 1, 1)


def test_there_are_no_children() -> None:
    w = World()
    assert w.fails(w.main, "wait4", -1, 0, 0) == errno.ECHILD
    assert w.fails(w.main, "wait4", -1, 0, 0x100) == errno.EINVAL
    assert w.fails(w.main, "waitid", 0, 0, 0, 4) == errno.ECHILD
    assert w.fails(w.main, "waitid", 0, 0, 0, 0) == errno.EINVAL
    assert w.fails(w.main, "waitid", 9, 0, 0, 4) == errno.EINVAL


def test_yield_lets_others_run_first() -> None:
    w = World()
    w.sched.ready.clear()
    assert w.ok(w.main, "sched_yield") == 0, "alone: at once"
    other = w.spawn()
    assert w.call(w.main, "sched_yield") is None
    w.clock.run_due()
    assert list(w.sched.ready) == [other, w.main]
    assert w.run() == {PID: 0}
