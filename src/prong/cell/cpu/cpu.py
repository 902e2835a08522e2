"""The virtual CPU with tasks on it: registers, FPU state, thread pointer, and CPU time."""

from __future__ import annotations

import fcntl
import struct
import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prong.cell.core.cpu import initial_fpu
from prong.cell.cpu.boot import MSRS, user_sregs
from prong.cell.memory.layout import PAGE
from prong.cell.memory.phys import Physical
from prong.kvm import abi
from prong.kvm.device import Kvm, msrs_request, signal_mask_request, xcrs_request

if TYPE_CHECKING:
    from prong.cell.process import Process
    from prong.cell.task.task import Task

SIGALRM_BIT = 1 << 13
SLOT_ROOM = 4096
"""Frames mapped beyond those in use, so that the next allocations need no new slot."""
REGS_AT = abi.RUN_REGS // 8
REGS_END = REGS_AT + abi.REGS_COUNT
DIRTY_AT = abi.RUN_DIRTY_REGS // 8
ALL_DIRTY = abi.SYNC_REGS | abi.SYNC_SREGS
_FS_BASE, _GS_BASE = 72, 96


@dataclass(frozen=True)
class Blueprint:
    """What every vCPU of a :class:`Kvm` is set up with, as ready-made ioctl arguments.

    Made once, in the spawner: a fork that computes nothing touches fewer pages of Python's heap, which is what it costs.
    """

    sregs: bytes
    xcrs: bytes
    msrs: bytes
    signal_mask: bytes
    xfeatures: int
    xsave_size: int

    @classmethod
    def of(cls, kvm: Kvm) -> Blueprint:
        """The blueprint of ``kvm``, made at the first call with the help of a throw-away vCPU."""
        known = kvm.kept.get("blueprint")
        if isinstance(known, cls):
            return known
        vm = kvm.create_vm()
        vcpu = vm.create_vcpu()
        fresh = vcpu.get_sregs()
        vcpu.close()
        vm.close()
        _eax, xsave_size, _ecx, _edx = kvm.leaf(0xD)
        xfeatures = (_eax & 0xE7) or 3
        made = cls(
            sregs=bytes(user_sregs(fresh)),
            xcrs=xcrs_request(xfeatures),
            msrs=bytes(msrs_request(MSRS)),
            signal_mask=signal_mask_request(~SIGALRM_BIT & 0xFFFFFFFFFFFFFFFF),
            xfeatures=xfeatures,
            xsave_size=xsave_size or 576,
        )
        kvm.kept["blueprint"] = made
        return made


class Cpu:
    """A VM with one vCPU over ``phys``, belonging to this process.

    Attributes:
        run: the ``struct kvm_run`` bytes; ``words``: the same as 64-bit words, registers at REGS_AT.
        sregs: what is loaded with ALL_DIRTY to return to the program; holds the thread pointer of the loaded task.
        loaded: the task whose registers and FPU are on the CPU.
        xsave_size: bytes of FPU state.
    """

    def __init__(self, kvm: Kvm, phys: Physical, process: Process) -> None:
        plan = Blueprint.of(kvm)
        self.process = process
        self.phys = phys
        self.vm = kvm.create_vm()
        self._slots = 0
        self._mapped = 0
        self._map_more(phys.top)
        phys.grow = self._map_more
        self.vcpu = self.vm.create_vcpu()
        self.fd = fd = self.vcpu.fd
        self.run = memoryview(self.vcpu.run)
        self.words = self.run.cast("Q")
        self.sregs = bytearray(plan.sregs)
        fcntl.ioctl(fd, abi.KVM_SET_SREGS, plan.sregs)
        fcntl.ioctl(fd, abi.KVM_SET_XCRS, plan.xcrs)
        fcntl.ioctl(fd, abi.KVM_SET_MSRS, plan.msrs)
        fcntl.ioctl(fd, abi.KVM_SET_SIGNAL_MASK, plan.signal_mask)
        self.words[abi.RUN_VALID_REGS // 8] = abi.SYNC_REGS
        self.xfeatures = plan.xfeatures
        self.xsave_size = plan.xsave_size
        self._pad = bytes(abi.XSAVE_SIZE - self.xsave_size)
        self.loaded: Task | None = None
        self._fs = self._gs = 0
        self._since = time.thread_time_ns()

    def _map_more(self, top: int) -> None:
        """Give the VM the guest memory up to frame ``top`` and some more: a slot costs time by its size, so they grow."""
        phys = self.phys
        while self._mapped < top:
            size = max(top - self._mapped + SLOT_ROOM, self._mapped // 2)
            size = min(size, phys.frames - self._mapped)
            at = self._mapped * PAGE
            self.vm.map_memory(self._slots, at, size * PAGE, phys.address + at)
            self._slots += 1
            self._mapped += size
        phys.mapped = self._mapped

    # -- tasks on and off -----------------------------------------------------------------------------------------------

    def load(self, task: Task) -> None:
        """Make ``task`` the one whose FPU state and thread pointers are on the CPU (its general registers stay in it)."""
        if self.loaded is not task:
            self.unload()
            if task.xsave is not None:
                self.vcpu.set_xsave(task.xsave + self._pad)
                task.xsave = None
            self.loaded = task
        self.load_bases(task)

    def load_bases(self, task: Task) -> None:
        """Take over the task's FS and GS bases for the next entry."""
        if task.fs_base != self._fs:
            self._fs = task.fs_base
            struct.pack_into("<Q", self.sregs, _FS_BASE, self._fs)
        if task.gs_base != self._gs:
            self._gs = task.gs_base
            struct.pack_into("<Q", self.sregs, _GS_BASE, self._gs)

    def unload(self) -> None:
        """Save the loaded task's FPU state into it; nobody is loaded afterwards. Its CPU time is booked."""
        if self.loaded is not None:
            self.book()
            self.loaded.xsave = self.vcpu.get_xsave()[: self.xsave_size]
            self.loaded = None

    def put_regs(self, regs: list[int]) -> None:
        """Load all 18 registers and the program's segments for the next entry."""
        self.words[REGS_AT:REGS_END] = array("Q", regs)
        self.enter_user()

    def enter_user(self) -> None:
        """Mark registers and segments to be loaded at the next KVM_RUN."""
        self.run[abi.RUN_SREGS : abi.RUN_SREGS + abi.SREGS_SIZE] = self.sregs
        self.words[DIRTY_AT] = ALL_DIRTY

    def get_regs(self) -> list[int]:
        """The 18 registers as of the last exit."""
        return self.words[REGS_AT:REGS_END].tolist()

    def fault_address(self) -> int:
        """CR2."""
        (cr2,) = struct.unpack_from("<Q", self.vcpu.get_sregs(), 232)
        return int(cr2)

    # -- what handlers may ask (core.cpu.CpuState) ------------------------------------------------------------------------

    def fpu_get(self, task: Task) -> bytes:
        """The task's FPU state, XSAVE standard format, ``xsave_size`` bytes."""
        if task is self.loaded:
            return self.vcpu.get_xsave()[: self.xsave_size]
        return initial_fpu(self.xsave_size) if task.xsave is None else task.xsave

    def fpu_set(self, task: Task, data: bytes) -> None:
        """Replace the task's FPU state; ``data`` must satisfy the XRSTOR rules (OSError otherwise)."""
        if task is self.loaded:
            self.vcpu.set_xsave(data + self._pad)
        else:
            task.xsave = data

    def cpu_time(self, task: Task | None) -> int:
        """CPU time in ns of one task, or (None) of the process, the running slice included."""
        running = time.thread_time_ns() - self._since if self.loaded is not None else 0
        if task is None:
            return self.process.cpu_ns + running
        return task.cpu_ns + (running if task is self.loaded else 0)

    def cpuid(self, leaf: int, index: int = 0) -> tuple[int, int, int, int]:
        """(eax, ebx, ecx, edx) of what the vCPU was given."""
        return self.vm.kvm.leaf(leaf, index)

    def book(self) -> None:
        """Book the CPU time since the last booking to the process and the loaded task."""
        now = time.thread_time_ns()
        spent, self._since = now - self._since, now
        if self.loaded is not None:
            self.loaded.cpu_ns += spent
            self.process.cpu_ns += spent

    def skip_time(self) -> None:
        """Forget time spent outside the program (idle, host work)."""
        self._since = time.thread_time_ns()

    def close(self) -> None:
        """Destroy the VM."""
        self.words.release()
        self.run.release()
        self.vcpu.close()
        self.vm.close()
