"""An assembler for the classic BPF programs seccomp runs (Linux ``Documentation/userspace-api/seccomp_filter.rst``).

Jumps in classic BPF only go forward, and conditional ones at most 255 instructions. So the program is laid down from
its end to its start: whatever an instruction jumps to is already there, its distance is known, and a target that is
too far gets a stepping stone (a copy of it when it is a return, an unconditional jump otherwise). No pass over
labels, no offset that can be wrong.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NewType

Label = NewType("Label", int)
"""A place in the program: the number of instructions from it to the end, itself included."""

# linux/bpf_common.h
LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS: A = word of struct seccomp_data at k
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K: A &= k
JUMP = 0x05  # BPF_JMP | BPF_JA
JUMP_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_IF_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K, unsigned
RETURN = 0x06  # BPF_RET | BPF_K

MAX_INSTRUCTIONS = 4096
_REACH = 255
_INSTRUCTION = struct.Struct("<HBBI")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One ``struct sock_filter``: operation, offsets when true and when false, 32-bit operand."""

    code: int
    if_true: int = 0
    if_false: int = 0
    k: int = 0

    def encode(self) -> bytes:
        """The eight bytes of the ``struct sock_filter``."""
        return _INSTRUCTION.pack(self.code, self.if_true, self.if_false, self.k)


class Assembler:
    """Builds a program backwards; every method places code *before* what was placed so far and returns its label."""

    def __init__(self) -> None:
        self._reversed: list[Instruction] = []

    def give(self, value: int) -> Label:
        """Return ``value``: the verdict of the filter."""
        return self._place(Instruction(RETURN, k=value))

    def load(self, offset: int, then: Label) -> Label:
        """A = the 32-bit word at ``offset`` of ``struct seccomp_data``, then go on at ``then``."""
        self._fall_to(then)
        return self._place(Instruction(LOAD, k=offset))

    def mask(self, mask: int, then: Label) -> Label:
        """A &= ``mask``, then go on at ``then``."""
        self._fall_to(then)
        return self._place(Instruction(AND, k=mask))

    def if_equal(self, value: int, then: Label, otherwise: Label) -> Label:
        """Go on at ``then`` when A equals ``value``, else at ``otherwise``."""
        return self._branch(JUMP_IF_EQUAL, value, then, otherwise)

    def if_at_least(self, value: int, then: Label, otherwise: Label) -> Label:
        """Go on at ``then`` when A, unsigned, is not below ``value``, else at ``otherwise``."""
        return self._branch(JUMP_IF_AT_LEAST, value, then, otherwise)

    def finish(self, start: Label) -> tuple[Instruction, ...]:
        """The program that begins at ``start``.

        Raises:
            ValueError: ``start`` is not the last instruction placed, or the program is longer than the kernel takes.
        """
        if start != len(self._reversed):
            raise ValueError(f"program starts at {start}, but {len(self._reversed)} instructions were placed")
        if len(self._reversed) > MAX_INSTRUCTIONS:
            raise ValueError(f"filter has {len(self._reversed)} instructions, the kernel takes {MAX_INSTRUCTIONS}")
        return tuple(reversed(self._reversed))

    def _place(self, instruction: Instruction) -> Label:
        self._reversed.append(instruction)
        return Label(len(self._reversed))

    def _offset(self, target: Label) -> int:
        """What the next instruction placed must skip to reach ``target``."""
        return len(self._reversed) - target

    def _fall_to(self, target: Label) -> None:
        if self._offset(target) != 0:
            self._place(Instruction(JUMP, k=self._offset(target)))

    def _branch(self, code: int, value: int, then: Label, otherwise: Label) -> Label:
        # One place is kept for the stepping stone that `then` may need after `otherwise` has been found near enough.
        otherwise = self._near(otherwise, _REACH - 1)
        then = self._near(then, _REACH)
        return self._place(Instruction(code, self._offset(then), self._offset(otherwise), value))

    def _near(self, target: Label, reach: int) -> Label:
        if self._offset(target) <= reach:
            return target
        there = self._reversed[target - 1]
        if there.code == RETURN:
            return self._place(there)
        return self._place(Instruction(JUMP, k=self._offset(target)))
