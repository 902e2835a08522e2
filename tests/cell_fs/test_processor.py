"""/proc/cpuinfo is made from CPUID, so that programs which read one and programs which ask the other agree."""

from __future__ import annotations

import struct

from prong.cell.core.cpu import FakeCpu
from prong.cell.fs.proc import processor


def fake(brand: str = "") -> FakeCpu:
    cpu = FakeCpu()
    low, middle, high = struct.unpack("<3I", b"AuthenticAMD")
    cpu.leaves[0, 0] = (13, low, high, middle)  # the text is in ebx, edx, ecx
    cpu.leaves[1, 0] = (0x00A60F12, 0, 1 << 0 | 1 << 9 | 1 << 20, 1 << 0 | 1 << 26)
    cpu.leaves[7, 0] = (1, 1 << 5 | 1 << 16, 1 << 1, 0)
    words = struct.unpack("<12I", brand.encode().ljust(48, b"\0"))
    for i in range(3):
        cpu.leaves[0x80000002 + i, 0] = (words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3])
    return cpu


def test_rows_come_from_cpuid() -> None:
    rows = dict(processor.describe(fake("A Fast Processor ")))
    assert rows["vendor_id"] == "AuthenticAMD"
    assert (rows["cpu family"], rows["model"], rows["stepping"]) == (25, 97, 2)
    assert rows["model name"] == "A Fast Processor"
    assert rows["flags"] == "fpu sse2 pni ssse3 sse4_2 avx2 avx512f avx512vbmi"


def test_a_processor_that_tells_nothing() -> None:
    rows = dict(processor.describe(FakeCpu()))
    assert (rows["vendor_id"], rows["model name"], rows["flags"]) == ("unknown", "prong cell", "")
