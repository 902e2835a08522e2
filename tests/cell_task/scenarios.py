"""Sequences of system calls that must give the same transcript on this machine's kernel and in a cell.

Each scenario gets a :class:`Machine`: memory at ``m.base``, raw calls by name. Run as a program with a scenario's name, this
module performs it natively and prints the transcript as JSON; all signals are blocked first.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import struct
import sys
from collections.abc import Callable
from typing import Protocol

from prong.cell.abi.numbers import NR

MASK = (1 << 64) - 1
SIZE = 1 << 16
HEAD = 0x1000


class Machine(Protocol):
    """Something that performs x86-64 Linux system calls."""

    base: int
    pid: int

    def call(self, name: str, *args: int) -> int:
        """The result, or the negative errno."""
        ...

    def put(self, offset: int, data: bytes) -> None:
        """Store into the memory block."""
        ...

    def get(self, offset: int, size: int) -> bytes:
        """Look at the memory block."""
        ...


class Native:
    """The kernel this runs on."""

    def __init__(self) -> None:
        self.block = mmap.mmap(-1, SIZE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.block))
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.syscall.restype = ctypes.c_long
        self.pid = self.call("getpid")

    def call(self, name: str, *args: int) -> int:
        values = [ctypes.c_ulong(a & MASK) for a in (*args, *[0] * (6 - len(args)))]
        result = self.libc.syscall(ctypes.c_long(NR[name]), *values)
        return -ctypes.get_errno() if result == -1 else int(result)

    def put(self, offset: int, data: bytes) -> None:
        self.block[offset : offset + len(data)] = data

    def get(self, offset: int, size: int) -> bytes:
        return self.block[offset : offset + size]


Transcript = list[object]
SCENARIOS: dict[str, Callable[[Machine], Transcript]] = {}


def scenario(function: Callable[[Machine], Transcript]) -> Callable[[Machine], Transcript]:
    """Register under the function's name."""
    SCENARIOS[function.__name__] = function
    return function


@scenario
def actions(m: Machine) -> Transcript:
    """rt_sigaction: bounds, flags kept, masks cleaned."""
    b = m.base
    out: Transcript = []
    for flags in (0, 0xFFFFFFFF, 0x04000000, 1 << 40):
        m.put(0, struct.pack("<4Q", 0x1234, flags, 0x5678, MASK))
        out.append(m.call("rt_sigaction", 40, b, 0, 8))
        out.append(m.call("rt_sigaction", 40, 0, b + 64, 8))
        out.append(m.get(64, 32).hex())
    for sig in (-1, 0, 9, 19, 64, 65, 1 << 32):
        out.append(m.call("rt_sigaction", sig, 0, b + 64, 8))
        out.append(m.call("rt_sigaction", sig, b, 0, 8) if sig in (-1, 0, 9, 19, 65) else None)
    return [*out, m.call("rt_sigaction", 10, 0, 0, 4), m.call("rt_sigaction", 10, 8, 0, 8)]


@scenario
def masks(m: Machine) -> Transcript:
    """rt_sigprocmask and rt_sigpending: how, sizes, bad pointers."""
    b = m.base
    out: Transcript = []
    for how, bits in ((0, 0), (2, MASK), (1, 1 << 9), (0, 1 << 9), (2, MASK), (3, 0), (-1, 0), (1 << 32, 0)):
        m.put(0, struct.pack("<Q", bits))
        out.append((m.call("rt_sigprocmask", how, b, b + 8, 8), m.get(8, 8).hex()))
    out.append([m.call("rt_sigprocmask", 9, 0, b + 8, 8), m.call("rt_sigprocmask", 0, b, 0, 9)])
    out.append([m.call("rt_sigprocmask", 0, 8, 0, 8), m.call("rt_sigprocmask", 0, 0, 8, 8)])
    out.append([m.call("rt_sigpending", b, size) for size in (0, 4, 8, 9)])
    return out


@scenario
def queueing(m: Machine) -> Transcript:
    """Blocked signals: coalescing, order, what sigtimedwait tells of each sender."""
    b = m.base
    out: Transcript = []
    for value in range(3):
        for sig in (41, 40, 12, 10):
            m.put(0, struct.pack("<iii4xiIQ", 0, 0, -1, 77, 5, 1000 + value))
            out.append(m.call("rt_sigqueueinfo", m.pid, sig, b))
    out.append(m.call("kill", m.pid, 1))
    out.append(m.call("tgkill", m.pid, m.pid, 3))
    out.append(m.call("tkill", m.pid, 17))
    m.put(0, struct.pack("<iii4xiIQ", 0, 0, -1, 78, 6, 9))
    out.append(m.call("rt_tgsigqueueinfo", m.pid, m.pid, 40, b))
    m.call("rt_sigpending", b + 64, 8)
    out.append(m.get(64, 8).hex())
    m.put(16, struct.pack("<QQQ", MASK, 0, 0))
    for _ in range(20):
        m.put(128, bytes(128))
        sig = m.call("rt_sigtimedwait", b + 16, b + 128, b + 24, 8)
        signo, error, code, pid, uid, value = struct.unpack("<iii4xiIQ", m.get(128, 32))
        out.append((sig, signo, error, code, "me" if pid == m.pid else pid, uid if pid != m.pid else 0, value))
        if sig < 0:
            break
    return out


@scenario
def sending(m: Machine) -> Transcript:
    """Who can be signalled and how not to ask."""
    b = m.base
    m.put(0, struct.pack("<iii4xiIQ", 0, 0, -1, 0, 0, 0))
    return [
        [m.call("kill", m.pid, s) for s in (0, 65, -1, 64)],
        [m.call("kill", pid, 0) for pid in (0, m.pid, 0x7FFFFFF0, -0x7FFFFFF0)],
        [m.call("tkill", t, 0) for t in (0, -1, m.pid, 0x7FFFFFF0)],
        [m.call("tgkill", g, t, 0) for g, t in ((0, 1), (m.pid, 0), (-1, m.pid), (m.pid, m.pid), (m.pid, 0x7FFFFFF0))],
        [m.call("rt_sigqueueinfo", m.pid, s, p) for s, p in ((0, b), (65, b), (10, 8))],
        [m.call("rt_tgsigqueueinfo", g, m.pid, 10, b) for g in (0, -1)],
        [m.call("rt_sigtimedwait", b, 0, 0, 7), m.call("rt_sigsuspend", b, 7), m.call("rt_sigsuspend", 8, 8)],
        [m.call("pidfd_open", p, 0) for p in (-1, 0, 0x7FFFFFF0)],
        [m.call("pidfd_open", m.pid, 4), m.call("pidfd_send_signal", 9999, 0, 0, 0)],
    ]


@scenario
def alternate_stack(m: Machine) -> Transcript:
    """sigaltstack: flags and sizes."""
    b = m.base
    out: Transcript = []
    for base, flags, size in ((b, 0, 8192), (b, 1, 8192), (b, 2, 5), (b, 0x80000000, 8192), (b, 0, 2047), (b, 4, 8192)):
        m.put(0, struct.pack("<QIIQ", base, flags, 0, size))
        code = m.call("sigaltstack", b, 0)
        m.call("sigaltstack", 0, b + 64)
        base, flags, _, size = struct.unpack("<QIIQ", m.get(64, 24))
        out.append((code, base - b if base else None, flags, size))
    return [*out, m.call("sigaltstack", 8, 0), m.call("sigaltstack", 0, 8)]


@scenario
def futexes(m: Machine) -> Transcript:
    """futex commands that need no second thread."""
    b = m.base
    out: Transcript = []

    def futex(word: int, op: int, val: int, val2: int = 0, second: int = 0, val3: int = 0) -> tuple[int, int, int]:
        m.put(0, struct.pack("<II", word, 5))
        result = m.call("futex", b, op, val, val2, second, val3)
        first, other = struct.unpack("<II", m.get(0, 8))
        return result, m.pid ^ first if first & 0x3FFFFFFF == m.pid else first, other

    m.put(HEAD, struct.pack("<qq", 0, 1_000_000))
    m.put(HEAD + 16, struct.pack("<qq", 0, 1_000_000_000))
    short, wrong = b + HEAD, b + HEAD + 16
    for op in (0, 9, 128, 137, 9 | 256, 0 | 256):
        out.append([futex(1, op, 1, short, 0, MASK), futex(1, op, 2, short, 0, MASK), futex(1, op, 1, wrong, 0, 1)])
    out.append([futex(0, op, 1, 0, b + 4, 0) for op in (1, 10, 3, 4, 5, 2, 6, 7, 8, 14, 99, 1 | 256, 3 | 256)])
    out.append([futex(m.pid, op, 0) for op in (6, 7, 8, 13)])
    out.append([futex(0x40000000, op, 0) for op in (6, 7, 8, 13)])
    for op in range(7):
        for compare in range(7):
            out.append(futex(0, 5, 1, 1, b + 4, op << 28 | compare << 24 | 3 << 12 | 5))
            out.append(futex(0, 5, 1, 1, b + 4, (op | 8) << 28 | compare << 24 | 3 << 12 | 0xFFF))
    out.append([m.call("futex", b + 1, op, 0, 0, b + 5, 0) for op in (0, 1, 3, 4, 5, 6, 7, 9, 10)])
    out.append([m.call("futex", 8, op | 128, 0, 0, b, 1) for op in (0, 5, 6, 7, 9)])
    out.append([futex(0, 3, -1, 1, b + 4), futex(0, 3, 1, -1, b + 4), futex(0, 4, 1, 1, b + 4, 1)])
    out.append([m.call("set_robust_list", b, size) for size in (0, 23, 25)])
    return [*out, m.call("get_robust_list", 0x7FFFFFF0, b, b + 8)]


@scenario
def clocks(m: Machine) -> Transcript:
    """Which clocks exist, and for what."""
    b = m.base
    own = [(~m.pid << 3) | kind for kind in (0, 1, 2, 4, 5, 6)]
    nobody = [(~0x7FFFFF0 << 3) | kind for kind in (2, 6)]
    out: Transcript = []
    for clock in (*range(8), 10, 11, 12, 16, 99, *own, *nobody):
        m.put(0, bytes(64))
        out.append(
            [
                m.call("clock_gettime", clock, b + 512),
                m.call("clock_getres", clock, 0),
                m.call("clock_nanosleep", clock, 0, b, 0) if clock not in own else None,
                m.call("clock_settime", clock, b + HEAD) if clock else None,
            ]
        )
    out.append([m.call("clock_gettime", 1, 8), m.call("clock_gettime", 0, 8), m.call("clock_getres", 1, 8)])
    out.append([m.call("gettimeofday", 0, 0), m.call("gettimeofday", 8, 0), m.call("nanosleep", 8, 0)])
    for seconds, ns in ((-1, 0), (0, -1), (0, 10**9), (0, 0)):
        m.put(0, struct.pack("<qq", seconds, ns))
        out.append([m.call("nanosleep", b, 0), m.call("clock_nanosleep", 1, 0, b, 0), m.call("clock_nanosleep", 0, 1, b, 0)])
    return out


@scenario
def timers(m: Machine) -> Transcript:
    """Timers: making, reading and refusing; and one signal of each kind."""
    b = m.base
    out: Transcript = []
    m.put(HEAD, struct.pack("<4q", 0, 0, 0, 1000))
    for notify, signo in ((0, 10), (0, 0), (0, 65), (1, 0), (1, 99), (3, 10), (5, 10), (4, 10)):
        m.put(0, struct.pack("<Qiii", 0x99, signo, notify, 1).ljust(64, b"\0"))
        out.append(m.call("timer_create", 1, b, b + 64))
    out.append([m.call("timer_create", clock, 0, b + 64) for clock in (0, 1, 2, 3, 4, 5, 6, 7, 10, 12, 99)])
    out.append([m.call("timer_create", 1, 8, b + 64), m.call("timer_create", 1, 0, 8)])
    m.put(0, struct.pack("<Qiii", 0x99, 44, 0, 0).ljust(64, b"\0"))
    out.append(m.call("timer_create", 1, b, b + 64))
    timer = struct.unpack("<i", m.get(64, 4))[0]
    out.append([m.call("timer_settime", timer, 0, 0, 0), m.call("timer_settime", timer, 0, 8, 0)])
    out.append([m.call("timer_gettime", timer, b + 128), m.get(128, 32).hex(), m.call("timer_getoverrun", timer)])
    out.append([m.call(name, 99999, b + 128) for name in ("timer_gettime", "timer_getoverrun", "timer_delete")])
    m.put(512, struct.pack("<QQQ", 1 << 43, 5, 0))
    out.append(m.call("timer_settime", timer, 0, b + HEAD, 0))
    out.append(m.call("rt_sigtimedwait", b + 512, b + 600, b + 520, 8))
    signo, _, code, ident, overrun, value = struct.unpack("<iii4xiiQ", m.get(600, 32))
    out.append([signo, code, ident == timer, overrun, value])
    out.append([m.call("timer_delete", timer), m.call("timer_delete", timer)])
    m.put(512, struct.pack("<QQQ", 1 << 13, 5, 0))
    m.put(0, struct.pack("<4q", 0, 0, 0, 1000))
    out.append([m.call("setitimer", 0, b, b + 64), m.get(64, 32).hex()])
    out.append(m.call("rt_sigtimedwait", b + 512, b + 600, b + 520, 8))
    out.append(m.get(600, 28).hex())
    m.put(0, struct.pack("<4q", 0, 0, 0, 1_000_000))
    out.append([m.call("setitimer", 0, b, 0), m.call("setitimer", 9, b, 0), m.call("getitimer", 9, b)])
    out.append([m.call("getitimer", 1, b + 64), m.get(64, 32).hex(), m.call("setitimer", 0, 8, 0)])
    m.put(0, struct.pack("<4q", 0, 0, 50, 0))
    out.append([m.call("setitimer", 0, b, 0), m.call("alarm", 7), m.call("alarm", 0), m.call("alarm", 0)])
    return out


@scenario
def settings(m: Machine) -> Transcript:
    """prctl, personality, getrandom, membarrier, uname, capabilities."""
    b = m.base
    out: Transcript = []
    m.put(0, b"a-rather-long-thread-name\0")
    out.append([m.call("prctl", 15, b), m.call("prctl", 16, b + 64), m.get(64, 16).hex()])
    out.append([m.call("prctl", 15, 8), m.call("prctl", 16, 8)])
    out.append([m.call("prctl", 4, v) for v in (0, 1, 3)])
    options: list[tuple[int, ...]] = [(3,), (1, 65), (1, 0), (39,), (38, 0), (38, 1, 1), (21,)]
    out.append([m.call("prctl", *option) for option in options])
    out.append([m.call("prctl", 24, 41), m.call("prctl", 23, 0), m.call("prctl", 23, 64), m.call("prctl", 9999)])
    out.append([m.call("getrandom", b, n, f) for n, f in ((0, 0), (16, 0), (16, 1), (16, 2), (16, 4), (16, 6), (16, 8))])
    out.append([m.call("getrandom", 8, 16, 0), m.call("membarrier", 3, 0), m.call("membarrier", 0, 1)])
    out.append([m.call("personality", MASK), m.call("getcpu", 8, 0)])
    out.append([m.call("arch_prctl", 0x1002, 1 << 47), m.call("arch_prctl", 0x1001, MASK), m.call("arch_prctl", 0x9999, 0)])
    for version in (0x19980330, 0x20071026, 0x20080522, 0):
        m.put(0, struct.pack("<Ii", version, 0))
        out.append([m.call("capget", b, b + 64), m.call("capget", b, 0), m.get(0, 4).hex()])
    m.put(0, struct.pack("<Ii", 0x20080522, -5))
    return [*out, m.call("capget", b, b + 64), m.call("uname", 8), m.call("sysinfo", 8)]


@scenario
def scheduling(m: Machine) -> Transcript:
    """Scheduling queries and refusals."""
    b = m.base
    out: Transcript = []
    m.put(0, bytes(64))
    out.append([m.call("sched_get_priority_max", p) for p in range(-1, 7)])
    out.append([m.call("sched_get_priority_min", p) for p in range(-1, 7)])
    out.append([m.call("sched_getscheduler", p) for p in (0, m.pid, -1, 0x7FFFFFF0)])
    out.append([m.call("sched_getparam", p, a) for p, a in ((0, b), (-1, b), (0, 0), (0x7FFFFFF0, b), (0, 8))])
    out.append([m.call("sched_setscheduler", 0, p, b) for p in (0, 1, 2, 4, -1, 99)])
    out.append([m.call("sched_setparam", 0, b), m.call("sched_setparam", 0, 0), m.call("sched_setparam", 0, 8)])
    sizes = ((0, 4), (0, 12), (0x7FFFFFF0, 1024), (0, 1024))
    out.append([m.call("sched_getaffinity", p, n, b) < 0 for p, n in sizes])
    out.append([m.call("getpriority", w, 0) for w in (0, 1, 3, -1)])
    out.append([m.call("getpriority", 0, 0x7FFFFFF0), m.call("setpriority", 5, 0, 0)])
    out.append(m.call("sched_rr_get_interval", -1, b))
    m.put(0, bytes(16))
    out.append([m.call("sched_getaffinity", p, 128, b) for p in (-1, 0x7FFFFFF0)])
    out.append([m.call("sched_setaffinity", 0, 8, b), m.call("sched_setaffinity", 0, 8, 8)])
    out.append([m.call("sched_getattr", 0, b, n, f) for n, f in ((48, 0), (47, 0), (4097, 0), (48, 1))])
    return out


@scenario
def processes(m: Machine) -> Transcript:
    """Limits, waiting for children that do not exist, ids, bad clone3 arguments."""
    b = m.base
    out: Transcript = []
    out.append([m.call("prlimit64", p, r, 0, b) for p, r in ((0, 3), (m.pid, 15), (0, 16), (0x7FFFFFF0, 3), (-1, 3))])
    m.put(0, struct.pack("<QQ", 5, 4))
    out.append([m.call("setrlimit", 9, b), m.call("getrlimit", 99, b), m.call("getrlimit", 3, 8)])
    out.append([m.call("wait4", p, 0, o, 0) for p, o in ((-1, 0), (-1, 1), (5, 0), (-1, 0x100), (-0x80000000, 0))])
    out.append([m.call("waitid", *a) for a in ((0, 0, 0, 4), (0, 0, 0, 0), (1, 0, 0, 4), (1, 1, 0, 4), (9, 0, 0, 4))])
    out.append([m.call("getrusage", who, b) for who in (0, -1, 1, 2, -2)])
    out.append([m.call("getgroups", n, b) for n in (-1,)])
    out.append([m.call("getpgid", p) for p in (-1, 0x7FFFFFF0)] + [m.call("getsid", 0x7FFFFFF0), m.call("setpgid", 0, -1)])
    out.append([m.call("setuid", MASK), m.call("setgid", MASK), m.call("times", 8)])
    thread = 0x3D0F00
    m.put(0, bytes(256))
    out.append([m.call("clone3", b, n) for n in (0, 63, 4097)])
    for flags, signal, stack, size in (
        (thread & ~0x100, 0, b, 4096),
        (thread & ~0x800, 0, b, 4096),
        (thread, 17, b, 4096),
        (thread, 0, b, 0),
        (thread, 0, 0, 4096),
        (thread | 0x400000, 0, b, 4096),
        (thread | 1, 0, b, 4096),
        (thread | 0x20000000, 0, b, 4096),
    ):
        m.put(0, struct.pack("<11Q", flags, 0, b, b, signal, stack, size, 0, 0, 0, 0))
        out.append(m.call("clone3", b, 88))
    return [*out, m.call("futex_waitv", 0, 0, 0, 0, 0) < 0]


def main() -> None:
    """Perform one scenario natively."""
    machine = Native()
    machine.put(0, struct.pack("<Q", MASK))
    machine.call("rt_sigprocmask", 2, machine.base, 0, 8)
    machine.put(0, bytes(8))
    print(json.dumps(SCENARIOS[sys.argv[1]](machine)))


if __name__ == "__main__":
    main()
