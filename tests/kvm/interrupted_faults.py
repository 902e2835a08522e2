"""A program of its own (it owns SIGALRM): a guest that only takes page faults, interrupted as often as the timer can.

Prints ``faults interrupts wrong``: how many faults came, how many interrupts, and how many faults told a wrong address.
"""

from __future__ import annotations

import fcntl
import signal
import sys
from types import SimpleNamespace
from typing import Any, cast

from prong.cell.cpu import faults
from prong.cell.cpu.boot import write_supervisor
from prong.cell.cpu.cpu import Cpu
from prong.cell.cpu.loop import Loop
from prong.cell.memory.layout import PAGE, PIE_BASE, PORT_VECTOR
from prong.cell.memory.phys import Physical
from prong.cell.memory.space import Space, entry_bits
from prong.cell.memory.vma import PROT_EXEC, PROT_READ
from prong.kvm import abi
from prong.kvm.device import Kvm

CODE = bytes.fromhex("8807 4881c700100000 ebf5")
"""``again: mov [rdi], al; add rdi, 4096; jmp again``."""
START = 0x10000000
INTERVAL = 0.00005


def machine() -> Cpu:
    """A virtual CPU about to run CODE, with nothing mapped but that."""
    phys = Physical(64)
    write_supervisor(phys)
    space = Space(phys)
    (frame,) = phys.alloc(1)
    phys.view(frame)[: len(CODE)] = CODE
    space.tables.set(PIE_BASE // PAGE, frame * PAGE | entry_bits(PROT_READ | PROT_EXEC))
    cpu = Cpu(Kvm(), phys, cast(Any, SimpleNamespace(cpu_ns=0)))
    regs = [0] * abi.REGS_COUNT
    regs[abi.RIP], regs[abi.RFLAGS], regs[abi.RDI] = PIE_BASE, 0x202, START
    cpu.put_regs(regs)
    cast(Any, cpu).phys = phys
    return cpu


def run(cpu: Cpu, wanted: int) -> tuple[int, int, int]:
    """Take ``wanted`` faults; after each interrupt where the loop would switch tasks, load the registers again."""
    loop = cast(Loop, SimpleNamespace(cpu=cpu))
    taken = interrupts = wrong = 0
    while taken < wanted:
        try:
            fcntl.ioctl(cpu.fd, abi.KVM_RUN, 0)
        except InterruptedError:
            interrupts += 1
            if Loop._outside_stub(loop):
                cpu.put_regs(cpu.get_regs())
            continue
        assert cpu.run[abi.RUN_IO_PORT] == PORT_VECTOR + faults.PAGE_FAULT
        taken += 1
        frame = faults.read_frame(cast(Any, cpu).phys, faults.PAGE_FAULT)
        regs = cpu.get_regs()
        wrong += cpu.fault_address() != regs[abi.RDI] or frame.rip != PIE_BASE
        regs[abi.RIP], regs[abi.RSP], regs[abi.RFLAGS] = PIE_BASE + 2, frame.rsp, frame.rflags
        cpu.put_regs(regs)
    return taken, interrupts, wrong


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    cpu = machine()
    signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)
    print(*run(cpu, int(sys.argv[1])))
