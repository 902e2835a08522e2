"""The compiler against its specification: ``Policy.decide`` in Python, the filter on a BPF machine."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prong.cell.jail.policy import FORK_FLAGS, vmm_policy
from prong.cell.jail.seccomp import ALLOW, KILL, Action, Check, Policy, Rule, equals, fail, one_of, only_bits
from prong.cell.jail.sysno import Sys
from tests.jail import bpf_machine

KVM_RUN = 0xAE80
REQUESTS = (KVM_RUN, 0xAE01, 0x4020AE46, 0xC008AE05)
POLICY = vmm_policy(REQUESTS)
PROGRAM = POLICY.compile()
HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")

WORDS = st.one_of(
    st.integers(0, 2**64 - 1),
    st.integers(0, 64),
    st.sampled_from([KVM_RUN, FORK_FLAGS, 2**32, 2**32 | KVM_RUN, 2**64 - 1, 2**64 - 100, 0x80000, 0x241, 0x200000]),
)
ARGS = st.tuples(WORDS, WORDS, WORDS, WORDS, WORDS, WORDS)
ACTIONS = st.sampled_from([ALLOW, KILL, fail(errno.EPERM), fail(errno.ENOSYS)])


def test_the_filter_is_one_the_kernel_takes() -> None:
    bpf_machine.check(PROGRAM)
    assert len(PROGRAM) < 400


@given(nr=st.one_of(st.integers(0, 500), st.integers(0, 2**32 - 1), st.sampled_from(list(Sys)).map(int)), args=ARGS)
@settings(max_examples=2000, deadline=None)
def test_the_filter_decides_as_the_policy_says(nr: int, args: tuple[int, ...]) -> None:
    assert bpf_machine.run(PROGRAM, nr, args) == POLICY.decide(nr, args).value


@given(args=ARGS, index=st.integers(0, len(POLICY.rules) - 1), data=st.data())
@settings(max_examples=1000, deadline=None)
def test_every_rule_is_decided_alike_when_its_conditions_hold(
    args: tuple[int, ...], index: int, data: st.DataObject
) -> None:
    rule = POLICY.rules[index]
    fitted = list(args)
    for check in rule.when:
        value = data.draw(st.sampled_from(check.values))
        fitted[check.arg] = fitted[check.arg] & ~check.mask | value
    assert all(check.holds(tuple(fitted)) for check in rule.when)
    assert bpf_machine.run(PROGRAM, rule.nr, fitted) == POLICY.decide(rule.nr, tuple(fitted)).value


@st.composite
def checks(draw: st.DrawFn) -> Check:
    mask = draw(st.sampled_from([0xFF, 0xFFFF_FFFF, 2**64 - 1, 0xFF00_0000_00FF, 0xFFFF_FFFF_0000_0000, 0xF0]))
    upper = draw(st.integers(0, 3)) << 32 & mask
    lower = draw(st.lists(st.integers(0, 300), min_size=1, max_size=4))
    return Check(draw(st.integers(0, 5)), mask, tuple(upper | value & mask & 0xFFFF_FFFF for value in lower))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    rule = st.builds(Rule, st.integers(0, 40), ACTIONS, st.lists(checks(), max_size=3).map(tuple))
    rules = draw(st.lists(rule, min_size=1, max_size=60))
    hot = draw(st.lists(st.sampled_from([one.nr for one in rules]), max_size=2, unique=True))
    return Policy(tuple(rules), draw(ACTIONS), tuple(hot))


@given(policy=policies(), nr=st.integers(0, 45), args=st.tuples(*[st.integers(0, 2**34)] * 6))
@settings(max_examples=500, deadline=None)
def test_any_policy_compiles_to_what_it_says(policy: Policy, nr: int, args: tuple[int, ...]) -> None:
    program = policy.compile()
    bpf_machine.check(program)
    assert bpf_machine.run(program, nr, args) == policy.decide(nr, args).value


def test_long_policies_jump_over_more_than_a_byte_can_say() -> None:
    rules = tuple(Rule(nr, ALLOW, (one_of(0, range(nr, nr + 30)),)) for nr in range(90))
    policy = Policy(rules, KILL, hot=(89,))
    program = policy.compile()
    bpf_machine.check(program)
    for nr in range(92):
        for value in (0, nr - 1, nr, nr + 29, nr + 30):
            args = (value & 0xFFFF_FFFF, 0, 0, 0, 0, 0)
            assert bpf_machine.run(program, nr, args) == policy.decide(nr, args).value


@pytest.mark.parametrize("nr", [0x4000_0000, 0x4000_0000 | Sys.READ, 0xFFFF_FFFF])
def test_x32_numbers_are_killed(nr: int) -> None:
    assert bpf_machine.run(PROGRAM, nr) == KILL.value


def test_calls_of_i386_are_killed() -> None:
    assert bpf_machine.run(PROGRAM, Sys.READ, arch=bpf_machine.I386) == KILL.value


def verdict(nr: int, *args: int) -> Action:
    return Action(bpf_machine.run(PROGRAM, nr, args))


def test_the_hot_call_is_decided_in_seven_instructions() -> None:
    # load arch, compare, load nr, compare, load request, compare, return: nothing else in between
    assert bpf_machine.trace(PROGRAM, Sys.IOCTL, (5, KVM_RUN)) == (ALLOW.value, 7)


@pytest.mark.parametrize("flags", [1, 2, 0o100, 0o1000, 0o2000, 0o20200000, 0o40000000])
def test_no_flag_opens_for_writing(flags: int) -> None:
    assert verdict(Sys.OPENAT, 0, 0, flags) == fail(errno.EPERM)
    assert verdict(Sys.OPEN, 0, flags) == fail(errno.EPERM)
    assert verdict(Sys.OPENAT, 0, 0, 0o2000000) == ALLOW


def test_no_memory_becomes_executable() -> None:
    for nr in (Sys.MMAP, Sys.MPROTECT):
        assert verdict(nr, 0, 4096, 3) == ALLOW
        assert verdict(nr, 0, 4096, 4) == verdict(nr, 0, 4096, 7) == fail(errno.EPERM)
        assert verdict(nr, 0, 4096, 3 | 1 << 32) == fail(errno.EPERM)
    assert verdict(Sys.PKEY_MPROTECT, 0, 4096, 1) == fail(errno.EPERM)


def test_only_a_plain_fork_is_a_clone() -> None:
    assert verdict(Sys.CLONE, FORK_FLAGS) == ALLOW
    assert verdict(Sys.CLONE, FORK_FLAGS | 1 << 32) == KILL
    assert verdict(Sys.CLONE, 0x3D0F00) == fail(errno.EPERM)  # a thread, as glibc asks for it
    for flag in (0x10000000, 0x20000000, 0x40000000, 0x20000, 0x8000000, 0x4000000, 0x2000000, 0x2000, 0x8000, 0x80):
        assert verdict(Sys.CLONE, FORK_FLAGS | flag) == (KILL if flag != 0x80 else fail(errno.EPERM))
    assert verdict(Sys.CLONE3) == fail(errno.ENOSYS)


def test_an_int_argument_is_judged_by_the_half_the_kernel_reads() -> None:
    assert verdict(Sys.IOCTL, 5, KVM_RUN | 0xDEAD << 32) == ALLOW
    assert verdict(Sys.IOCTL, 5, 0x5412) == fail(errno.EPERM)  # TIOCSTI
    assert verdict(Sys.PRLIMIT64, 1 << 32, 7, 0) == ALLOW  # pid 0, as the kernel sees it
    assert verdict(Sys.PRLIMIT64, 1, 7, 0) == verdict(Sys.PRLIMIT64, 0, 7, 1) == fail(errno.EPERM)
    assert verdict(Sys.PRLIMIT64, 0, 7, 1 << 32) == fail(errno.EPERM)  # a pointer has all 64 bits


def test_no_signal_to_another_process() -> None:
    for nr in (Sys.KILL, Sys.TKILL, Sys.RT_SIGQUEUEINFO, Sys.RT_TGSIGQUEUEINFO, Sys.PIDFD_SEND_SIGNAL, Sys.PIDFD_OPEN):
        assert verdict(nr, 1, 9) == KILL
    assert verdict(Sys.TGKILL, 1, 1, 9) == fail(errno.EPERM)  # abort() asks for it
    for command in (8, 10, 15, 1026):  # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_NOTIFY
        assert verdict(Sys.FCNTL, 0, command, 1) == fail(errno.EPERM)
    assert verdict(Sys.FCNTL, 0, 4, 0o20000) == fail(errno.EPERM)  # F_SETFL O_ASYNC
    assert verdict(Sys.FCNTL, 0, 4, 0o4000) == ALLOW


def test_extra_rules_come_first() -> None:
    policy = vmm_policy(REQUESTS, extra=(Rule(Sys.FTRUNCATE, ALLOW, (equals(0, 7, 32),)),))
    program = policy.compile()
    assert bpf_machine.run(program, Sys.FTRUNCATE, (7,)) == ALLOW.value
    assert bpf_machine.run(program, Sys.FTRUNCATE, (8,)) == fail(errno.EPERM).value


@pytest.mark.parametrize(
    "build",
    [
        lambda: Check(6, 0xFF, (1,)),
        lambda: Check(0, 0xFF, ()),
        lambda: Check(0, 0xFF, (0x100,)),
        lambda: Check(0, 2**64 - 1, (1, 1 << 32)),
        lambda: equals(0, 1, bits=16),
        lambda: only_bits(0, 1, bits=8),
        lambda: fail(0),
        lambda: fail(4096),
    ],
)
def test_a_rule_that_could_never_mean_what_it_says_is_refused(build: object) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=r"."):
        build()


def test_no_call_is_both_allowed_outright_and_hostile() -> None:
    outright: dict[int, Action] = {}
    for rule in POLICY.rules:
        if not rule.when:
            assert rule.nr not in outright, Sys(rule.nr).name
            outright[rule.nr] = rule.action


@pytest.mark.skipif(not HEADER.exists(), reason="no kernel headers (linux-libc-dev) to compare with")
def test_numbers_are_the_kernels() -> None:
    theirs = {name: int(nr) for name, nr in re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())}
    known = {call.name.lower(): int(call) for call in Sys}
    assert {name: nr for name, nr in known.items() if theirs.get(name, nr) != nr} == {}
    assert len(known.keys() & theirs.keys()) > 200
