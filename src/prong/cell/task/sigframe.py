"""The signal frame on the program's stack: laid out and read back exactly as Linux x86-64 does.

Source: arch/x86/include/uapi/asm/{sigcontext,ucontext}.h and arch/x86/kernel/{signal_64,fpu/signal}.c of the Linux
kernel. From the address the handler finds in rsp: return address (8), ucontext (304), siginfo (128); the XSAVE area
lies above, at a multiple of 64.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from prong.cell.core.cpu import XSAVE_HEADER, XSAVE_LEGACY, initial_fpu
from prong.cell.core.errors import SysErr
from prong.cell.task.siginfo import SA_ONSTACK, SA_RESTORER, SI_KERNEL, SI_TIMER, SIGCHLD, SYNCHRONOUS, Action, bit

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.siginfo import SignalInfo
    from prong.cell.task.task import Task

RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP, R8, R9, R10, R11, R12, R13, R14, R15, RIP, RFLAGS = range(18)
SIGCONTEXT_ORDER = (R8, R9, R10, R11, R12, R13, R14, R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP, RIP, RFLAGS)

SS_ONSTACK, SS_DISABLE, SS_AUTODISARM = 1, 2, 0x80000000
RED_ZONE = 128
FRAME_SIZE = 8 + 304 + 128
UC_FLAGS = 7
"""UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS."""
FP_XSTATE_MAGIC1, FP_XSTATE_MAGIC2 = 0x46505853, 0x46505845
SW_RESERVED = 464
"""Offset in the legacy region of ``struct _fpx_sw_bytes``: magic, extended size, features, size."""
USER_FLAGS = 0x50DD5
"""The rflags bits a program may set by rt_sigreturn: AC RF OF DF TF SF ZF AF PF CF."""
CLEARED_FLAGS = 0x10500
"""RF, DF and TF are off when a handler starts."""
MXCSR_ALWAYS, MXCSR_EXTRA = 0xFFFF, 0x20000
"""MXCSR bits every CPU with virtualization has (denormals-are-zeros included), and one that only some have."""
USER_TOP = 0x7FFFFFFFF000

_HEAD = struct.Struct("<QQQQIIQ18Q4H5Q64xQ")
_SW = struct.Struct("<IIQI")


class BadFrame(Exception):
    """The stack cannot hold a frame, or what rt_sigreturn found is not one."""


def on_altstack(task: Task, sp: int) -> bool:
    """Whether ``sp`` lies in the task's alternate stack."""
    base, size, flags = task.altstack
    return not flags & SS_AUTODISARM and base < sp <= base + size


def altstack_flags(task: Task, sp: int) -> int:
    """SS_DISABLE, SS_ONSTACK or 0, as sigaltstack(2) reports for a stack pointer."""
    if not task.altstack[1]:
        return SS_DISABLE
    return SS_ONSTACK if on_altstack(task, sp) else 0


def push(kernel: Kernel, task: Task, info: SignalInfo, action: Action, trap: tuple[int, int, int] = (0, 0, 0)) -> None:
    """Write a frame for ``info`` and point the task's registers at the handler.

    Args:
        kernel: the cell.
        task: its registers must be those with which the program would have gone on.
        info: the signal.
        action: its action; the handler is an address.
        trap: (trap number, error code, cr2) of a fault.

    Raises:
        BadFrame: the stack is not writable, the alternate stack overflows, or the action has no restorer.
    """
    handler, flags, restorer, _ = action
    if not flags & SA_RESTORER:
        raise BadFrame
    regs = task.regs
    frame, fpstate = _place(kernel, task, bool(flags & SA_ONSTACK))
    trapno, err, cr2 = trap
    base, size, stack_flags = task.altstack
    mask = task.sigmask if task.saved_sigmask is None else task.saved_sigmask
    context = [regs[i] for i in SIGCONTEXT_ORDER]
    head = _HEAD.pack(
        restorer, UC_FLAGS, 0, base, stack_flags, 0, size, *context, 0x33, 0, 0, 0x2B,
        err, trapno, mask & 0xFFFFFFFFFFFFFFFF, cr2, fpstate, mask,
    )  # fmt: skip
    try:
        kernel.mem.write(fpstate, _fpu_image(kernel, task))
        kernel.mem.write(frame, head + pack_siginfo(info))
    except SysErr:
        raise BadFrame from None
    if stack_flags & SS_AUTODISARM:
        task.altstack = (0, 0, SS_DISABLE)
    kernel.cpu.fpu_set(task, initial_fpu(kernel.cpu.xsave_size))
    regs[RDI], regs[RSI], regs[RDX], regs[RAX] = info.signo, frame + 312, frame + 8, 0
    regs[RSP], regs[RIP] = frame, handler
    regs[RFLAGS] &= ~CLEARED_FLAGS


def _place(kernel: Kernel, task: Task, onstack: bool) -> tuple[int, int]:
    """Addresses of the frame and of its XSAVE area."""
    sp = task.regs[RSP]
    nested = on_altstack(task, sp)
    sp = (sp - RED_ZONE) & 0xFFFFFFFFFFFFFFFF
    entering = onstack and altstack_flags(task, sp) == 0
    if entering:
        sp = task.altstack[0] + task.altstack[1]
    fpstate = (sp - kernel.cpu.xsave_size - 4) & ~63
    frame = ((fpstate - FRAME_SIZE) & ~15) - 8
    if frame <= 0 or fpstate >= USER_TOP:
        raise BadFrame
    base, size, _ = task.altstack
    if (nested or entering) and not base < frame <= base + size:
        raise BadFrame
    return frame, fpstate


def _fpu_image(kernel: Kernel, task: Task) -> bytes:
    """The task's XSAVE area with the software bytes that tell its extent, and the second magic number after it."""
    size = kernel.cpu.xsave_size
    area = bytearray(kernel.cpu.fpu_get(task)[:size])
    area[SW_RESERVED:XSAVE_LEGACY] = bytes(48)
    _SW.pack_into(area, SW_RESERVED, FP_XSTATE_MAGIC1, size + 4, kernel.cpu.xfeatures, size)
    # The kernel always marks x87 and SSE as present in a frame, for programs that edit them there.
    area[XSAVE_LEGACY] |= 3
    return bytes(area) + struct.pack("<I", FP_XSTATE_MAGIC2)


def pop(kernel: Kernel, task: Task) -> None:
    """rt_sigreturn(2): take registers, mask, alternate stack and FPU back from the frame at the stack pointer.

    Everything is read and checked before anything changes. Raises BadFrame.
    """
    frame = task.regs[RSP] - 8
    try:
        fields = _HEAD.unpack(kernel.mem.read(frame, _HEAD.size))
        context, fpstate, mask = fields[7:25], fields[33], fields[34]
        fpu = read_fpu(kernel, task, fpstate) if fpstate else initial_fpu(kernel.cpu.xsave_size)
    except SysErr:
        raise BadFrame from None
    rip = context[16]
    if rip >= USER_TOP:
        raise BadFrame
    kernel.cpu.fpu_set(task, fpu)
    regs = task.regs
    flags = (regs[RFLAGS] & ~USER_FLAGS) | (context[17] & USER_FLAGS)
    for index, value in zip(SIGCONTEXT_ORDER, context, strict=True):
        regs[index] = value
    regs[RFLAGS] = flags
    kernel.signals.set_mask(task, mask)
    base, stack_flags, size = fields[3], fields[4], fields[6]
    try:
        set_altstack(task, base, stack_flags, size)
    except SysErr:
        return  # as the kernel: a frame's unusable alternate stack leaves the present one


def set_altstack(task: Task, base: int, flags: int, size: int) -> None:
    """sigaltstack(2)'s checks. Raises SysErr: EPERM while running on it, EINVAL for flags, ENOMEM if too small."""
    if on_altstack(task, task.regs[RSP]):
        raise SysErr(1)
    mode = flags & ~SS_AUTODISARM
    if mode == SS_DISABLE:
        base = size = 0
    elif mode not in (0, SS_ONSTACK):
        raise SysErr(22)
    elif size < 2048:
        raise SysErr(12)
    task.altstack = (base, size, flags)


def read_fpu(kernel: Kernel, task: Task, address: int) -> bytes:
    """The FPU state of a frame, made safe to load. Raises BadFrame for one the CPU would refuse, SysErr(EFAULT)."""
    limit = kernel.cpu.xsave_size
    if address & 15:
        raise BadFrame
    legacy = bytearray(kernel.mem.read(address, XSAVE_LEGACY))
    magic, extended, wanted, size = _SW.unpack_from(legacy, SW_RESERVED)
    present = kernel.cpu.fpu_get(task)
    allowed = struct.unpack_from("<I", present, 28)[0] & MXCSR_EXTRA | MXCSR_ALWAYS
    if struct.unpack_from("<I", legacy, 24)[0] & ~allowed:
        raise BadFrame
    legacy[28:32] = present[28:32]
    legacy[SW_RESERVED:] = bytes(48)
    smallest = XSAVE_LEGACY + XSAVE_HEADER
    if magic != FP_XSTATE_MAGIC1 or not smallest <= size <= limit or size > extended:
        return _legacy_only(legacy, limit)
    if kernel.mem.u32(address + size) != FP_XSTATE_MAGIC2:
        return _legacy_only(legacy, limit)
    if address & 63:
        raise BadFrame
    rest = kernel.mem.read(address + XSAVE_LEGACY, size - XSAVE_LEGACY)
    features, compact = struct.unpack_from("<QQ", rest)
    if features & ~kernel.cpu.xfeatures or compact or any(rest[16:XSAVE_HEADER]):
        raise BadFrame
    features &= wanted
    return bytes(legacy) + struct.pack("<Q", features) + rest[8:] + bytes(limit - size)


def _legacy_only(legacy: bytearray, size: int) -> bytes:
    """An XSAVE area with only x87 and SSE state in it."""
    return bytes(legacy) + struct.pack("<Q", 3) + bytes(size - XSAVE_LEGACY - 8)


def pack_siginfo(info: SignalInfo) -> bytes:
    """The 128 bytes of ``siginfo_t``; which member of the union counts follows from the signal and its code."""
    head = struct.pack("<iii4x", info.signo, 0, info.code)
    if info.code == SI_TIMER:
        body = struct.pack("<iiQ", info.timerid, info.overrun, info.value)
    elif info.code > 0 and info.code != SI_KERNEL and bit(info.signo) & SYNCHRONOUS:
        body = struct.pack("<Q", info.addr)
    elif info.code > 0 and info.signo == SIGCHLD:
        body = struct.pack("<iIi", info.pid, info.uid, info.status)
    else:
        body = struct.pack("<iIQ", info.pid, info.uid, info.value)
    return (head + body).ljust(128, b"\0")
