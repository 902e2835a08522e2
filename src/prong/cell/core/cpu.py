"""What the kernel layer asks of the virtual CPU: floating-point state and CPU time; and a fake for unit tests."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prong.cell.task.task import Task

XSAVE_LEGACY, XSAVE_HEADER = 512, 64
"""Bytes of the legacy region and of the header of an XSAVE area (Intel SDM volume 1, 13.4)."""


class CpuState(Protocol):
    """The CPU context that is not in ``task.regs``.

    xsave_size: bytes of an XSAVE area in standard (not compacted) format with all of ``xfeatures``.
    xfeatures: the state components the program may use, as in XCR0; bits 0 (x87) and 1 (SSE) are always set.
    """

    @property
    def xsave_size(self) -> int:
        """Bytes of an XSAVE area."""
        ...

    @property
    def xfeatures(self) -> int:
        """Enabled state components, a bit mask as in XCR0."""
        ...

    def fpu_get(self, task: Task) -> bytes:
        """The task's XSAVE area: ``xsave_size`` bytes, standard format."""
        ...

    def fpu_set(self, task: Task, data: bytes) -> None:
        """Replace it; ``data`` is ``xsave_size`` bytes that satisfy the XRSTOR rules (the caller has checked them)."""
        ...

    def cpu_time(self, task: Task | None) -> int:
        """CPU time used in nanoseconds, by one task or (None) by the whole process, the running slice included."""
        ...

    def cpuid(self, leaf: int, index: int = 0) -> tuple[int, int, int, int]:
        """(eax, ebx, ecx, edx) as the program's ``cpuid`` gives them; zeros for a leaf there is not."""
        ...


def initial_fpu(size: int) -> bytes:
    """The XSAVE area of a thread that has not used the FPU, ``size`` bytes: control words at their reset values.

    x87 and SSE are marked as present, because with standard-format XRSTOR (and KVM_SET_XSAVE) MXCSR is only taken then.
    """
    area = bytearray(size)
    struct.pack_into("<H", area, 0, 0x37F)
    struct.pack_into("<I", area, 24, 0x1F80)
    area[XSAVE_LEGACY] = 3
    return bytes(area)


class FakeCpu:
    """A :class:`CpuState` without a CPU: areas in a dictionary, CPU time as told. For unit tests."""

    def __init__(self, xsave_size: int = 832, xfeatures: int = 7) -> None:
        self.xsave_size = xsave_size
        self.xfeatures = xfeatures
        self.areas: dict[int, bytes] = {}
        self.times: dict[int, int] = {}
        self.leaves: dict[tuple[int, int], tuple[int, int, int, int]] = {}

    def fpu_get(self, task: Task) -> bytes:
        """The area set before, or the initial one."""
        return self.areas.get(task.tid) or initial_fpu(self.xsave_size)

    def fpu_set(self, task: Task, data: bytes) -> None:
        """Remember; ValueError for what a real CPU would refuse."""
        features, compact = struct.unpack_from("<QQ", data, XSAVE_LEGACY)
        if len(data) != self.xsave_size or features & ~self.xfeatures or compact or any(data[528:576]):
            raise ValueError("not a valid XSAVE area")
        self.areas[task.tid] = bytes(data)

    def cpu_time(self, task: Task | None) -> int:
        """What ``times`` says, in total for None."""
        return sum(self.times.values()) if task is None else self.times.get(task.tid, 0)

    def cpuid(self, leaf: int, index: int = 0) -> tuple[int, int, int, int]:
        """What ``leaves`` says."""
        return self.leaves.get((leaf, index), (0, 0, 0, 0))
