"""What /proc/cpuinfo says of the processor: what its CPUID says, in Linux' words.

Programs that choose their code by CPUID and those that read the file must come to the same choice. Names are those of
Linux' ``cpufeatures.h``; bits those of Intel SDM volume 2, CPUID, and AMD's APM volume 3, appendix E.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prong.cell.core.cpu import CpuState

EAX, EBX, ECX, EDX = range(4)

_FLAGS: tuple[tuple[int, int, int, dict[int, str]], ...] = (
    (1, 0, EDX, {0: "fpu", 4: "tsc", 8: "cx8", 15: "cmov", 19: "clflush", 23: "mmx", 24: "fxsr", 25: "sse", 26: "sse2"}),
    (0x80000001, 0, EDX, {11: "syscall", 20: "nx", 22: "mmxext", 25: "fxsr_opt", 26: "pdpe1gb", 27: "rdtscp", 29: "lm"}),
    (0x80000007, 0, EDX, {8: "nonstop_tsc"}),
    (1, 0, ECX, {0: "pni", 1: "pclmulqdq", 9: "ssse3", 12: "fma", 13: "cx16", 19: "sse4_1", 20: "sse4_2", 22: "movbe",
                 23: "popcnt", 25: "aes", 26: "xsave", 28: "avx", 29: "f16c", 30: "rdrand", 31: "hypervisor"}),
    (0x80000001, 0, ECX, {0: "lahf_lm", 5: "abm", 6: "sse4a", 7: "misalignsse", 8: "3dnowprefetch", 11: "xop", 16: "fma4",
                          21: "tbm"}),
    (7, 0, EBX, {0: "fsgsbase", 3: "bmi1", 4: "hle", 5: "avx2", 8: "bmi2", 9: "erms", 11: "rtm", 16: "avx512f",
                 17: "avx512dq", 18: "rdseed", 19: "adx", 21: "avx512ifma", 23: "clflushopt", 24: "clwb", 26: "avx512pf",
                 27: "avx512er", 28: "avx512cd", 29: "sha_ni", 30: "avx512bw", 31: "avx512vl"}),
    (0xD, 1, EAX, {0: "xsaveopt", 1: "xsavec", 2: "xgetbv1"}),
    (7, 1, EAX, {4: "avx_vnni", 5: "avx512_bf16", 23: "avx_ifma"}),
    (0x80000008, 0, EBX, {0: "clzero"}),
    (7, 0, ECX, {1: "avx512vbmi", 6: "avx512_vbmi2", 8: "gfni", 9: "vaes", 10: "vpclmulqdq", 11: "avx512_vnni",
                 12: "avx512_bitalg", 14: "avx512_vpopcntdq", 22: "rdpid"}),
    (7, 0, EDX, {2: "avx512_4vnniw", 3: "avx512_4fmaps", 4: "fsrm", 8: "avx512_vp2intersect", 14: "serialize",
                 23: "avx512_fp16"}),
)  # fmt: skip


def flags(cpu: CpuState) -> Iterator[str]:
    """The features that CPUID tells, in the order Linux lists them."""
    for leaf, index, register, names in _FLAGS:
        bits = cpu.cpuid(leaf, index)[register]
        yield from (name for bit, name in names.items() if bits >> bit & 1)


def describe(cpu: CpuState) -> list[tuple[str, object]]:
    """The rows of one processor: (name, value)."""
    family, model, stepping = _signature(cpu.cpuid(1)[EAX])
    _, low, high, middle = cpu.cpuid(0)
    brand = [word for leaf in (0x80000002, 0x80000003, 0x80000004) for word in cpu.cpuid(leaf)]
    return [
        ("processor", 0),
        ("vendor_id", _text((low, middle, high)) or "unknown"),
        ("cpu family", family),
        ("model", model),
        ("model name", _text(brand) or "prong cell"),
        ("stepping", stepping),
        ("cpu MHz", "2000.000"),
        ("cache size", "1024 KB"),
        ("physical id", 0),
        ("siblings", 1),
        ("core id", 0),
        ("cpu cores", 1),
        ("fpu", "yes"),
        ("wp", "yes"),
        ("flags", " ".join(flags(cpu))),
        ("bogomips", "4000.00"),
        ("clflush size", 64),
        ("cache_alignment", 64),
    ]


def _signature(word: int) -> tuple[int, int, int]:
    """Family, model, stepping of leaf 1's EAX (Intel SDM volume 2, CPUID, "Version Information")."""
    family, model = word >> 8 & 15, word >> 4 & 15
    if family in (6, 15):
        model |= word >> 12 & 0xF0
    if family == 15:
        family += word >> 20 & 0xFF
    return family, model, word & 15


def _text(words: list[int] | tuple[int, ...]) -> str:
    raw = b"".join(word.to_bytes(4, "little") for word in words)
    return raw.split(b"\0", 1)[0].decode("latin-1").strip()
