"""A classic BPF machine that checks and runs seccomp filters as Linux does (``kernel/seccomp.c``)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from prong.cell.jail.bpf import Instruction

X86_64 = 0xC000003E
I386 = 0x40000003


def run(program: Sequence[Instruction], nr: int, args: Sequence[int] = (), arch: int = X86_64) -> int:
    """The value the program returns for one call."""
    return trace(program, nr, args, arch)[0]


def trace(program: Sequence[Instruction], nr: int, args: Sequence[int] = (), arch: int = X86_64) -> tuple[int, int]:
    """The value the program returns and how many instructions that took; refuses what the kernel's verifier would."""
    data = struct.pack("<IIQ6Q", nr, arch, 0, *args, *[0] * (6 - len(args)))
    accumulator, at, steps = 0, 0, 0
    while True:
        assert at < len(program), "fell off the end"
        one = program[at]
        at += 1
        steps += 1
        match one.code:
            case 0x20:
                assert one.k % 4 == 0
                assert one.k + 4 <= len(data)
                (accumulator,) = struct.unpack_from("<I", data, one.k)
            case 0x54:
                accumulator &= one.k
            case 0x05:
                at += one.k
            case 0x15:
                at += one.if_true if accumulator == one.k else one.if_false
            case 0x35:
                at += one.if_true if accumulator >= one.k else one.if_false
            case 0x06:
                return one.k, steps
            case _:
                raise AssertionError(f"instruction {one.code:#x} is not of seccomp's set")


def check(program: Sequence[Instruction]) -> None:
    """Every jump, taken or not, lands inside, and every operand fits its field."""
    for at, one in enumerate(program):
        assert 0 <= one.if_true <= 255
        assert 0 <= one.if_false <= 255
        assert 0 <= one.k <= 0xFFFF_FFFF
        if one.code == 0x05:
            assert at + 1 + one.k < len(program)
        elif one.code in (0x15, 0x35):
            assert at + 1 + max(one.if_true, one.if_false) < len(program)
    assert program[-1].code == 0x06
