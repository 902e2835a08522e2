"""Identity, limits, scheduling answers, small settings, and what is refused."""

from __future__ import annotations

import errno
import struct

import pytest

from prong.cell.process import PID
from prong.cell.task.refused import ABSENT, PRIVILEGED
from tests.cell_task.world import World

A, B, C = 0x20000, 0x20100, 0x20200
NOBODY = 0xFFFFFFFF


def test_uname_and_names() -> None:
    w = World()
    w.mem.write(A, b"fork-7")
    w.ok(w.main, "sethostname", A, 6)
    w.ok(w.main, "uname", B)
    fields = [w.mem.read(B + 65 * i, 65).rstrip(b"\0") for i in range(6)]
    assert fields[:3] == [b"Linux", b"fork-7", b"6.1.0-prong"] and fields[4:] == [b"x86_64", b"(none)"]
    assert w.fails(w.main, "sethostname", A, 65) == errno.EINVAL
    assert w.fails(w.main, "setdomainname", A, -1) == errno.EINVAL


def test_arch_prctl() -> None:
    w = World()
    w.ok(w.main, "arch_prctl", 0x1002, 0x7000)
    w.ok(w.main, "arch_prctl", 0x1001, 0x8000)
    assert (w.main.fs_base, w.main.gs_base) == (0x7000, 0x8000)
    w.ok(w.main, "arch_prctl", 0x1003, A)
    assert w.mem.u64(A) == 0x7000
    assert w.fails(w.main, "arch_prctl", 0x1002, 1 << 47) == errno.EPERM
    assert w.fails(w.main, "arch_prctl", 0x1002, 1 << 63) == errno.EPERM
    assert w.fails(w.main, "arch_prctl", 0x3001, A) == errno.EINVAL


def test_prctl() -> None:
    w = World()
    w.ok(w.main, "prctl", 16, A)
    assert w.mem.read(A, 16) == b"prog".ljust(16, b"\0"), "the program's name until set"
    w.mem.write(A, b"a-name-longer-than-fifteen\0")
    w.ok(w.main, "prctl", 15, A)
    w.ok(w.main, "prctl", 16, B)
    assert w.mem.read(B, 16) == b"a-name-longer-t\0" == w.main.name + b"\0"
    assert w.ok(w.main, "prctl", 3) == 1
    w.ok(w.main, "prctl", 4, 0)
    assert w.ok(w.main, "prctl", 3) == 0
    assert w.fails(w.main, "prctl", 4, 2) == errno.EINVAL
    w.ok(w.main, "prctl", 38, 1)
    assert w.ok(w.main, "prctl", 39) == 1
    assert w.ok(w.main, "prctl", 23, 40) == 1
    assert w.fails(w.main, "prctl", 23, 41) == errno.EINVAL
    assert w.ok(w.main, "prctl", 0x53564D41, 0, 1, 2, 3) == 0
    assert w.fails(w.main, "prctl", 22, 1) == errno.EINVAL
    assert w.fails(w.main, "prctl", 9999) == errno.EINVAL


def test_a_thread_name_at_the_end_of_memory() -> None:
    w = World()
    end = w.mem.base + len(w.mem.data)
    w.mem.write(end - 3, b"ab\0")
    assert w.ok(w.main, "prctl", 15, end - 3) == 0 and w.main.name == b"ab"
    w.mem.write(end - 3, b"abc")
    assert w.fails(w.main, "prctl", 15, end - 3) == errno.EFAULT


def test_getrandom() -> None:
    w = World()
    assert w.ok(w.main, "getrandom", A, 64, 0) == 64
    first = w.mem.read(A, 64)
    w.ok(w.main, "getrandom", A, 64, 1)
    assert w.mem.read(A, 64) != first
    assert w.fails(w.main, "getrandom", A, 1, 6) == errno.EINVAL
    assert w.fails(w.main, "getrandom", A, 1, 8) == errno.EINVAL
    assert w.fails(w.main, "getrandom", 1, 1, 0) == errno.EFAULT
    end = w.mem.base + len(w.mem.data)
    assert w.ok(w.main, "getrandom", end - (512 << 10), 1 << 40, 0) == 512 << 10, "as far as memory goes"


# -- users -----------------------------------------------------------------------------------------------------------


def ids(w: World) -> tuple[int, ...]:
    w.ok(w.main, "getresuid", A, A + 4, A + 8)
    return struct.unpack("<III", w.mem.read(A, 12))


def test_root_drops_for_good_with_setuid() -> None:
    w = World()
    assert ids(w) == (0, 0, 0)
    w.ok(w.main, "setuid", 33)
    assert ids(w) == (33, 33, 33) and w.process.credentials.caps == [0, 0, 0]
    assert w.fails(w.main, "setuid", 0) == errno.EPERM
    assert w.fails(w.main, "setresuid", 0, NOBODY, NOBODY) == errno.EPERM
    assert w.fails(w.main, "setgroups", 0, 0) == errno.EPERM
    assert w.ok(w.main, "setuid", 33) == 0
    assert w.fails(w.main, "setuid", NOBODY) == errno.EINVAL


def test_effective_ids_come_back() -> None:
    w = World()
    w.ok(w.main, "setresuid", NOBODY, 33, NOBODY)
    assert ids(w) == (0, 33, 0) and w.process.credentials.caps[0] == 0 != w.process.credentials.caps[1]
    assert (w.ok(w.main, "getuid"), w.ok(w.main, "geteuid")) == (0, 33)
    w.ok(w.main, "setresuid", NOBODY, 0, NOBODY)
    assert w.process.credentials.caps[0] == w.process.credentials.caps[1] != 0
    w.ok(w.main, "setreuid", 7, 8)
    assert ids(w) == (7, 8, 8)
    w.ok(w.main, "setreuid", NOBODY, 7)
    assert ids(w) == (7, 7, 8)
    assert w.fails(w.main, "setreuid", 9, NOBODY) == errno.EPERM


def test_groups() -> None:
    w = World()
    w.mem.write(A, struct.pack("<III", 5, 3, 9))
    w.ok(w.main, "setgroups", 3, A)
    assert w.ok(w.main, "getgroups", 0, 0) == 3
    assert w.ok(w.main, "getgroups", 8, B) == 3
    assert struct.unpack("<III", w.mem.read(B, 12)) == (3, 5, 9)
    assert w.fails(w.main, "getgroups", 2, B) == errno.EINVAL
    assert w.fails(w.main, "setgroups", 65537, A) == errno.EINVAL
    w.ok(w.main, "setgid", 4)
    assert (w.ok(w.main, "getgid"), w.ok(w.main, "getegid")) == (4, 4)
    assert w.ok(w.main, "setfsgid", NOBODY) == 4


def test_process_groups_and_sessions() -> None:
    w = World()
    assert w.ok(w.main, "getpgrp") == w.ok(w.main, "getpgid", 0) == w.ok(w.main, "getsid", PID) == PID
    assert w.fails(w.main, "getpgid", 1) == errno.ESRCH
    assert w.fails(w.main, "setsid") == errno.EPERM
    assert w.fails(w.main, "setpgid", 0, 0) == errno.EPERM
    assert w.fails(w.main, "setpgid", 0, -1) == errno.EINVAL


def test_capabilities() -> None:
    w = World()
    w.mem.write(A, struct.pack("<Ii", 0x20080522, 0))
    w.ok(w.main, "capget", A, B)
    assert struct.unpack("<6I", w.mem.read(B, 24)) == (0xFFFFFFFF, 0xFFFFFFFF, 0, 0x1FF, 0x1FF, 0)
    w.mem.write(B, struct.pack("<6I", 1, 3, 0, 0, 0, 0))
    w.ok(w.main, "capset", A, B)
    assert w.process.credentials.caps == [1, 3, 0]
    w.mem.write(B, struct.pack("<6I", 1, 7, 0, 0, 0, 0))
    assert w.fails(w.main, "capset", A, B) == errno.EPERM
    w.mem.put_u32(A, 0)
    assert w.ok(w.main, "capget", A, 0) == 0 and w.mem.u32(A) == 0x20080522
    w.mem.put_u32(A, 0)
    assert w.fails(w.main, "capget", A, B) == errno.EINVAL


# -- limits ----------------------------------------------------------------------------------------------------------


def test_rlimits() -> None:
    w = World()
    w.ok(w.main, "prlimit64", 0, 3, 0, A)
    assert struct.unpack("<QQ", w.mem.read(A, 16)) == (8 << 20, 2**64 - 1)
    w.mem.write(A, struct.pack("<QQ", 64, 512))
    w.ok(w.main, "prlimit64", PID, 7, A, B)
    assert struct.unpack("<QQ", w.mem.read(B, 16)) == (1024, 1024) and w.kernel.fds.limit == 64
    w.ok(w.main, "getrlimit", 7, B)
    assert struct.unpack("<QQ", w.mem.read(B, 16)) == (64, 512)
    w.mem.write(A, struct.pack("<QQ", 64, 4096))
    assert w.fails(w.main, "setrlimit", 7, A) == errno.EPERM
    w.mem.write(A, struct.pack("<QQ", 5, 4))
    assert w.fails(w.main, "setrlimit", 9, A) == errno.EINVAL
    assert w.fails(w.main, "getrlimit", 16, A) == errno.EINVAL
    assert w.fails(w.main, "prlimit64", 1, 3, 0, A) == errno.ESRCH


def test_usage() -> None:
    w = World()
    w.cpu.times = {PID: 1_500_000_000}
    w.ok(w.main, "getrusage", 0, A)
    assert struct.unpack("<5q", w.mem.read(A, 40)) == (1, 500_000, 0, 0, 800)
    w.ok(w.main, "getrusage", -1, A)
    assert w.mem.read(A, 144) == bytes(144)
    assert w.fails(w.main, "getrusage", 2, A) == errno.EINVAL
    w.ok(w.main, "sysinfo", A)
    total, free = struct.unpack("<QQ", w.mem.read(A + 32, 16))
    assert total == 256 << 20 and free == total - 100 * 4096
    assert struct.unpack_from("<H", w.mem.read(A + 80, 2)) == (1,) and w.mem.u32(A + 104) == 1


# -- scheduling ------------------------------------------------------------------------------------------------------


def test_scheduling_answers() -> None:
    w = World()
    assert w.ok(w.main, "sched_getscheduler", 0) == 0
    w.mem.put_u32(A, 10)
    assert w.fails(w.main, "sched_setscheduler", 0, 0, A) == errno.EINVAL
    w.ok(w.main, "sched_setscheduler", 0, 2, A)
    assert w.ok(w.main, "sched_getscheduler", PID) == 2
    w.ok(w.main, "sched_getparam", 0, B)
    assert w.mem.u32(B) == 10
    w.mem.put_u32(A, 100)
    assert w.fails(w.main, "sched_setparam", 0, A) == errno.EINVAL
    assert (w.ok(w.main, "sched_get_priority_max", 1), w.ok(w.main, "sched_get_priority_min", 1)) == (99, 1)
    assert w.fails(w.main, "sched_get_priority_max", 42) == errno.EINVAL
    assert w.fails(w.main, "sched_getscheduler", -1) == errno.EINVAL
    assert w.fails(w.main, "sched_getscheduler", 4242) == errno.ESRCH
    w.ok(w.main, "sched_rr_get_interval", 0, A)


def test_the_parent_has_a_policy_and_cannot_be_changed() -> None:
    w = World()
    parent = w.ok(w.main, "getppid")
    assert w.ok(w.main, "sched_getscheduler", parent) == 0
    w.mem.put_u32(A, 0)
    assert w.fails(w.main, "sched_setparam", parent, A) == errno.ESRCH


def test_affinity_is_one_cpu() -> None:
    w = World()
    assert w.ok(w.main, "sched_getaffinity", 0, 128, A) == 8 and w.mem.u64(A) == 1
    assert w.fails(w.main, "sched_getaffinity", 0, 4, A) == errno.EINVAL
    w.mem.put_u64(A, 2)
    assert w.fails(w.main, "sched_setaffinity", 0, 8, A) == errno.EINVAL
    w.mem.put_u64(A, 3)
    assert w.ok(w.main, "sched_setaffinity", 0, 8, A) == 0
    w.ok(w.main, "getcpu", A, B)
    assert (w.mem.u32(A), w.mem.u32(B)) == (0, 0)


def test_nice() -> None:
    w = World()
    assert w.ok(w.main, "getpriority", 0, 0) == 20
    w.ok(w.main, "setpriority", 0, 0, 100)
    assert w.ok(w.main, "getpriority", 0, PID) == 1
    assert w.fails(w.main, "getpriority", 3, 0) == errno.EINVAL
    assert w.fails(w.main, "getpriority", 0, 4242) == errno.ESRCH


def test_barriers_and_personality() -> None:
    w = World()
    assert w.ok(w.main, "membarrier", 0, 0) == 0x1F
    assert w.ok(w.main, "membarrier", 16, 0) == w.ok(w.main, "membarrier", 8, 0) == 0
    assert w.fails(w.main, "membarrier", 3, 0) == errno.EINVAL
    assert w.ok(w.main, "personality", 0xFFFFFFFF) == 0
    w.ok(w.main, "personality", 0x40000)
    assert w.ok(w.main, "personality", 0xFFFFFFFF) == 0x40000
    assert w.fails(w.main, "rseq") == errno.ENOSYS


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", PRIVILEGED.split())
def test_privileged_calls_are_refused_and_remembered(call: str) -> None:
    w = World()
    assert w.fails(w.main, call) == errno.EPERM
    assert [(r.kind, r.call) for r in w.refusals.counts] == [("privilege", call)]


@pytest.mark.parametrize("call", ABSENT.split())
def test_absent_calls(call: str) -> None:
    w = World()
    assert w.fails(w.main, call) == errno.ENOSYS
    assert w.refusals.total == 0
