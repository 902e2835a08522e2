"""Does KVM really run a guest here? Answered by running one."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import mmap
import struct
from dataclasses import dataclass

from prong.errors import HostUnfit
from prong.kvm import abi
from prong.kvm.device import Kvm, Seg

_CODE = bytes.fromhex("48ffc0e610")
"""``inc rax; out 0x10, al``: proof that an instruction ran."""


@dataclass(frozen=True)
class Verdict:
    """``usable`` if a 64-bit guest ran an instruction and left through a port; else ``reason`` and ``hint`` say why not."""

    usable: bool
    reason: str
    hint: str = ""


@functools.cache
def kvm_verdict() -> Verdict:
    """Run three guest instructions in a throw-away VM and report; the answer is kept for the life of the process."""
    try:
        kvm = Kvm()
    except HostUnfit as e:
        return Verdict(False, e.message, e.hint)
    try:
        if kvm.extension(abi.CAP_SYNC_REGS) & 3 != 3:
            return Verdict(False, "KVM lacks KVM_CAP_SYNC_REGS", "use a newer Linux kernel")
        return _run_guest(kvm)
    except OSError as e:
        return Verdict(False, f"KVM refused to run a guest: {e}", "see `prong doctor`")
    finally:
        kvm.close()


def _run_guest(kvm: Kvm) -> Verdict:
    memory = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at, value in ((0x1000, 0x2003), (0x2000, 0x3003), (0x3000, 0x83)):
        struct.pack_into("<Q", memory, at, value)
    memory[0x8000 : 0x8000 + len(_CODE)] = _CODE
    vm = kvm.create_vm()
    anchor = ctypes.c_char.from_buffer(memory)
    vm.map_memory(0, 0, len(memory), ctypes.addressof(anchor))
    vcpu = vm.create_vcpu()
    try:
        sregs = vcpu.get_sregs()
        code, data = Seg(0x8, 11, long=True), Seg(0x10, 3, big=True)
        for i, seg in enumerate((code, data, data, data, data, data)):
            sregs[24 * i : 24 * i + 24] = seg.pack()
        struct.pack_into("<QQQQQQ", sregs, 224, 0x80050033, 0, 0x1000, 0x620, 0, 0xD01)
        vcpu.set_sregs(sregs)
        regs = [0] * abi.REGS_COUNT
        regs[abi.RAX], regs[abi.RIP], regs[abi.RFLAGS] = 41, 0x8000, 2
        fcntl.ioctl(vcpu.fd, abi.KVM_SET_REGS, struct.pack("<18Q", *regs))
        vcpu.run[abi.RUN_VALID_REGS] = abi.SYNC_REGS
        fcntl.ioctl(vcpu.fd, abi.KVM_RUN, 0)
        reason = vcpu.run[abi.RUN_EXIT_REASON]
        (rax,) = struct.unpack_from("<Q", vcpu.run, abi.RUN_REGS)
    finally:
        vcpu.close()
        vm.close()
        del anchor
        memory.close()
    if reason != abi.EXIT_IO or rax != 42:
        return Verdict(False, f"KVM ran a guest wrongly (exit reason {reason})", "use a newer Linux kernel")
    return Verdict(True, "KVM runs guests")
