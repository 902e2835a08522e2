"""Start a program: load it and its dynamic loader, build the stack the psABI describes, and make its first task."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from prong.cell.core.file import File
from prong.cell.kernel import Kernel
from prong.cell.memory.access import Memory
from prong.cell.memory.layout import PAGE, PAGE_MASK, PIE_BASE, STACK_SIZE, STACK_TOP
from prong.cell.memory.vma import PROT_READ, PROT_WRITE
from prong.cell.program import elf
from prong.cell.program.vdso import map_vdso
from prong.cell.task.task import Task
from prong.errors import InvalidInput
from prong.kvm import abi

MAX_ARGS = 1 << 20
"""Bytes of argv and environment together (ARG_MAX is 2 MiB on Linux; half is plenty here)."""

AT_PHDR, AT_PHENT, AT_PHNUM, AT_PAGESZ, AT_BASE, AT_FLAGS, AT_ENTRY = 3, 4, 5, 6, 7, 8, 9
AT_UID, AT_EUID, AT_GID, AT_EGID, AT_PLATFORM, AT_HWCAP, AT_CLKTCK = 11, 12, 13, 14, 15, 16, 17
AT_SECURE, AT_RANDOM, AT_HWCAP2, AT_EXECFN, AT_SYSINFO_EHDR, AT_MINSIGSTKSZ = 23, 25, 26, 31, 33, 51


@dataclass(frozen=True)
class ProgramSpec:
    """What to run: path inside the image, arguments (argv[0] included) and environment, as bytes."""

    path: bytes
    argv: tuple[bytes, ...]
    environ: tuple[bytes, ...]


def start(kernel: Kernel, spec: ProgramSpec, open_file: Callable[[bytes], File], hwcap: int) -> Task:
    """Load ``spec`` into the empty address space of ``kernel`` and return its ready first task.

    Args:
        open_file: opens a path of the cell for reading (raises SysErr).
        hwcap: CPUID leaf 1 edx, for AT_HWCAP.

    Raises:
        BadProgram: not a loadable program. InvalidInput: arguments too long. SysErr: file or memory trouble.
    """
    if sum(len(a) + 9 for a in (*spec.argv, *spec.environ)) > MAX_ARGS:
        raise InvalidInput("arguments and environment are longer than 1 MiB", data={"field": "argv"})
    space, memory = kernel.space, kernel.mem
    assert isinstance(memory, Memory)
    file = open_file(spec.path)
    program = elf.parse(file, os.fsdecode(spec.path))
    bias = elf.load(program, file, space, memory, PIE_BASE)
    vdso = map_vdso(space)
    entry, loader_base = program.entry + bias, 0
    if program.interp is not None:
        loader = open_file(program.interp)
        interp = elf.parse(loader, os.fsdecode(program.interp))
        low, high = interp.span
        at = space.vmas.gap(high - low)
        if at is None:
            raise elf.BadProgram(f"{os.fsdecode(program.interp)} does not fit")
        loader_base = elf.load(interp, loader, space, memory, at)
        entry = interp.entry + loader_base
    space.brk_start = space.brk_end = (program.span[1] + bias + PAGE_MASK) & ~PAGE_MASK
    space.map(STACK_SIZE, PROT_READ | PROT_WRITE, at=STACK_TOP - STACK_SIZE, name="[stack]")
    auxv = {
        AT_SYSINFO_EHDR: vdso,
        AT_PHDR: program.phdr + bias,
        AT_PHENT: 56,
        AT_PHNUM: program.phnum,
        AT_PAGESZ: PAGE,
        AT_BASE: loader_base,
        AT_FLAGS: 0,
        AT_ENTRY: program.entry + bias,
        AT_UID: 0,
        AT_EUID: 0,
        AT_GID: 0,
        AT_EGID: 0,
        AT_HWCAP: hwcap,
        AT_CLKTCK: 100,
        AT_SECURE: 0,
        AT_HWCAP2: 0,
        AT_MINSIGSTKSZ: kernel.cpu.xsave_size + 640,
    }
    task = kernel.sched.create()
    task.name = os.path.basename(spec.path)[:15]
    task.regs[abi.RSP] = _build_stack(memory, spec, auxv)
    task.regs[abi.RIP] = entry
    task.regs[abi.RFLAGS] = 0x202
    kernel.sched.ready.append(task)
    return task


def _build_stack(memory: Memory, spec: ProgramSpec, auxv: dict[int, int]) -> int:
    """Write strings, auxv, environment and arguments below STACK_TOP; returns the stack pointer (16-byte aligned)."""
    at = STACK_TOP - 64

    def push(data: bytes) -> int:
        nonlocal at
        at -= len(data)
        memory.write(at, data)
        return at

    auxv = dict(auxv)
    auxv[AT_EXECFN] = push(spec.path + b"\0")
    auxv[AT_PLATFORM] = push(b"x86_64\0")
    auxv[AT_RANDOM] = push(os.urandom(16))
    envp = [push(e + b"\0") for e in spec.environ]
    argv = [push(a + b"\0") for a in spec.argv]
    words = [len(argv), *argv, 0, *envp, 0]
    for key, value in auxv.items():
        words += [key, value]
    words += [0, 0]
    at = (at - 8 * len(words)) & ~15
    memory.write(at, b"".join(w.to_bytes(8, "little") for w in words))
    return at
