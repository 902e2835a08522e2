"""Where things are, in guest physical frames and in the program's virtual addresses."""

from __future__ import annotations

PAGE = 4096
PAGE_SHIFT = 12
PAGE_MASK = PAGE - 1
HUGE = 1 << 21

# Guest physical frames the machine itself needs. Frame n is mapped at SUPERVISOR + n * 4096, above what a program may map.
# The pages carry the user bit: a KVM that runs supervisor code in hardware user mode (PVM) cannot fetch them otherwise.
# A program that reads them learns nothing, and can write only the stack page, of which we believe no more than a crash.
SUPERVISOR = 0x7FFFFFFF0000
FRAME_GDT = 1
FRAME_IDT = 2
FRAME_TSS = 3
FRAME_STUBS = 4
FRAME_STACK = 5
FRAME_PML4 = 6
FIRST_FREE = 7
SUPERVISOR_FRAMES = range(1, 6)

STUB_SYSCALL = SUPERVISOR + FRAME_STUBS * PAGE
"""Where ``syscall`` enters: one ``out`` to PORT_SYSCALL."""
STUB_VECTORS = STUB_SYSCALL + 0x100
"""Exception vector v enters at ``STUB_VECTORS + 16 * v``: one ``out`` to PORT_VECTOR + v."""
STACK_END = (FRAME_STACK + 1) * PAGE - 64
"""Physical address of the top of the supervisor stack; exceptions push below it."""

PORT_SYSCALL = 0x10
PORT_VECTOR = 0x20
VECTORS = 32

# Selectors; the layout serves SYSCALL (STAR) as the SDM wants it: user data = STAR[63:48] + 8, user code = + 16.
SEL_KERNEL_CODE, SEL_KERNEL_DATA, SEL_TSS = 0x08, 0x10, 0x28
SEL_USER_DATA, SEL_USER_CODE = 0x1B, 0x23

# The program's half
MIN_ADDRESS = 0x10000
TASK_SIZE = SUPERVISOR
STACK_TOP = 0x7FFFFFFEF000
STACK_SIZE = 8 << 20
MMAP_TOP = 0x7FFFF7FFF000
PIE_BASE = 0x555555554000

# Page-table entry bits (Intel SDM vol. 3, 4.5). HELD and SHARED are software bits.
P, W, U, A, D, NX = 1, 2, 4, 0x20, 0x40, 1 << 63
SHARED = 1 << 9
"""The frame belongs to a file; unmapping must not free it."""
HELD = 1 << 10
"""Not present, but the frame and its content are kept (PROT_NONE over populated pages)."""
ADDR = 0x000FFFFFFFFFF000
USER_RO = P | U | A | D
"""A and D are preset so that no walker has to write them."""


def pages(size: int) -> int:
    """Pages needed for ``size`` bytes."""
    return (size + PAGE_MASK) >> PAGE_SHIFT
