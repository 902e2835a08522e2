"""The supervisor pages: descriptor tables, task state, and the stubs (Intel SDM vol. 3, chapters 3, 6 and 7)."""

from __future__ import annotations

import struct

from prong.cell.memory.layout import (
    FRAME_GDT,
    FRAME_IDT,
    FRAME_PML4,
    FRAME_TSS,
    PAGE,
    PORT_SYSCALL,
    PORT_VECTOR,
    SEL_KERNEL_CODE,
    SEL_KERNEL_DATA,
    SEL_TSS,
    SEL_USER_CODE,
    SEL_USER_DATA,
    STACK_END,
    STUB_SYSCALL,
    STUB_VECTORS,
    SUPERVISOR,
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

_IO_BITMAP = b"\xff\xff\xfe\xff\0\0\0\0\xff"
"""Ports the stubs use (0x10, 0x20…0x3f) are open, for a KVM that runs supervisor code in user mode. A program may thus
write them itself, and gains what ``syscall`` and exceptions give it anyway."""
_TSS_LIMIT = 104 + len(_IO_BITMAP) - 1

_DPL3_GATES = {3, 4}
"""int3 and into may be used by the program."""


def write_supervisor(phys: Physical) -> None:
    """Fill the supervisor frames of a fresh guest memory."""
    words = phys.words
    code, data = 0x00AF9B000000FFFF, 0x00CF93000000FFFF
    tss, at = FRAME_TSS * PAGE, SUPERVISOR + FRAME_TSS * PAGE
    low = _TSS_LIMIT | (at & 0xFFFFFF) << 16 | 0x8B << 40 | (at >> 24 & 0xFF) << 56
    descriptors = [0, code, data, data | 3 << 45, code | 3 << 45, low, at >> 32]
    gdt = FRAME_GDT * 512
    for i, descriptor in enumerate(descriptors):
        words[gdt + i] = descriptor
    struct.pack_into("<Q", phys.bytes, tss + 4, SUPERVISOR + STACK_END)
    struct.pack_into("<H", phys.bytes, tss + 102, 104)
    phys.bytes[tss + 104 : tss + 104 + len(_IO_BITMAP)] = _IO_BITMAP
    for vector in range(VECTORS):
        handler = STUB_VECTORS + 16 * vector
        gate = 0xEE if vector in _DPL3_GATES else 0x8E
        at = FRAME_IDT * PAGE + 16 * vector
        middle, high = handler >> 16 & 0xFFFF, handler >> 32
        struct.pack_into("<HHBBHII", phys.bytes, at, handler & 0xFFFF, SEL_KERNEL_CODE, 0, gate, middle, high, 0)
        stub = handler - SUPERVISOR
        phys.bytes[stub : stub + 2] = bytes((0xE6, PORT_VECTOR + vector))
    stub = STUB_SYSCALL - SUPERVISOR
    phys.bytes[stub : stub + 2] = bytes((0xE6, PORT_SYSCALL))


def user_sregs(fresh: bytearray) -> bytearray:
    """Special registers for running the program at CPL 3, made from a fresh vCPU's."""
    sregs = bytearray(fresh)
    data = Seg(SEL_USER_DATA, 3, dpl=3, big=True)
    code = Seg(SEL_USER_CODE, 11, dpl=3, long=True)
    for i, seg in enumerate((code, data, data, data, data, data)):
        sregs[24 * i : 24 * i + 24] = seg.pack()
    tss = Seg(SEL_TSS, 11, base=SUPERVISOR + FRAME_TSS * PAGE, limit=_TSS_LIMIT, system=True, granular=False)
    sregs[144:168] = tss.pack()
    unusable = bytearray(Seg(0, 2, limit=0, system=True, granular=False).pack())
    unusable[15], unusable[22] = 0, 1
    sregs[168:192] = unusable
    struct.pack_into("<QH", sregs, 192, SUPERVISOR + FRAME_GDT * PAGE, 8 * 7 - 1)
    struct.pack_into("<QH", sregs, 208, SUPERVISOR + FRAME_IDT * PAGE, 16 * VECTORS - 1)
    struct.pack_into("<QQQQQQ", sregs, 224, CR0, 0, FRAME_PML4 * PAGE, CR4, 0, EFER)
    return sregs


__all__ = ["MSRS", "SEL_KERNEL_DATA", "user_sregs", "write_supervisor"]
