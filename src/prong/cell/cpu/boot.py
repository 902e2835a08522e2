"""The supervisor pages: descriptor tables, task state, and the stubs (Intel SDM vol. 3, chapters 3, 6 and 7)."""

from __future__ import annotations

import struct

from prong.cell.memory.layout import (
    FRAME_GDT,
    FRAME_IDT,
    FRAME_PML4,
    FRAME_TSS,
    KERNEL_STACK_TOP,
    PAGE,
    PORT_SYSCALL,
    PORT_VECTOR,
    SEL_KERNEL_CODE,
    SEL_KERNEL_DATA,
    SEL_TSS,
    SEL_USER_CODE,
    SEL_USER_DATA,
    STUB_SYSCALL,
    STUB_VECTORS,
    VECTORS,
)
from prong.cell.memory.phys import Physical
from prong.kvm import abi
from prong.kvm.device import Seg

CR0 = 0x80050033
CR4 = 0x40620
"""PAE, OSFXSR, OSXMMEXCPT, OSXSAVE."""
EFER = 0xD01
"""SCE, LME, LMA, NXE."""
SFMASK = 0x47700
"""Flags cleared on system-call entry: TF, IF, DF, IOPL, NT, AC."""

MSRS = {
    abi.MSR_STAR: SEL_KERNEL_CODE << 32 | (SEL_USER_DATA - 8) << 48,
    abi.MSR_LSTAR: STUB_SYSCALL,
    abi.MSR_SFMASK: SFMASK,
}

_DPL3_GATES = {3, 4}
"""int3 and into may be used by the program."""


def write_supervisor(phys: Physical) -> None:
    """Fill the supervisor frames of a fresh guest memory."""
    words = phys.words
    code, data = 0x00AF9B000000FFFF, 0x00CF93000000FFFF
    tss = FRAME_TSS * PAGE
    descriptors = [0, code, data, data | 3 << 45, code | 3 << 45, 0x00008B0000000067 | tss << 16, 0]
    gdt = FRAME_GDT * 512
    for i, descriptor in enumerate(descriptors):
        words[gdt + i] = descriptor
    struct.pack_into("<Q", phys.bytes, tss + 4, KERNEL_STACK_TOP)
    struct.pack_into("<H", phys.bytes, tss + 102, 104)
    for vector in range(VECTORS):
        handler = STUB_VECTORS + 16 * vector
        gate = 0xEE if vector in _DPL3_GATES else 0x8E
        at = FRAME_IDT * PAGE + 16 * vector
        struct.pack_into("<HHBBHII", phys.bytes, at, handler & 0xFFFF, SEL_KERNEL_CODE, 0, gate, handler >> 16, 0, 0)
        phys.bytes[handler : handler + 2] = bytes((0xE6, PORT_VECTOR + vector))
    phys.bytes[STUB_SYSCALL : STUB_SYSCALL + 2] = bytes((0xE6, PORT_SYSCALL))


def user_sregs(fresh: bytearray) -> bytearray:
    """Special registers for running the program at CPL 3, made from a fresh vCPU's."""
    sregs = bytearray(fresh)
    data = Seg(SEL_USER_DATA, 3, dpl=3, big=True)
    code = Seg(SEL_USER_CODE, 11, dpl=3, long=True)
    for i, seg in enumerate((code, data, data, data, data, data)):
        sregs[24 * i : 24 * i + 24] = seg.pack()
    tss = Seg(SEL_TSS, 11, base=FRAME_TSS * PAGE, limit=0x67, system=True, granular=False)
    sregs[144:168] = tss.pack()
    unusable = bytearray(Seg(0, 2, limit=0, system=True, granular=False).pack())
    unusable[15], unusable[22] = 0, 1
    sregs[168:192] = unusable
    struct.pack_into("<QH", sregs, 192, FRAME_GDT * PAGE, 8 * 7 - 1)
    struct.pack_into("<QH", sregs, 208, FRAME_IDT * PAGE, 16 * VECTORS - 1)
    struct.pack_into("<QQQQQQ", sregs, 224, CR0, 0, FRAME_PML4 * PAGE, CR4, 0, EFER)
    return sregs


__all__ = ["MSRS", "SEL_KERNEL_DATA", "user_sregs", "write_supervisor"]
