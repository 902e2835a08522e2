"""Clocks, sleeps and timers, on a clock that moves only when told."""

from __future__ import annotations

import errno
import struct

import pytest

from prong.cell.process import PID, RLIMIT_CPU
from prong.cell.task.sigframe import RAX, RDI, RIP, RSI
from prong.cell.task.siginfo import SA_RESTART, SI_TIMER, SIGALRM, SIGPROF, SIGVTALRM, SIGXCPU, bit
from prong.cell.task.task import TaskState
from prong.cell.task.timespec import pack_timeval
from tests.cell_task.world import CODE, HANDLER, MASK, World

A, B, SECOND, MS = 0x20000, 0x20100, 1_000_000_000, 1_000_000
REALTIME, MONOTONIC, PROCESS_CPU, THREAD_CPU, BOOTTIME = 0, 1, 2, 3, 7


def read_time(w: World, address: int = A) -> int:
    seconds, ns = struct.unpack("<qq", w.mem.read(address, 16))
    assert 0 <= ns < SECOND
    return int(seconds) * SECOND + int(ns)


def process_clock(pid: int) -> int:
    return (~pid << 3) & 0xFFFFFFFF | 2


# -- clocks ----------------------------------------------------------------------------------------------------------


def test_clocks_tell_their_time() -> None:
    w = World()
    other = w.spawn()
    w.cpu.times = {PID: 3, other.tid: 4}
    expected = {
        REALTIME: w.clock.realtime(),
        5: w.clock.realtime(),
        MONOTONIC: w.clock.now,
        4: w.clock.now,
        6: w.clock.now,
        BOOTTIME: w.clock.now,
        PROCESS_CPU: 7,
        THREAD_CPU: 3,
        process_clock(PID): 7,
        process_clock(0): 7,
        process_clock(other.tid) | 4: 4,
        process_clock(0) | 4: 3,
    }
    for clock, ns in expected.items():
        w.ok(w.main, "clock_gettime", clock, A)
        assert read_time(w) == ns, clock
        w.ok(w.main, "clock_getres", clock, A)
        assert read_time(w) == (4 * MS if clock in (5, 6) else 1)
    for clock in (12, 99, process_clock(42), process_clock(42) | 4, process_clock(PID) | 1 | 2):
        assert w.fails(w.main, "clock_gettime", clock, A) == errno.EINVAL
    assert w.fails(w.main, "clock_gettime", MONOTONIC, 1) == errno.EFAULT


def test_real_time_can_be_set_for_the_cell_alone() -> None:
    w = World()
    w.timespec(A, 5 * SECOND)
    assert w.ok(w.main, "clock_settime", REALTIME, A) == 0
    assert w.clock.real_offset != 0
    assert w.fails(w.main, "clock_settime", MONOTONIC, A) == errno.EINVAL
    assert w.fails(w.main, "clock_settime", PROCESS_CPU, A) == errno.EINVAL
    assert w.fails(w.main, "clock_settime", process_clock(PID), A) == errno.EPERM
    w.mem.put_u64(A + 8, SECOND)
    assert w.fails(w.main, "clock_settime", REALTIME, A) == errno.EINVAL
    assert w.fails(w.main, "clock_adjtime", REALTIME, A) == errno.EPERM
    w.process.credentials.uids[1] = 5
    w.timespec(A, 5 * SECOND)
    assert w.fails(w.main, "clock_settime", REALTIME, A) == errno.EPERM


def test_old_calls_agree() -> None:
    w = World()
    now = w.clock.realtime()
    w.ok(w.main, "gettimeofday", A, B)
    assert struct.unpack("<qq", w.mem.read(A, 16)) == (now // SECOND, now % SECOND // 1000)
    assert w.ok(w.main, "time", A) == now // SECOND == w.mem.u64(A)
    w.cpu.times = {PID: 2 * SECOND}
    assert w.ok(w.main, "times", A) == w.clock.now // 10_000_000
    assert w.mem.u64(A) == 200


# -- sleeping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", [REALTIME, MONOTONIC, BOOTTIME])
@pytest.mark.parametrize("absolute", [False, True])
def test_sleep(clock: int, absolute: bool) -> None:
    w = World()
    start = w.clock.realtime() if clock == REALTIME else w.clock.now
    w.timespec(A, (start if absolute else 0) + 5 * MS)
    assert w.call(w.main, "clock_nanosleep", clock, int(absolute), A, 0) is None
    w.clock.advance(5 * MS - 1)
    w.run()
    assert w.main.state is TaskState.BLOCKED
    w.clock.advance(1)
    assert w.run() == {PID: 0}


def test_an_interrupted_sleep_tells_the_rest() -> None:
    w = World()
    w.handle(SIGALRM, SA_RESTART)
    w.timespec(A, SECOND)
    assert w.call(w.main, "nanosleep", A, A) is None
    w.clock.advance(SECOND // 4)
    w.signals.post(SIGALRM)
    w.run()
    assert w.main.regs[RIP] == HANDLER
    assert read_time(w) == SECOND * 3 // 4
    w.sigreturn(w.main)
    assert w.main.regs[RAX] == -errno.EINTR & MASK


def test_sleep_checks() -> None:
    w = World()
    w.mem.write(A, struct.pack("<qq", -1, 0))
    assert w.fails(w.main, "nanosleep", A, 0) == errno.EINVAL
    w.mem.write(A, struct.pack("<qq", 0, SECOND))
    assert w.fails(w.main, "nanosleep", A, 0) == errno.EINVAL
    assert w.fails(w.main, "nanosleep", 1, 0) == errno.EFAULT
    w.timespec(A, 0)
    assert w.ok(w.main, "nanosleep", A, 0) == 0
    assert w.fails(w.main, "clock_nanosleep", 99, 0, A, 0) == errno.EINVAL
    assert w.fails(w.main, "clock_nanosleep", THREAD_CPU, 0, A, 0) == errno.EOPNOTSUPP
    assert w.fails(w.main, "clock_nanosleep", process_clock(0) | 4, 0, A, 0) == errno.EINVAL
    assert w.fails(w.main, "clock_nanosleep", 4, 0, A, 0) == errno.EOPNOTSUPP


def test_sleep_on_cpu_time_needs_somebody_to_use_it() -> None:
    w = World()
    w.timespec(A, 20 * MS)
    assert w.call(w.main, "clock_nanosleep", PROCESS_CPU, 0, A, 0) is None
    w.clock.advance(100 * MS)
    w.run()
    assert w.main.state is TaskState.BLOCKED
    w.cpu.times[PID + 1] = 20 * MS
    w.clock.advance(100 * MS)
    assert w.run() == {PID: 0}


# -- interval timers -------------------------------------------------------------------------------------------------


def set_itimer(w: World, which: int, value: int, interval: int) -> tuple[int, int]:
    """Set in nanoseconds; what it was: (interval, value)."""
    w.mem.write(A, pack_timeval(interval) + pack_timeval(value))
    w.ok(w.main, "setitimer", which, A, B)
    return get_pair(w, B)


def get_pair(w: World, address: int) -> tuple[int, int]:
    a, b, c, d = struct.unpack("<4q", w.mem.read(address, 32))
    return a * SECOND + b * 1000, c * SECOND + d * 1000


def test_real_itimer_repeats_and_reports() -> None:
    w = World()
    w.handle(SIGALRM)
    assert set_itimer(w, 0, 10 * MS, 4 * MS) == (0, 0)
    w.clock.advance(3 * MS)
    w.ok(w.main, "getitimer", 0, B)
    assert get_pair(w, B) == (4 * MS, 7 * MS)
    for step in (7 * MS, 4 * MS, 4 * MS):
        assert not w.signals.pending_mask
        w.clock.advance(step)
        w.back_to_user(w.main)
        assert w.main.regs[RIP] == HANDLER
        w.sigreturn(w.main)
    assert set_itimer(w, 0, 0, 0) == (4 * MS, 4 * MS)
    w.clock.advance(SECOND)
    assert not w.signals.pending_mask
    assert w.fails(w.main, "setitimer", 3, A, 0) == errno.EINVAL
    assert w.fails(w.main, "getitimer", 3, A) == errno.EINVAL


def test_a_late_itimer_does_not_pile_up() -> None:
    w = World()
    w.signals.set_mask(w.main, MASK)
    set_itimer(w, 0, MS, MS)
    w.clock.advance(SECOND)
    assert w.signals.pending_mask == bit(SIGALRM)
    assert len(w.clock.timers) == 1
    assert w.clock.next_deadline() == w.clock.now + MS


def test_a_tiny_interval_leaves_time_for_the_program() -> None:
    w = World()
    w.signals.set_mask(w.main, MASK)
    set_itimer(w, 0, 1000, 1000)
    w.clock.advance(SECOND)
    deadline = w.clock.next_deadline()
    assert deadline is not None and deadline >= w.clock.now + 50_000


def test_alarm() -> None:
    w = World()
    assert w.ok(w.main, "alarm", 10) == 0
    w.clock.advance(3 * SECOND + 600 * MS)
    assert w.ok(w.main, "alarm", 2) == 6
    w.clock.advance(2 * SECOND)
    w.back_to_user(w.main)
    assert w.process.exit_status == SIGALRM


@pytest.mark.parametrize(("which", "sig"), [(1, SIGVTALRM), (2, SIGPROF)])
def test_cpu_itimers_follow_cpu_time(which: int, sig: int) -> None:
    w = World()
    w.handle(sig)
    set_itimer(w, which, 10 * MS, 0)
    w.clock.advance(SECOND)
    w.cpu.times[PID] = 9 * MS
    w.signals.tick(w.kernel, w.main)
    assert not w.signals.deliverable(w.main)
    w.cpu.times[PID] = 10 * MS
    w.signals.tick(w.kernel, w.main)
    w.back_to_user(w.main)
    assert w.main.regs[RDI] == sig
    assert w.process.cpu_timers == 0


def test_cpu_limit_warns_each_second_and_then_kills() -> None:
    w = World()
    w.handle(SIGXCPU)
    w.mem.write(A, struct.pack("<QQ", 1, 3))
    w.ok(w.main, "setrlimit", RLIMIT_CPU, A)
    seen = []
    for ms in range(0, 3100, 100):
        w.cpu.times[PID] = ms * MS
        w.signals.tick(w.kernel, w.main)
        w.back_to_user(w.main)
        if w.main.regs[RIP] == HANDLER:
            seen.append(ms)
            w.sigreturn(w.main)
    assert seen == [1000, 2000] and w.process.exit_status == 9


# -- POSIX timers ----------------------------------------------------------------------------------------------------


def create(w: World, clock: int = MONOTONIC, notify: int = 0, signo: int = 40, value: int = 0x77, tid: int = 0) -> int:
    w.mem.write(A, struct.pack("<Qiii", value, signo, notify, tid).ljust(64, b"\0"))
    w.ok(w.main, "timer_create", clock, A, B)
    return w.mem.u32(B)


def settime(w: World, timer: int, value: int, interval: int = 0, flags: int = 0) -> None:
    w.timespec(A, interval)
    w.timespec(A + 16, value)
    w.ok(w.main, "timer_settime", timer, flags, A, B)


def test_posix_timer_signals_with_its_value_and_overrun() -> None:
    w = World()
    w.handle(40)
    timer = create(w)
    w.signals.set_mask(w.main, bit(40))
    settime(w, timer, 10 * MS, 10 * MS)
    w.clock.advance(10 * MS)
    w.clock.advance(35 * MS)
    w.signals.set_mask(w.main, 0)
    w.back_to_user(w.main)
    info = struct.unpack_from("<iii4xiiQ", w.mem.read(w.main.regs[RSI], 128))
    assert info == (40, 0, SI_TIMER, timer, 3, 0x77)
    assert w.ok(w.main, "timer_getoverrun", timer) == 3
    w.ok(w.main, "timer_gettime", timer, A)
    assert (read_time(w, A), read_time(w, A + 16)) == (10 * MS, 5 * MS)


def test_posix_timer_to_a_thread_silent_and_by_default() -> None:
    w = World()
    other = w.spawn()
    w.handle(40)
    settime(w, create(w, notify=4, tid=other.tid), MS)
    silent = create(w, notify=1)
    settime(w, silent, 2 * MS)
    w.clock.advance(MS)
    assert other.pending_mask == bit(40) and not w.signals.pending_mask
    w.clock.advance(MS)
    w.ok(w.main, "timer_gettime", silent, A)
    assert read_time(w, A + 16) == 0
    w.ok(w.main, "timer_create", REALTIME, 0, B)
    w.handle(SIGALRM)
    settime(w, w.mem.u32(B), w.clock.realtime() + MS, flags=1)
    w.clock.advance(MS)
    w.back_to_user(w.main)
    assert struct.unpack_from("<iii4xiiQ", w.mem.read(w.main.regs[RSI], 128)) == (SIGALRM, 0, SI_TIMER, 2, 0, 2)


def test_posix_cpu_timer() -> None:
    w = World()
    w.handle(40)
    timer = create(w, THREAD_CPU)
    settime(w, timer, 5 * MS, 5 * MS)
    w.cpu.times[PID] = 17 * MS
    w.signals.tick(w.kernel, w.main)
    w.back_to_user(w.main)
    assert w.main.regs[RIP] == HANDLER and w.ok(w.main, "timer_getoverrun", timer) == 2
    assert w.process.cpu_timers == 1
    w.ok(w.main, "timer_delete", timer)
    assert w.process.cpu_timers == 0


def test_timer_checks_and_limit() -> None:
    w = World()
    for event in ((0, 0), (0, 65), (3, 10), (4, 10)):
        w.mem.write(A, struct.pack("<Qiii", 0, event[1], event[0], 4242).ljust(64, b"\0"))
        assert w.fails(w.main, "timer_create", MONOTONIC, A, B) == errno.EINVAL
    assert w.fails(w.main, "timer_create", 4, 0, B) == errno.EOPNOTSUPP
    assert w.fails(w.main, "timer_create", MONOTONIC, 0, 1) == errno.EFAULT
    assert not w.process.timers
    for call in ("timer_gettime", "timer_getoverrun", "timer_delete"):
        assert w.fails(w.main, call, 0, A) == errno.EINVAL
    timer = create(w)
    w.mem.write(A, struct.pack("<4q", 0, 0, 0, -1))
    assert w.fails(w.main, "timer_settime", timer, 0, A, 0) == errno.EINVAL
    for _ in range(1023):
        create(w)
    assert w.fails(w.main, "timer_create", MONOTONIC, 0, B) == errno.EAGAIN
    w.ok(w.main, "timer_delete", timer)
    assert create(w) not in range(1024)


def test_deleted_and_stopped_timers_stay_quiet() -> None:
    w = World()
    one, two = create(w), create(w)
    settime(w, one, MS)
    settime(w, two, MS)
    w.ok(w.main, "timer_delete", one)
    settime(w, two, 0)
    assert read_time(w, B + 16) == MS
    w.clock.advance(SECOND)
    assert not w.signals.pending_mask and w.main.regs[RIP] >= CODE
