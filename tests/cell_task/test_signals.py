"""Sending, choosing, masking, waiting for and handling signals; what happens to an interrupted call."""

from __future__ import annotations

import errno
import struct

import pytest

from prong.cell.core.errors import Wait
from prong.cell.core.table import TABLE
from prong.cell.process import PID
from prong.cell.task.sigframe import RAX, RDI, RDX, RIP, RSI, RSP
from prong.cell.task.siginfo import (
    SA_NODEFER,
    SA_ONSTACK,
    SA_RESETHAND,
    SA_RESTART,
    SI_QUEUE,
    SI_TKILL,
    SI_USER,
    SIG_IGN,
    SignalInfo,
    bit,
    name,
)
from prong.cell.task.task import TaskState
from tests.cell_task.world import CODE, HANDLER, MASK, RESTORER, STACK, World

USR1, USR2, CHLD, KILL, STOP, SEGV, RT = 10, 12, 17, 9, 19, 11, 40
AT, OUT = 0x20000, 0x21000


def in_handler(world: World, handler: int = HANDLER) -> bool:
    return world.main.regs[RIP] == handler


# -- actions and defaults --------------------------------------------------------------------------------------------


def test_sigaction_round_trip_and_checks() -> None:
    w = World()
    w.mem.write(AT, struct.pack("<4Q", HANDLER, 0xFFFFFFFF & ~0x20, RESTORER, MASK))
    w.ok(w.main, "rt_sigaction", USR1, AT, 0, 8)
    w.ok(w.main, "rt_sigaction", USR1, 0, OUT, 8)
    handler, flags, restorer, mask = struct.unpack("<4Q", w.mem.read(OUT, 32))
    assert (handler, restorer) == (HANDLER, RESTORER)
    assert flags == 0xDC000807 and mask == MASK & ~(bit(KILL) | bit(STOP))
    for sig in (0, 65, -1, KILL, STOP):
        assert w.fails(w.main, "rt_sigaction", sig, AT, 0, 8) == errno.EINVAL
    assert w.fails(w.main, "rt_sigaction", USR1, AT, 0, 16) == errno.EINVAL
    assert w.fails(w.main, "rt_sigaction", USR1, 1, 0, 8) == errno.EFAULT
    assert w.ok(w.main, "rt_sigaction", KILL, 0, OUT, 8) == 0


@pytest.mark.parametrize("sig", [1, 2, 6, 9, 13, 14, 15, 24, 31, 34, 64])
def test_default_is_to_die(sig: int) -> None:
    w = World()
    w.call(w.main, "kill", PID, sig)
    assert w.process.exit_status == sig
    assert w.process.exit_reason == f"terminated by {name(sig)}"


@pytest.mark.parametrize("sig", [17, 18, 19, 20, 21, 22, 23, 28])
def test_default_is_to_ignore_or_stop_which_does_nothing(sig: int) -> None:
    w = World()
    w.ok(w.main, "kill", 0, sig)
    assert w.process.exit_status is None
    assert not w.signals.deliverable(w.main)


def test_ignored_signals_are_discarded_unless_blocked() -> None:
    w = World()
    w.signals.actions[USR1] = (SIG_IGN, 0, 0, 0)
    w.signals.post(USR1)
    assert not w.signals.pending_mask
    w.signals.set_mask(w.main, bit(USR1))
    w.signals.post(USR1)
    assert w.signals.pending_mask == bit(USR1)
    w.mem.write(AT, struct.pack("<4Q", SIG_IGN, 0, 0, 0))
    w.ok(w.main, "rt_sigaction", USR1, AT, 0, 8)
    assert not w.signals.pending_mask and not w.signals.queued


def test_continue_and_stop_cancel_each_other() -> None:
    w = World()
    w.signals.set_mask(w.main, MASK)
    w.signals.post(20)
    w.signals.post(18)
    assert w.signals.pending_mask == bit(18)
    w.signals.post(20, w.main)
    assert (w.signals.pending_mask, w.main.pending_mask) == (0, bit(20))


# -- order and queues ------------------------------------------------------------------------------------------------


def test_standard_signals_coalesce_and_real_time_ones_queue_in_order() -> None:
    w = World()
    w.signals.set_mask(w.main, MASK)
    for value in range(3):
        w.signals.post(USR1, info=SignalInfo(USR1, SI_QUEUE, value=value))
        w.signals.post(RT, info=SignalInfo(RT, SI_QUEUE, value=value))
    w.signals.post(RT + 1)
    w.mem.put_u64(AT, MASK)
    got = []
    while (sig := w.call(w.main, "rt_sigtimedwait", AT, OUT, w.timespec(AT + 16, 0), 8)) != -errno.EAGAIN:
        assert sig is not None
        signo, _, code, value = struct.unpack("<iii4x8xQ", w.mem.read(OUT, 32))
        assert signo == sig
        got.append((sig, value if code == SI_QUEUE else None))
    assert got == [(USR1, 0), (RT, 0), (RT, 1), (RT, 2), (RT + 1, None)]
    assert w.signals.queued == 0


def test_the_queue_is_bounded() -> None:
    w = World()
    w.signals.set_mask(w.main, MASK)
    w.mem.write(AT, struct.pack("<iii4xiIQ", RT, 0, SI_QUEUE, PID, 0, 7))
    for _ in range(4096):
        w.ok(w.main, "rt_sigqueueinfo", PID, RT, AT)
    assert w.fails(w.main, "rt_sigqueueinfo", PID, RT, AT) == errno.EAGAIN
    assert w.ok(w.main, "kill", PID, USR1) == 0, "standard signals always fit"


def test_pending_is_what_is_blocked_and_sent() -> None:
    w = World()
    w.signals.set_mask(w.main, bit(USR1) | bit(USR2) | bit(RT))
    w.signals.post(USR1)
    w.signals.post(RT, w.main)
    w.ok(w.main, "rt_sigpending", OUT, 8)
    assert w.mem.u64(OUT) == bit(USR1) | bit(RT)
    assert w.fails(w.main, "rt_sigpending", OUT, 9) == errno.EINVAL


def test_handlers_stack_and_masks_nest() -> None:
    w = World()
    w.handle(USR1, mask=bit(USR2))
    w.handle(USR2, handler=HANDLER + 16)
    w.signals.set_mask(w.main, bit(USR1) | bit(USR2))
    w.signals.post(USR1)
    w.signals.post(USR2)
    w.mem.put_u64(AT, 0)
    w.ok(w.main, "rt_sigprocmask", 2, AT, OUT, 8)
    assert w.mem.u64(OUT) == bit(USR1) | bit(USR2)
    assert in_handler(w) and w.main.regs[RDI] == USR1
    assert w.main.sigmask == bit(USR1) | bit(USR2), "USR2 waits: it is in USR1's mask"
    w.sigreturn(w.main)
    assert in_handler(w, HANDLER + 16) and w.main.regs[RDI] == USR2
    w.sigreturn(w.main)
    assert w.main.sigmask == 0 and w.main.regs[RIP] == CODE + 2


def test_nodefer_and_resethand() -> None:
    w = World()
    w.handle(USR1, SA_NODEFER | SA_RESETHAND)
    w.signals.post(USR1)
    w.back_to_user(w.main)
    assert in_handler(w) and w.main.sigmask == 0
    w.call(w.main, "kill", PID, USR1)
    assert w.process.exit_status == USR1, "the second time is the default"


def test_sigprocmask_checks() -> None:
    w = World()
    w.mem.put_u64(AT, MASK)
    assert w.fails(w.main, "rt_sigprocmask", 3, AT, 0, 8) == errno.EINVAL
    assert w.fails(w.main, "rt_sigprocmask", 0, AT, 0, 4) == errno.EINVAL
    w.ok(w.main, "rt_sigprocmask", 0, AT, 0, 8)
    assert w.main.sigmask == MASK & ~(bit(KILL) | bit(STOP))
    w.mem.put_u64(AT, bit(USR1))
    w.ok(w.main, "rt_sigprocmask", 1, AT, 0, 8)
    assert not w.main.sigmask & bit(USR1)
    w.ok(w.main, "rt_sigprocmask", 99, 0, OUT, 8)


# -- who gets it -----------------------------------------------------------------------------------------------------


def test_process_signals_prefer_the_first_thread() -> None:
    w = World()
    other = w.spawn()
    w.handle(USR1)
    w.signals.post(USR1)
    assert not w.signals.deliverable(other) and w.signals.deliverable(w.main)
    w.signals.set_mask(w.main, bit(USR1))
    assert w.signals.deliverable(other)
    w.back_to_user(other)
    assert other.regs[RIP] == HANDLER


def test_a_blocked_thread_that_can_take_it_is_woken() -> None:
    w = World()
    other = w.spawn()
    w.handle(USR1)
    assert w.call(w.main, "pause") is None and w.call(other, "pause") is None
    w.signals.set_mask(w.main, bit(USR1))
    w.signals.post(USR1)
    w.run()
    assert w.main.state is TaskState.BLOCKED and other.regs[RIP] == HANDLER


def test_blocking_a_pending_signal_passes_it_on() -> None:
    w = World()
    other = w.spawn()
    w.handle(USR1)
    assert w.call(other, "pause") is None
    w.signals.post(USR1)
    w.signals.set_mask(w.main, bit(USR1))
    w.run()
    assert other.regs[RIP] == HANDLER


def test_a_dying_thread_passes_process_signals_on() -> None:
    w = World()
    other = w.spawn()
    w.handle(USR1)
    assert w.call(other, "pause") is None
    w.signals.post(USR1)
    w.call(w.main, "exit", 0)
    w.run()
    assert other.regs[RIP] == HANDLER


def test_thread_signals_stay_with_their_thread() -> None:
    w = World()
    other = w.spawn()
    w.handle(USR1)
    w.ok(w.main, "tgkill", PID, other.tid, USR1)
    w.back_to_user(w.main)
    assert not in_handler(w)
    w.back_to_user(other)
    info = w.mem.read(other.regs[RSI], 128)
    assert struct.unpack_from("<iii4xiI", info) == (USR1, 0, SI_TKILL, PID, 0)


def test_kill_reaches_only_this_process() -> None:
    w = World()
    for pid in (0, PID, -PID, w.main.tid):
        assert w.ok(w.main, "kill", pid, 0) == 0
    for pid in (1, 2, -1, -2, 1 << 30):
        assert w.fails(w.main, "kill", pid, 0) == errno.ESRCH
    assert w.fails(w.main, "kill", PID, 65) == errno.EINVAL
    assert w.fails(w.main, "tkill", 0, 0) == errno.EINVAL
    assert w.fails(w.main, "tkill", 4242, 0) == errno.ESRCH
    assert w.fails(w.main, "tgkill", 7, PID, 0) == errno.ESRCH


def test_pidfd() -> None:
    w = World()
    fd = w.ok(w.main, "pidfd_open", PID, 0)
    w.handle(USR1)
    w.call(w.main, "pidfd_send_signal", fd, USR1, 0, 0)
    assert in_handler(w) and struct.unpack_from("<i", w.mem.read(w.main.regs[RSI] + 8, 4))[0] == SI_USER
    assert w.fails(w.main, "pidfd_open", -1, 0) == errno.EINVAL
    assert w.fails(w.main, "pidfd_open", 1, 0) == errno.ESRCH
    assert w.fails(w.main, "pidfd_send_signal", 99, USR1, 0, 0) == errno.EBADF


# -- interrupted calls -----------------------------------------------------------------------------------------------


def test_pause_ends_with_eintr_after_the_handler() -> None:
    w = World()
    w.handle(USR1, SA_RESTART)
    assert w.call(w.main, "pause") is None
    w.signals.post(USR1)
    w.run()
    assert in_handler(w)
    w.sigreturn(w.main)
    assert w.main.regs[RAX] == -errno.EINTR & MASK and w.main.regs[RIP] == CODE + 2


@pytest.mark.parametrize(
    ("flags", "restart", "partial", "rax", "rip"),
    [
        (0, True, 0, -errno.EINTR & MASK, CODE + 2),
        (SA_RESTART, True, 0, 110, CODE),
        (SA_RESTART, False, 0, -errno.EINTR & MASK, CODE + 2),
        (SA_RESTART, True, 17, 17, CODE + 2),
        (0, True, 17, 17, CODE + 2),
    ],
)
def test_interruption_rules(
    monkeypatch: pytest.MonkeyPatch, flags: int, restart: bool, partial: int, rax: int, rip: int
) -> None:
    def waits(kernel: object, task: object) -> int:
        raise Wait(restart=restart, partial=partial)

    monkeypatch.setitem(TABLE, 110, (waits, 0, "getppid"))
    w = World()
    w.handle(USR1, flags)
    assert w.call(w.main, "getppid") is None
    w.signals.post(USR1)
    w.run()
    assert in_handler(w)
    w.sigreturn(w.main)
    assert (w.main.regs[RAX], w.main.regs[RIP]) == (rax, rip)
    assert w.main.call is None and w.main.scratch is None


def test_a_call_that_finished_wins_over_the_signal() -> None:
    w = World()
    other = w.spawn()
    w.handle(USR1)
    assert w.call(other, "futex", AT, 0, 0, 0, 0, 0) is None
    w.signals.set_mask(w.main, bit(USR1))
    assert w.ok(w.main, "futex", AT, 1, 1, 0, 0, 0) == 1
    w.signals.post(USR1)
    w.run()
    assert other.regs[RIP] == HANDLER
    w.sigreturn(other)
    assert other.regs[RAX] == 0


def test_an_ignored_signal_does_not_end_a_call() -> None:
    w = World()
    assert w.call(w.main, "pause") is None
    w.signals.post(CHLD)
    w.main.wake()
    w.run()
    assert w.main.state is TaskState.BLOCKED and w.main.call is not None


def test_sigsuspend_swaps_the_mask_until_a_handler_ran() -> None:
    w = World()
    w.handle(USR1)
    w.signals.set_mask(w.main, bit(USR1) | bit(USR2))
    w.mem.put_u64(AT, bit(USR2))
    assert w.call(w.main, "rt_sigsuspend", AT, 8) is None
    assert w.main.sigmask == bit(USR2)
    w.signals.post(USR2)
    w.run()
    assert w.main.state is TaskState.BLOCKED
    w.signals.post(USR1)
    w.run()
    assert in_handler(w) and w.main.sigmask == bit(USR1) | bit(USR2)
    w.sigreturn(w.main)
    assert w.main.sigmask == bit(USR1) | bit(USR2) and w.main.regs[RAX] == -errno.EINTR & MASK


def test_sigsuspend_takes_what_is_pending_already() -> None:
    w = World()
    w.handle(USR1)
    w.signals.set_mask(w.main, bit(USR1))
    w.signals.post(USR1)
    w.mem.put_u64(AT, 0)
    assert w.call(w.main, "rt_sigsuspend", AT, 8) is None
    assert in_handler(w)


def test_temporary_mask_ends_with_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ppoll does: the mask holds during the call only, and a signal that stayed blocked comes after it."""

    def poll(kernel: object, task: object) -> int:
        w.signals.temporary_mask(w.main, bit(USR2))
        if not ready:
            raise Wait(restart=False)
        return 5

    ready: list[int] = []
    monkeypatch.setitem(TABLE, 110, (poll, 0, "getppid"))
    w = World()
    w.handle(USR2)
    assert w.call(w.main, "getppid") is None and w.main.sigmask == bit(USR2)
    w.signals.post(USR2)
    ready.append(1)
    w.main.wake()
    w.run()
    assert in_handler(w)
    w.sigreturn(w.main)
    assert w.main.regs[RAX] == 5 and w.main.sigmask == 0


def test_sigtimedwait_waits_takes_and_times_out() -> None:
    w = World()
    w.signals.set_mask(w.main, bit(USR1))
    w.mem.put_u64(AT, bit(USR1) | bit(KILL))
    assert w.call(w.main, "rt_sigtimedwait", AT, OUT, w.timespec(AT + 16, 5), 8) is None
    w.clock.advance(5)
    assert w.run() == {w.main.tid: -errno.EAGAIN}
    assert w.call(w.main, "rt_sigtimedwait", AT, 0, 0, 8) is None
    w.signals.post(USR1)
    assert w.run()[w.main.tid] == USR1
    w.handle(USR2, SA_RESTART)
    assert w.call(w.main, "rt_sigtimedwait", AT, 0, 0, 8) is None
    w.signals.post(USR2)
    w.run()
    w.sigreturn(w.main)
    assert w.main.regs[RAX] == -errno.EINTR & MASK


def test_sigtimedwait_gets_even_what_would_be_ignored() -> None:
    w = World()
    w.mem.put_u64(AT, bit(CHLD))
    assert w.call(w.main, "rt_sigtimedwait", AT, 0, 0, 8) is None
    w.signals.post(CHLD)
    assert w.run()[w.main.tid] == CHLD


# -- stacks and faults -----------------------------------------------------------------------------------------------


def altstack(w: World, base: int, size: int, flags: int = 0) -> int | None:
    w.mem.write(AT, struct.pack("<QI4xQ", base, flags, size))
    return w.call(w.main, "sigaltstack", AT, OUT)


def test_alternate_stack() -> None:
    w = World()
    assert altstack(w, 0x30000, 100) == -errno.ENOMEM
    assert altstack(w, 0x30000, 0x4000, 7) == -errno.EINVAL
    assert altstack(w, 0x30000, 0x4000) == 0
    w.handle(USR1, SA_ONSTACK)
    w.signals.post(USR1)
    w.back_to_user(w.main)
    assert 0x30000 < w.main.regs[RSP] < 0x34000
    assert w.mem.read(w.main.regs[RDX] + 16, 24) == struct.pack("<QI4xQ", 0x30000, 0, 0x4000)
    assert altstack(w, 0x30000, 0x4000) == -errno.EPERM, "in use"
    assert w.ok(w.main, "sigaltstack", 0, OUT) == 0
    assert struct.unpack("<QI4xQ", w.mem.read(OUT, 24)) == (0x30000, 1, 0x4000)
    w.sigreturn(w.main)
    assert w.main.regs[RSP] > STACK
    assert altstack(w, 0, 0, 2) == 0


def test_autodisarm_empties_the_alternate_stack_until_sigreturn() -> None:
    w = World()
    assert altstack(w, 0x30000, 0x4000, 0x80000000) == 0
    w.handle(USR1, SA_ONSTACK)
    w.signals.post(USR1)
    w.back_to_user(w.main)
    assert w.main.altstack[1] == 0
    w.sigreturn(w.main)
    assert w.main.altstack == (0x30000, 0x4000, 0x80000000)


def test_overflowing_the_alternate_stack_is_fatal_not_corrupting() -> None:
    w = World()
    assert altstack(w, 0x30000, 2048) == 0
    w.cpu.xsave_size = 4096
    w.handle(USR1, SA_ONSTACK)
    before = w.mem.read(0x2F000, 0x1000)
    w.signals.post(USR1)
    w.back_to_user(w.main)
    assert w.process.exit_status == SEGV and w.mem.read(0x2F000, 0x1000) == before


def test_no_stack_for_a_handler_becomes_sigsegv_on_the_alternate_stack() -> None:
    w = World()
    assert altstack(w, 0x30000, 0x4000) == 0
    w.handle(USR1)
    w.handle(SEGV, SA_ONSTACK, handler=HANDLER + 32)
    w.main.regs[RSP] = 0x500
    w.signals.post(USR1)
    w.back_to_user(w.main)
    assert in_handler(w, HANDLER + 32) and w.main.regs[RDI] == SEGV


def test_fault_reaches_its_handler_with_the_machine_context() -> None:
    w = World()
    w.handle(SEGV)
    w.signals.fault(w.kernel, w.main, SEGV, 1, 0xDEAD000, 14, 6)
    assert in_handler(w) and w.main.regs[RDI] == SEGV
    assert struct.unpack_from("<iii4xQ", w.mem.read(w.main.regs[RSI], 128)) == (SEGV, 0, 1, 0xDEAD000)
    err, trapno, _, cr2 = struct.unpack("<4Q", w.mem.read(w.main.regs[RDX] + 40 + 152, 32))
    assert (err, trapno, cr2) == (6, 14, 0xDEAD000)


@pytest.mark.parametrize("how", ["default", "ignored", "blocked"])
def test_unhandled_fault_ends_the_process_with_a_report(how: str) -> None:
    w = World()
    if how == "ignored":
        w.signals.actions[SEGV] = (SIG_IGN, 0, 0, 0)
    if how == "blocked":
        w.handle(SEGV)
        w.signals.set_mask(w.main, bit(SEGV))
    w.signals.locate = lambda address: f"libfoo.so+{address - CODE:#x}"
    w.main.regs[RIP] = CODE + 0x123
    w.signals.fault(w.kernel, w.main, SEGV, 1, 0, 14, 4)
    assert w.process.exit_status == SEGV
    assert w.process.exit_reason == "SIGSEGV at 0x400123 reading 0x0: no mapping; instruction in libfoo.so+0x123"


def test_fault_texts() -> None:
    w = World()
    w.signals.fault(w.kernel, w.main, 8, 1, CODE, 0, 0)
    assert w.process.exit_reason == f"SIGFPE at {CODE:#x}: integer division by zero"
    w = World()
    w.signals.fault(w.kernel, w.main, SEGV, 2, 0x5000, 14, 7)
    assert w.process.exit_reason == f"SIGSEGV at {CODE:#x} writing 0x5000: not permitted by the mapping"


def test_sigqueue_carries_its_value() -> None:
    w = World()
    w.handle(RT)
    w.mem.write(AT, struct.pack("<iii4xiIQ", 0, 0, SI_QUEUE, 77, 5, 0xABCDEF))
    w.call(w.main, "rt_tgsigqueueinfo", PID, w.main.tid, RT, AT)
    assert struct.unpack_from("<iii4xiIQ", w.mem.read(w.main.regs[RSI], 128)) == (RT, 0, SI_QUEUE, 77, 5, 0xABCDEF)
