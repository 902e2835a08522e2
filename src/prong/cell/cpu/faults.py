"""CPU exceptions of the program: page faults resolved, everything else turned into the signal Linux sends."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prong.cell.memory.layout import STACK_END
from prong.cell.memory.phys import OutOfFrames, Physical
from prong.cell.memory.space import BadAccess

if TYPE_CHECKING:
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

PAGE_FAULT = 14
USER_ADDRESSES = 0x7FFFFFFFFFFF
"""Instruction addresses are cut to the canonical lower half: a guest can fake the frame, KVM must not choke on it."""
_WITH_CODE = {8, 10, 11, 12, 13, 14, 17, 21, 29, 30}
_ERR_WRITE, _ERR_FETCH = 2, 16

SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGKILL, SIGSEGV = 4, 5, 7, 8, 9, 11
SI_KERNEL = 0x80
_SIGNALS: dict[int, tuple[int, int]] = {
    0: (SIGFPE, 1),  # divide error: FPE_INTDIV
    1: (SIGTRAP, 2),  # debug: TRAP_TRACE
    3: (SIGTRAP, SI_KERNEL),  # int3
    4: (SIGSEGV, SI_KERNEL),
    5: (SIGSEGV, SI_KERNEL),
    6: (SIGILL, 2),  # invalid opcode: ILL_ILLOPN
    12: (SIGBUS, SI_KERNEL),
    16: (SIGFPE, 7),  # x87: FPE_FLTINV
    17: (SIGBUS, 1),  # alignment: BUS_ADRALN
    19: (SIGFPE, 7),
}


@dataclass(frozen=True)
class Exception_:
    """What the CPU pushed: vector, error code (0 if none), and the program's rip, rsp, rflags; ``address`` is CR2."""

    vector: int
    code: int
    rip: int
    rsp: int
    rflags: int
    address: int = 0

    def at(self, address: int) -> Exception_:
        """The same with the faulting address."""
        return replace(self, address=address)


def read_frame(phys: Physical, vector: int) -> Exception_:
    """The frame the CPU pushed on the supervisor stack (SDM vol. 3, 6.14.2)."""
    if vector in _WITH_CODE:
        code, rip, _cs, rflags, rsp, _ss = struct.unpack_from("<6Q", phys.bytes, STACK_END - 48)
    else:
        code = 0
        rip, _cs, rflags, rsp, _ss = struct.unpack_from("<5Q", phys.bytes, STACK_END - 40)
    return Exception_(vector, code & 0xFFFFFFFF, rip & USER_ADDRESSES, rsp, user_flags(rflags))


def user_flags(rflags: int) -> int:
    """The flags a program may have: what it can set itself, interrupts on. The rest is never taken from guest memory."""
    return rflags & 0x240DD5 | 0x202


def handle(kernel: Kernel, task: Task, exception: Exception_) -> None:
    """Resolve a page fault, or post the signal for what the program did wrong."""
    if exception.vector == PAGE_FAULT:
        _page_fault(kernel, task, exception)
        return
    signal, code = _SIGNALS.get(exception.vector, (SIGSEGV, SI_KERNEL))
    address = exception.rip if signal in (SIGILL, SIGFPE) else 0
    kernel.signals.fault(kernel, task, signal, code, address, exception.vector, exception.code)


def _page_fault(kernel: Kernel, task: Task, exception: Exception_) -> None:
    code = exception.code
    try:
        kernel.space.fault(exception.address, write=bool(code & _ERR_WRITE), execute=bool(code & _ERR_FETCH))
    except BadAccess as bad:
        kernel.signals.fault(kernel, task, bad.signal, bad.code, exception.address, PAGE_FAULT, code)
    except OutOfFrames:
        out_of_memory(kernel)


def out_of_memory(kernel: Kernel) -> None:
    """The memory limit is reached and the program needs a page: end it, as Linux' OOM killer would, and say so."""
    limit = kernel.limits.memory >> 20
    kernel.process.exit_status = SIGKILL
    kernel.process.exit_limit = "memory"
    kernel.process.exit_reason = f"memory limit of {limit} MiB reached"
