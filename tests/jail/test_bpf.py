from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prong.cell.jail.bpf import MAX_INSTRUCTIONS, RETURN, Assembler, Instruction
from tests.jail import bpf_machine


def test_a_branch_goes_both_ways() -> None:
    asm = Assembler()
    no, yes = asm.give(0), asm.give(1)
    program = asm.finish(asm.load(0, asm.if_equal(7, yes, no)))
    bpf_machine.check(program)
    assert [bpf_machine.run(program, nr) for nr in (6, 7, 8)] == [0, 1, 0]


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000), st.booleans())
def test_targets_at_any_distance_are_reached(first: int, second: int, unrelated_is_return: bool) -> None:
    """Whatever lies between: far returns are copied, far code is reached over a stepping stone."""
    asm = Assembler()
    low = asm.give(1)
    high = asm.load(16, asm.if_at_least(5, asm.give(2), low))
    for number in range(first + second):
        if number == first:
            low = asm.give(3)
        if unrelated_is_return:
            asm.give(9)
        else:
            asm.mask(number, low)
    program = asm.finish(asm.load(0, asm.if_at_least(100, high, low)))
    bpf_machine.check(program)
    below = bpf_machine.run(program, 99)
    assert below == (3 if second else 1)
    assert bpf_machine.run(program, 100, (5,)) == 2
    assert bpf_machine.run(program, 100, (4,)) == 1


def test_a_far_return_is_copied_not_jumped_to() -> None:
    asm = Assembler()
    far, near = asm.give(1), asm.give(2)
    for _ in range(300):
        near = asm.give(2)
    program = asm.finish(asm.load(0, asm.if_equal(7, far, near)))
    assert bpf_machine.run(program, 7) == 1
    assert not [one for one in program if one.code == 0x05]


def test_a_program_starts_where_it_was_laid_last_and_is_not_too_long() -> None:
    asm = Assembler()
    first = asm.give(1)
    asm.give(2)
    with pytest.raises(ValueError, match="starts at 1, but 2"):
        asm.finish(first)
    for _ in range(MAX_INSTRUCTIONS):
        last = asm.give(3)
    with pytest.raises(ValueError, match="the kernel takes 4096"):
        asm.finish(last)


def test_encoding_is_struct_sock_filter() -> None:
    assert Instruction(0x15, 1, 2, 0xC000003E).encode() == bytes.fromhex("1500 01 02 3e0000c0")
    assert Instruction(RETURN, k=0x7FFF0000).encode() == bytes.fromhex("0600 00 00 0000ff7f")
