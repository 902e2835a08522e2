"""Seccomp filters from typed rules: what a process may ask of the kernel, decided by number and arguments.

A filter sees registers, never memory: what a pointer points to is out of its sight, so a call whose danger sits in a
structure (``openat2``, ``clone3``) is refused whole. An ``int`` parameter of the kernel is the low half of its
register; a condition on one looks at that half only (``bits=32``), and on an ``unsigned long`` at both (``bits=64``).

Source: seccomp(2); ``Documentation/userspace-api/seccomp_filter.rst``; ``include/uapi/linux/seccomp.h``.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from prong.cell.jail import libc
from prong.cell.jail.bpf import Assembler, Instruction, Label

AUDIT_ARCH_X86_64 = 0xC000003E
X32_BIT = 0x4000_0000
_OFFSET_NR = 0
_OFFSET_ARCH = 4
_OFFSET_ARGS = 16
_U32 = 0xFFFF_FFFF
_FLAG_TSYNC = 1


@dataclass(frozen=True, slots=True)
class Action:
    """What the kernel does: a ``SECCOMP_RET_*`` value."""

    value: int


ALLOW = Action(0x7FFF_0000)
KILL = Action(0x8000_0000)  # SECCOMP_RET_KILL_PROCESS: SIGSYS that nothing can catch


def fail(errno: int) -> Action:
    """The call is not made and returns ``errno``."""
    if not 0 < errno < 4096:
        raise ValueError(f"errno {errno} is not between 1 and 4095")
    return Action(0x0005_0000 | errno)


@dataclass(frozen=True, slots=True)
class Check:
    """A condition on an argument: ``(args[arg] & mask)`` is one of ``values``.

    Attributes:
        arg: 0 to 5.
        mask: 64-bit; a mask whose upper half is zero leaves that half of the register unseen.
        values: what is accepted, tried in this order; all must agree in the upper half.
    """

    arg: int
    mask: int
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.arg <= 5:
            raise ValueError(f"a system call has arguments 0 to 5, not {self.arg}")
        if not self.values:
            raise ValueError("a check without values never holds")
        if any(v & ~self.mask or v < 0 for v in self.values):
            raise ValueError(f"values {self.values} have bits outside of mask {self.mask:#x}: they can never match")
        if len({v >> 32 for v in self.values}) != 1:
            raise ValueError("values of one check must agree in their upper 32 bits")

    def holds(self, args: tuple[int, ...]) -> bool:
        """The same decision in Python: the specification the compiled filter is tested against."""
        return args[self.arg] & self.mask in self.values


def _all_bits(bits: int) -> int:
    if bits not in (32, 64):
        raise ValueError(f"an argument has 32 or 64 bits, not {bits}")
    return (1 << bits) - 1


def one_of(arg: int, values: Iterable[int], bits: int = 32) -> Check:
    """The argument is one of ``values``."""
    return Check(arg, _all_bits(bits), tuple(values))


def equals(arg: int, value: int, bits: int = 64) -> Check:
    """The argument is exactly ``value``."""
    return Check(arg, _all_bits(bits), (value,))


def only_bits(arg: int, allowed: int, bits: int) -> Check:
    """The argument has no bit set outside of ``allowed``."""
    return Check(arg, _all_bits(bits) & ~allowed, (0,))


@dataclass(frozen=True, slots=True)
class Rule:
    """When call ``nr`` meets all of ``when``, take ``action``. Of several for one number the first that fits counts."""

    nr: int
    action: Action
    when: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole filter.

    Attributes:
        rules: in order of precedence.
        default: for every call no rule fits.
        hot: numbers looked at before the search, most frequent first.
    """

    rules: tuple[Rule, ...]
    default: Action
    hot: tuple[int, ...] = ()

    def decide(self, nr: int, args: tuple[int, ...]) -> Action:
        """The verdict for an x86-64 call: the specification the compiled filter is tested against."""
        if nr >= X32_BIT:
            return KILL
        for rule in self.rules:
            if rule.nr == nr and all(check.holds(args) for check in rule.when):
                return rule.action
        return self.default

    def compile(self) -> tuple[Instruction, ...]:
        """The filter as BPF. Calls of another architecture (i386) and of the x32 ABI kill the process."""
        return _Compiler(self).program()


@dataclass(slots=True)
class _Compiler:
    policy: Policy
    asm: Assembler = field(default_factory=Assembler)

    def program(self) -> tuple[Instruction, ...]:
        kill = self.asm.give(KILL.value)
        default = self.asm.give(self.policy.default.value)
        bodies: dict[tuple[Rule, ...], Label] = {}
        labels = {}
        for nr, rules in sorted(self._by_number().items()):
            # Calls with the same rules but for the number share their code.
            key = tuple(Rule(0, rule.action, rule.when) for rule in rules)
            if key not in bodies:
                bodies[key] = self._body(rules, default)
            labels[nr] = bodies[key]
        step = self._search(self._ranges(labels, default, kill))
        for nr in reversed(self.policy.hot):
            step = self.asm.if_equal(nr, self._body(self._by_number()[nr], default), step)
        step = self.asm.load(_OFFSET_NR, step)
        step = self.asm.if_equal(AUDIT_ARCH_X86_64, step, kill)
        return self.asm.finish(self.asm.load(_OFFSET_ARCH, step))

    def _by_number(self) -> dict[int, tuple[Rule, ...]]:
        numbers: dict[int, tuple[Rule, ...]] = {}
        for rule in self.policy.rules:
            numbers[rule.nr] = (*numbers.get(rule.nr, ()), rule)
        return numbers

    def _body(self, rules: tuple[Rule, ...], default: Label) -> Label:
        otherwise = default
        for rule in reversed(rules):
            accept = self.asm.give(rule.action.value)
            for check in reversed(rule.when):
                accept = self._check(check, accept, otherwise)
            otherwise = accept
        return otherwise

    def _check(self, check: Check, accept: Label, reject: Label) -> Label:
        """Upper half first, then the values of the lower half in their order; a half nobody looks at is not loaded."""
        offset = _OFFSET_ARGS + 8 * check.arg
        label = accept
        if check.mask & _U32:
            label = reject
            for value in reversed(check.values):
                label = self.asm.if_equal(value & _U32, accept, label)
            label = self._masked_load(offset, check.mask & _U32, label)
        if check.mask >> 32:
            label = self.asm.if_equal(check.values[0] >> 32, label, reject)
            label = self._masked_load(offset + 4, check.mask >> 32, label)
        return label

    def _masked_load(self, offset: int, mask: int, then: Label) -> Label:
        if mask != _U32:
            then = self.asm.mask(mask, then)
        return self.asm.load(offset, then)

    @staticmethod
    def _ranges(labels: dict[int, Label], default: Label, kill: Label) -> list[tuple[int, Label]]:
        """The number line as (first number, where to go), neighbours that go to the same place joined."""
        starts: dict[int, Label] = {0: default}
        for nr, label in sorted(labels.items()):
            starts[nr] = label
            starts.setdefault(nr + 1, default)
        starts[X32_BIT] = kill
        line = sorted(starts.items())
        return [line[0]] + [here for before, here in itertools.pairwise(line) if here[1] != before[1]]

    def _search(self, ranges: list[tuple[int, Label]]) -> Label:
        if len(ranges) == 1:
            return ranges[0][1]
        middle = len(ranges) // 2
        upper = self._search(ranges[middle:])
        lower = self._search(ranges[:middle])
        return self.asm.if_at_least(ranges[middle][0], upper, lower)


class Seal:
    """A compiled filter, ready to be installed with one system call; made once, before the forks that install it."""

    def __init__(self, policy: Policy) -> None:
        program = policy.compile()
        self.instructions = len(program)
        self._code = ctypes.create_string_buffer(b"".join(i.encode() for i in program), 8 * len(program))
        # struct sock_fprog { unsigned short len; struct sock_filter *filter; }
        header = len(program).to_bytes(8, "little") + ctypes.addressof(self._code).to_bytes(8, "little")
        self._fprog = ctypes.create_string_buffer(header, 16)
        self._address = ctypes.addressof(self._fprog)

    def install(self) -> None:
        """Puts the filter on this process, for good, and on all it forks.

        Raises:
            OSError: ``EACCES`` without ``no_new_privs``; ``EINVAL`` for a kernel without seccomp filters. The process
                is then not sealed and must not read guest bytes.
        """
        libc.install_filter(self._address, _FLAG_TSYNC)
