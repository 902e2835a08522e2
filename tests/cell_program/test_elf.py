"""The ELF loader: real programs load; every mutation of one is either loaded or refused, quickly, and nothing else."""

from __future__ import annotations

import os
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prong.cell.core.errors import SysErr
from prong.cell.core.file import File
from prong.cell.kernel import Kernel
from prong.cell.memory.layout import PIE_BASE, STACK_TOP, TASK_SIZE
from prong.cell.program import elf
from prong.cell.program.elf import BadProgram
from prong.cell.program.start import ProgramSpec, start
from prong.errors import InvalidInput
from tests.cell_memory.rig import make_kernel

ROUNDS = int(os.environ.get("PRONG_FUZZ_ROUNDS", "1500"))
REAL = [Path(p) for p in ("/bin/true", "/bin/cat", "/usr/bin/python3.11", "/lib64/ld-linux-x86-64.so.2") if Path(p).exists()]


class Bytes(File):
    """A file of bytes that counts what is read from it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self.data = data

    def pread(self, size: int, offset: int) -> bytes:
        assert 0 <= size <= 1 << 20, "the loader asks for bounded parts"
        return self.data[offset : offset + size]

    def fill(self, offset: int, view: memoryview) -> None:
        part = self.data[offset : offset + len(view)]
        view[: len(part)] = part

    def map_size(self) -> int:
        return len(self.data)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    made = make_kernel(tmp_path)
    yield made
    made.space.phys.close()


def tiny(
    *,
    kind: int = 2,
    machine: int = 62,
    entry: int = 0x400078,
    loads: tuple[tuple[int, ...], ...] = ((5, 0, 0x400000, 0x1000, 0x1000),),
) -> bytes:
    """A minimal executable with these PT_LOADs: (flags, offset, address, file size, memory size)."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = struct.pack("<16sHHIQQQIHHHHHH", ident, kind, machine, 1, entry, 64, 0, 0, 64, 56, len(loads), 0, 0, 0)
    table = b"".join(struct.pack("<IIQQQQQQ", 1, f, o, a, a, fs, ms, 0x1000) for f, o, a, fs, ms in loads)
    return (head + table).ljust(0x1000, b"\x90")


def load(kernel: Kernel, data: bytes) -> int:
    file = Bytes(data)
    return elf.load(elf.parse(file, "x"), file, kernel.space, kernel.mem, PIE_BASE)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", REAL, ids=lambda p: p.name)
def test_real_programs(kernel: Kernel, path: Path) -> None:
    data = path.read_bytes()
    program = elf.parse(Bytes(data), path.name)
    bias = load(kernel, data)
    assert kernel.mem.read(program.phdr + bias, 56 * program.phnum) == data[64 : 64 + 56 * program.phnum]
    for segment in program.segments:
        got = kernel.mem.read(segment.address + bias, segment.memory_size)
        assert got[: segment.file_size] == data[segment.offset : segment.offset + segment.file_size]
        assert not any(got[segment.file_size :]), "bss is zero"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!/bin/sh\n",
        b"\x7fELF",
        tiny()[:63],
        tiny()[:100],
        tiny(machine=3),
        tiny(kind=1),
        tiny(loads=()),
        tiny(loads=((5, 0, 0, 0x1000, 0x1000),)),
        tiny(loads=((5, 0, 0x400000, 0x2000, 0x1000),)),
        tiny(loads=((5, 1, 0x400000, 0x1000, 0x1000),)),
        tiny(loads=((5, 0, TASK_SIZE, 0x1000, 0x1000),)),
        tiny(loads=((5, 0, (1 << 64) - 0x1000, 0x1000, 0x1000),)),
        tiny(loads=((5, 0, 0x400000, 0x1000, 1 << 62),)),
        tiny(loads=((5, 1 << 62, 0x400000, 0x1000, 0x1000),)),
        tiny(loads=((5, 0, 0x400000, 0x1000, 0x1000), (5, 0, 1 << 45, 0x1000, 0x1000))),
        tiny(loads=((5, 0, 0x400000, 0x1000, 0x1000),) * 200),
    ],
)
def test_refused_programs(kernel: Kernel, data: bytes) -> None:
    with pytest.raises(BadProgram) as caught:
        load(kernel, data)
    assert "x" in caught.value.message


def test_overlapping_segments_replace_each_other(kernel: Kernel) -> None:
    load(kernel, tiny(loads=((7, 0, 0x400000, 0x1000, 0x3000), (7, 0, 0x401000, 0x800, 0x1000))))
    assert kernel.mem.read(0x401000, 4) == b"\x7fELF"


def mutate(rng: random.Random, data: bytearray) -> None:
    """Damage headers mostly: bytes, words set to interesting values, words swapped."""
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(0, min(len(data), 64 + 56 * 12))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                value = rng.choice(
                    [0, 1, 0xFFF, 0x1000, 1 << 31, (1 << 32) - 1, 1 << 46, 1 << 47, 1 << 63, (1 << 64) - 1, TASK_SIZE]
                )
                at &= ~7
                data[at : at + 8] = struct.pack("<Q", value)
            case 2:
                other = rng.randrange(0, 700) & ~7
                data[at & ~7 : (at & ~7) + 8], data[other : other + 8] = (
                    data[other : other + 8],
                    data[at & ~7 : (at & ~7) + 8],
                )
            case 3:
                del data[rng.randrange(1, len(data)) :]
                return


@pytest.mark.parametrize("seed", range(4))
def test_mutations(tmp_path: Path, seed: int) -> None:
    """Only BadProgram or SysErr comes out, no mutation takes long or takes more memory than the cell has."""
    rng = random.Random(seed)
    originals = [p.read_bytes()[: 1 << 20] for p in REAL] + [tiny()]
    outcomes = {"loaded": 0, "refused": 0}
    for round_ in range(ROUNDS // 4):
        data = bytearray(rng.choice(originals))
        mutate(rng, data)
        kernel = make_kernel(tmp_path)
        started = time.monotonic()
        try:
            load(kernel, bytes(data))
            outcomes["loaded"] += 1
        except (BadProgram, SysErr):
            outcomes["refused"] += 1
        assert time.monotonic() - started < 20, f"seed {seed} round {round_}"
        assert kernel.space.phys.used <= kernel.space.phys.frames
        kernel.space.phys.close()
    assert outcomes["loaded"] and outcomes["refused"]


def test_the_stack_is_as_the_abi_says(kernel: Kernel) -> None:
    """psABI 3.4.1: argc, argv, NULL, envp, NULL, auxv pairs, AT_NULL; the stack pointer is 16-byte aligned."""
    spec = ProgramSpec(b"/bin/tiny", (b"tiny", b"", b"\xff arg"), (b"A=1", b"B="))
    task = start(kernel, spec, lambda _: Bytes(tiny()), 0x1234)
    at = sp = task.regs[6]
    assert sp % 16 == 0 and sp < STACK_TOP
    mem = kernel.mem

    def word() -> int:
        nonlocal at
        at += 8
        return mem.u64(at - 8)

    assert word() == 3
    assert [mem.cstr(word()) for _ in range(3)] == [b"tiny", b"", b"\xff arg"]
    assert word() == 0
    assert [mem.cstr(word()) for _ in range(2)] == [b"A=1", b"B="]
    assert word() == 0
    auxv: dict[int, int] = {}
    while key := word():
        auxv[key] = word()
    assert word() == 0
    assert auxv[6] == 4096 and auxv[9] == 0x400078 and auxv[3] == 0x400040 and auxv[5] == 1 and auxv[16] == 0x1234
    assert mem.cstr(auxv[31]) == b"/bin/tiny" and mem.cstr(auxv[15]) == b"x86_64"
    assert len(mem.read(auxv[25], 16)) == 16
    assert task.regs[16] == 0x400078


def test_too_many_arguments(kernel: Kernel) -> None:
    with pytest.raises(InvalidInput):
        start(kernel, ProgramSpec(b"/x", (b"a" * (1 << 20), b"b"), ()), lambda _: Bytes(tiny()), 0)


def test_a_loader_that_names_itself_or_nothing(kernel: Kernel) -> None:
    """The dynamic loader's own PT_INTERP is not followed: no chain, no loop."""
    data = bytearray(tiny(kind=3, loads=((5, 0, 0, 0x1000, 0x1000), (4, 0x800, 0x800, 8, 8))))
    struct.pack_into("<I", data, 64 + 56, 3)
    data[0x800:0x808] = b"/self\0\0\0"
    opened: list[bytes] = []

    def open_file(path: bytes) -> File:
        opened.append(path)
        return Bytes(bytes(data))

    start(kernel, ProgramSpec(b"/x", (b"x",), ()), open_file, 0)
    assert opened == [b"/x", b"/self"]
