"""Keep the vDSO's data page right: pair the guest's time-stamp counter with the cell's clocks, about once a second.

The page says how to get from the counter to time: time at an *anchor*, and nanoseconds per count. The truth stays
:class:`~prong.cell.task.clock.Clock`; each new anchor takes the page back to it. Where the page has run ahead of the
clock (by the microseconds that pairing the two cannot do better) the new anchor starts at what the page says and its
rate is lowered so that the lead is gone within a second: monotonic time never goes back. A page that is taken out of use
leaves no lead behind: the clock is put forward instead.

Where the counter cannot be used (:func:`counter_khz`) the page stays not valid, and every call is a system call.
"""

from __future__ import annotations

import fcntl
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prong.cell.cpu.boot import MSRS, user_sregs, write_supervisor
from prong.cell.memory.layout import PAGE, PIE_BASE, PORT_SYSCALL
from prong.cell.memory.phys import Physical
from prong.cell.memory.space import Space, entry_bits
from prong.cell.memory.vma import PROT_EXEC, PROT_READ
from prong.kvm import abi

if TYPE_CHECKING:
    from prong.cell.task.clock import Clock
    from prong.kvm.device import Kvm, Vcpu

SECOND = 1_000_000_000
INTERVAL = SECOND
"""Nanoseconds an anchor is good for."""
SHORTEST_BASELINE = SECOND // 4
"""Nanoseconds between two anchors that are enough to measure the counter's rate."""
OFF_LIMITS = 0.001
"""Deviation of a measured rate from the nominal one that no clock discipline explains (NTP slews by 0.05 %)."""
QUICK = 12_000
"""Nanoseconds within which a reading of the counter is taken as undisturbed."""
TRIES = 4
_STEP = 5_000
"""Differences of real and monotonic time this small, in ns, are noise of reading two clocks one after the other."""

_LATEST = 1 << 62
"""Real time in ns from when on the page is not used."""

_PAGE = struct.Struct("<IIQQQQ")
"""See ``program.vdsocode``: sequence, valid, counter, rate, monotonic and real nanoseconds."""

CLOCKSOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_STEADY_SOURCES = frozenset(("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "xen"))
"""What the host kernel itself tells time from where it found the counter steady and alike on all processors."""
_POWER_LEAF, _INVARIANT_TSC = 0x80000007, 1 << 8
_PROBE = bytes.fromhex("0faee8 0f31 0f05")
"""``lfence; rdtsc; syscall``."""


def counter_khz(kvm: Kvm) -> int:
    """Frequency in kHz of the time-stamp counter that programs in VMs of ``kvm`` read, or 0 if it does not tell time.

    It does if it counts at a constant rate, the host kernel trusts it, and ``rdtsc`` in a guest reads what KVM says the
    guest reads; the last is tried out. The answer is kept in ``kvm``: a process that jails itself asks before.
    """
    if kvm.counter_khz is None:
        kvm.counter_khz = _measure(kvm)
    return kvm.counter_khz


def _measure(kvm: Kvm) -> int:
    if not kvm.leaf(_POWER_LEAF)[3] & _INVARIANT_TSC:
        return 0
    try:
        if CLOCKSOURCE.read_text().strip() not in _STEADY_SOURCES:
            return 0
        return _try_out(kvm)
    except OSError:  # no sysfs, or a KVM without these ioctls: then there is no time to be had this way
        return 0


def _try_out(kvm: Kvm) -> int:
    """Have a throw-away guest read the counter between two readings of ours."""
    phys = Physical(32)
    write_supervisor(phys)
    space = Space(phys)
    (frame,) = phys.alloc(1)
    phys.view(frame)[: len(_PROBE)] = _PROBE
    space.tables.set(PIE_BASE // PAGE, frame * PAGE | entry_bits(PROT_READ | PROT_EXEC))
    vm = kvm.create_vm()
    vm.map_memory(0, 0, phys.size, phys.address)
    vcpu = vm.create_vcpu()
    try:
        vcpu.set_sregs(user_sregs(vcpu.get_sregs()))
        vcpu.set_msrs(MSRS)
        khz = vcpu.tsc_khz()
        before = vcpu.get_msr(abi.MSR_TSC)
        counter = _run_probe(vcpu)
        return khz if before <= counter <= vcpu.get_msr(abi.MSR_TSC) else 0
    finally:
        vcpu.close()
        vm.close()
        phys.close()


def _run_probe(vcpu: Vcpu) -> int:
    """What the guest's ``rdtsc`` gave; -1 if it did not come that far."""
    regs = [0] * abi.REGS_COUNT
    regs[abi.RIP], regs[abi.RFLAGS] = PIE_BASE, 2
    fcntl.ioctl(vcpu.fd, abi.KVM_SET_REGS, struct.pack("<18Q", *regs))
    vcpu.run[abi.RUN_VALID_REGS] = abi.SYNC_REGS
    fcntl.ioctl(vcpu.fd, abi.KVM_RUN, 0)
    if vcpu.run[abi.RUN_EXIT_REASON] != abi.EXIT_IO or vcpu.run[abi.RUN_IO_PORT] != PORT_SYSCALL:
        return -1
    regs = list(struct.unpack_from("<18Q", vcpu.run, abi.RUN_REGS))
    return regs[abi.RDX] << 32 | regs[abi.RAX]


class TimePage:
    """The data page of one running cell. Nothing of it is saved: :meth:`suspend` comes before any copy of the memory.

    Attributes:
        due: host monotonic time (ns) from when :meth:`refresh` has something to do.
        valid: the page is in use.
    """

    def __init__(self, space: Space, clock: Clock, vcpu: Vcpu, kvm: Kvm) -> None:
        self.space = space
        self.clock = clock
        self.vcpu = vcpu
        khz = counter_khz(kvm)
        self.nominal = (1_000_000 << 32) // khz if khz else 0
        self.due = 0
        self.valid = False
        self._rate = self._used_rate = self.nominal
        self._counter = self._host_time = self._base = self._ahead = 0
        clock.on_set = self.anchor

    def refresh(self) -> None:
        """Re-anchor if it is time to."""
        if time.monotonic_ns() >= self.due:
            self.anchor()

    def anchor(self) -> None:
        """Make the page agree with the clock now; without a usable counter or a page this does nothing."""
        if not self.nominal or self.space.vvar_frame is None:
            self.due = 1 << 63
            return
        counter, host_time = self._sample()
        sane = self._learn_rate(counter, host_time)
        truth = host_time + self.clock.offset
        lead = self._told(counter) - truth if self.valid else 0
        self._counter, self._host_time = counter, host_time
        self.due = host_time + INTERVAL
        ahead = self.clock.realtime() - self.clock.monotonic()
        if abs(ahead - self._ahead) > _STEP:
            self._ahead = ahead
        if not sane or not 0 <= truth + self._ahead < _LATEST:
            self._withdraw(lead)
            return
        lead = max(lead, 0)
        self._base = truth + lead
        self._used_rate = self._rate - self._rate * min(lead, SECOND // 2) // SECOND
        self.valid = True
        self._write()

    def suspend(self) -> None:
        """Take the page out of use until the next :meth:`refresh`: the memory is about to be copied, or the VM to go."""
        self.due = 0
        if self.valid:
            counter, host_time = self._sample()
            self._withdraw(self._told(counter) - host_time - self.clock.offset)

    def _withdraw(self, lead: int) -> None:
        """Not valid from here on; the clock takes over where the page was."""
        if lead > 0:
            self.clock.offset += lead
        self.valid = False
        self._write()

    def _told(self, counter: int) -> int:
        """The monotonic time that the page gives at a counter value."""
        return self._base + (max(counter - self._counter, 0) * self._used_rate >> 32)

    def _sample(self) -> tuple[int, int]:
        """The guest's counter and host monotonic time (ns) of the same moment, the least disturbed of a few readings."""
        best = (1 << 63, 0, 0)
        for _ in range(TRIES):
            start = time.monotonic_ns()
            counter = self.vcpu.get_msr(abi.MSR_TSC)
            end = time.monotonic_ns()
            best = min(best, (end - start, counter, (start + end) // 2))
            if best[0] < QUICK:
                break
        return best[1], best[2]

    def _learn_rate(self, counter: int, host_time: int) -> bool:
        """Measure nanoseconds per count since the last anchor; False if they make no sense.

        They do not after the host slept, or was moved: its clock stood and the counter went on, or the other way round.
        """
        elapsed, counted = host_time - self._host_time, counter - self._counter
        if not self._host_time or elapsed < SHORTEST_BASELINE:
            return True
        rate = (elapsed << 32) // counted if counted > 0 else 0
        if abs(rate - self.nominal) > self.nominal * OFF_LIMITS:
            self._rate = self.nominal
            return False
        self._rate = rate
        return True

    def _write(self) -> None:
        frame = self.space.vvar_frame
        assert frame is not None
        # From the page itself: it must go on over forks and snapshots, for readers that were interrupted before them.
        # Should the program have made the page its own and written it, it fools nobody else.
        seq = self.space.phys.words[frame * PAGE // 8] + 2 & 0xFFFFFFFE
        real = self._base + self._ahead if self.valid else 0
        values = (self._counter, self._used_rate, self._base, real) if self.valid else (0, 0, 0, 0)
        _PAGE.pack_into(self.space.phys.bytes, frame * PAGE, seq, int(self.valid), *values)
