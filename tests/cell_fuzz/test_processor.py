"""Hostile machine code at privilege level 3: wild registers, port writes, privileged and reserved instructions, noise.

Each case runs in its own fork. The program may end by a signal or be stopped by its time limit; its host must live to tell.
"""

from __future__ import annotations

import os
import random
import struct

import pytest

from prong.cell.engine import Cell, Template

pytestmark = pytest.mark.kvm

ROUNDS = int(os.environ.get("PRONG_FUZZ_ROUNDS", "150"))
ONLY = os.environ.get("PRONG_FUZZ_SEED")

RUN = """
import ctypes, mmap, threading, time
code = mmap.mmap(-1, 8192, prot=7)
code.write({code!r})
at = ctypes.addressof(ctypes.c_char.from_buffer(code))
threading.Thread(target=lambda: [time.sleep(0.001) for _ in range(1000)], daemon=True).start()
for _ in range({times}):
    ctypes.CFUNCTYPE(ctypes.c_long)(at)()
"""

WILD = [
    0,
    1,
    0x7FFFFFFF0000,
    0x7FFFFFFF4000,
    0x7FFFFFFF5000,
    0x7FFFFFFF5FC0,
    0x7FFFFFFFFFFF,
    1 << 47,
    0xFFFF800000000000,
    (1 << 64) - 1,
    0x1000,
]
WILD += [0x8000000000001000, 1 << 63, 0x400000, 0x23, 0x1B]


def mov(register: int, value: int) -> bytes:
    """``mov r64, imm64``: rax 0, rcx 1, rdx 2, rbx 3, rsp 4, rbp 5, rsi 6, rdi 7, r8…r15."""
    return bytes((0x48 | register >> 3, 0xB8 | register & 7)) + struct.pack("<Q", value)


OUT = [bytes((0xE6, port)) for port in (0x10, *range(0x20, 0x40), 0x11, 0x60, 0x80, 0xFF)] + [
    bytes((0xE7, 0x10)),
    bytes((0xE7, 0x2E)),
]
"""``out imm8, al`` and ``out imm8, eax``: the ports of the stubs, and others."""
SPECIAL = {
    "in": b"\xe4\x10",
    "in eax": b"\xe5\x2e",
    "out dx": b"\x66\xba\x10\x00\xee",
    "out dx eax": b"\x66\xba\x2e\x00\xef",
    "out dx ax": b"\x66\xba\x3f\x00\x66\xef",
    "insb": b"\x66\xba\x10\x00\x6c",
    "outsb": b"\x66\xba\x10\x00\x6e",
    "rep insb": mov(1, 1 << 20) + b"\x66\xba\x20\x00\xf3\x6c",
    "rep outsb": mov(1, (1 << 62) + 5) + b"\x66\xba\x10\x00\xf3\x6e",
    "rep outsd": mov(1, 4096) + b"\x66\xba\x2e\x00\xf3\x6f",
    "hlt": b"\xf4",
    "cli": b"\xfa",
    "sti": b"\xfb",
    "ud2": b"\x0f\x0b",
    "int3": b"\xcc",
    "int1": b"\xf1",
    "int 4": b"\xcd\x04",
    "int 0x80": b"\xcd\x80",
    "int 2": b"\xcd\x02",
    "int 8": b"\xcd\x08",
    "int 14": b"\xcd\x0e",
    "int 0x20": b"\xcd\x20",
    "iretq": b"\x48\xcf",
    "sysretq": b"\x48\x0f\x07",
    "sysexit": b"\x0f\x35",
    "sysenter": b"\x0f\x34",
    "swapgs": b"\x0f\x01\xf8",
    "lgdt": b"\x0f\x01\x10",
    "lidt": b"\x0f\x01\x18",
    "sgdt": b"\x48\x83\xec\x20\x0f\x01\x04\x24\x48\x83\xc4\x20",
    "ltr": b"\x0f\x00\xd8",
    "lldt": b"\x0f\x00\xd0",
    "rdmsr": b"\x0f\x32",
    "wrmsr": mov(1, 0xC0000082) + b"\x0f\x30",
    "rdpmc": b"\x0f\x33",
    "mov cr0": b"\x0f\x22\xc0",
    "mov from cr3": b"\x0f\x20\xd8",
    "mov dr7": b"\x0f\x23\xf8",
    "clts": b"\x0f\x06",
    "invd": b"\x0f\x08",
    "invlpg": b"\x0f\x01\x38",
    "xsetbv": b"\x0f\x01\xd1",
    "vmcall": b"\x0f\x01\xc1",
    "vmmcall": b"\x0f\x01\xd9",
    "vmlaunch": b"\x0f\x01\xc2",
    "monitor": b"\x0f\x01\xc8",
    "mwait": b"\x0f\x01\xc9",
    "rsm": b"\x0f\xaa",
    "wrfsbase": b"\xf3\x48\x0f\xae\xd0",
    "far call": b"\xff\x1c\x24",
    "far jump kernel": b"\x48\x83\xec\x10\xc7\x44\x24\x08\x08\x00\x00\x00\x48\xff\x6c\x24\x00",
    "mov ss 0": b"\x31\xc0\x8e\xd0",
    "mov ss kernel": b"\x66\xb8\x10\x00\x8e\xd0",
    "mov ds tss": b"\x66\xb8\x28\x00\x8e\xd8",
    "mov fs user": b"\x66\xb8\x1b\x00\x8e\xe0",
    "popf all": mov(0, 0xFFFFFFFF) + b"\x50\x9d",
    "popf tf": mov(0, 0x302) + b"\x50\x9d\x90\x90\x90",
    "popf ac": mov(0, 0x40202) + b"\x50\x9d\x8b\x04\x25\x01\x00\x00\x00",
    "popf iopl": mov(0, 0x3202) + b"\x50\x9d\xfa\xe6\x80",
    "popf nt": mov(0, 0x4202) + b"\x50\x9d\x48\xcf",
    "popf df": mov(0, 0x602) + b"\x50\x9d\xc3",
    "div 0": b"\x31\xc9\xf7\xf1",
    "fld garbage": b"\xdb\xe3\xd9\xee\xd9\xe8\xde\xf1\x9b",
    "ldmxcsr bad": b"\xc7\x44\x24\xf8\xff\xff\xff\xff\x0f\xae\x54\x24\xf8",
    "cpuid loop": b"\xb9\x00\x20\x00\x00\x51\x31\xc0\x0f\xa2\x59\xff\xc9\x75\xf6\xc3",
    "rdtscp": b"\x0f\x01\xf9\xc3",
    "rdrand": b"\x48\x0f\xc7\xf0\xc3",
    "rsp odd": mov(4, 0x8000000000000001) + b"\x50",
    "rsp supervisor": mov(4, 0x7FFFFFFF5FC0) + b"\x50\x50\x50\x50\x50\x50\x0f\x0b",
    "jmp noncanonical": mov(0, 1 << 47) + b"\xff\xe0",
    "jmp stub": mov(0, 0x7FFFFFFF4000) + b"\xff\xe0",
    "jmp vector stub": mov(0, 0x7FFFFFFF41E0) + b"\xff\xe0",
    "jmp end of half": mov(0, 0x7FFFFFFFFFFE) + b"\xff\xe0",
    "syscall wild rcx": mov(0, 39) + b"\x0f\x05\xc3",
    "syscall at the end": mov(0, 0x7FFFFFFFFFFE) + b"\xff\xe0",
    "write gdt": mov(0, 0x7FFFFFFF1000) + b"\x48\x89\x00",
    "write idt": mov(0, 0x7FFFFFFF2000) + b"\x48\x89\x00",
    "write tss": mov(0, 0x7FFFFFFF3000) + b"\x48\x89\x00",
    "write stubs": mov(0, 0x7FFFFFFF4000) + b"\x48\x89\x00",
    "write exception stack": mov(7, 0x7FFFFFFF5000) + mov(1, 4096) + b"\xb0\xff\xf3\xaa\x0f\x0b",
    "self-modifying": b"\x48\x8d\x05\x06\x00\x00\x00\xc6\x00\xf4\x90\x90\x90\x90\x90",
    "xrstor garbage": mov(7, 0x7FFFFFFF1000) + b"\xb8\xff\xff\xff\xff\x89\xc2\x48\x0f\xae\x2f",
    "endless prefixes": b"\x66" * 20 + b"\x90",
    "lock nop": b"\xf0\x90",
    "enter 31 levels": b"\xc8\xff\xff\x1f",
    "int3 storm": b"\xcc" * 64,
}


def end_of(template: Template, code: bytes, times: int = 1) -> str:
    """How the cell ended, or what the run gave; the host is alive and silent."""
    words = template.spawner.last_words()
    with template.fork() as cell:
        done = cell.run(RUN.format(code=code, times=times), timeout=0.5, mode="script")
        assert cell.stats()["syscalls"] > 0, "the host lives"
        assert template.spawner.last_words() == words
        return done.ended or (done.limit.name if done.limit else "end")


@pytest.mark.parametrize("name", SPECIAL)
def test_special(template: Template, name: str) -> None:
    end = end_of(template, SPECIAL[name] + b"\xc3")
    assert "virtual machine" not in end, "each has its signal, or does nothing"


@pytest.mark.parametrize("port", range(len(OUT)))
def test_ports_with_wild_registers(template: Template, port: int) -> None:
    rng = random.Random(port)
    for _ in range(3):
        wild = b"".join(
            mov(r, rng.choice(WILD)) for r in rng.sample([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], 9)
        )
        end_of(template, wild + OUT[port] + b"\x0f\x0b")


def test_forged_exception_frames(template: Template) -> None:
    """A page-fault exit with a frame the program wrote itself: taken for no more than a crash at a place of its choice."""
    for rip, rflags, rsp in (
        (1 << 63, 0xFFFFFFFFFFFFFFFF, 1 << 63),
        (0x7FFFFFFF4000, 0x3202, 0),
        ((1 << 64) - 1, 0, (1 << 64) - 1),
    ):
        code = mov(7, 0x7FFFFFFF5F90)
        for word in (6, rip, 8, rflags, rsp, 0x10):
            code += mov(0, word) + b"\x48\xab"
        assert "SIG" in end_of(template, code + b"\xe6\x2e\x0f\x0b")


def test_the_exception_stack_is_no_way_up(template: Template) -> None:
    """Selectors in a forged frame are not believed: code goes on at privilege level 3."""
    code = mov(7, 0x7FFFFFFF5F90)
    with template.fork() as cell:
        cs = b"\x8c\xc8\xc3"  # mov eax, cs
        got = cell.run(RUN.format(code=cs, times=1) + "ctypes.CFUNCTYPE(ctypes.c_int)(at)() & 3")
        assert got.text == "3"
    assert "SIG" in end_of(template, code + b"\xf4")


def noise(rng: random.Random) -> bytes:
    """Instructions from the lists, with wild registers between, and plain noise."""
    parts = []
    for _ in range(rng.randrange(1, 12)):
        match rng.randrange(5):
            case 0 | 1:
                parts.append(mov(rng.randrange(16), rng.choice([*WILD, rng.getrandbits(64)])))
            case 2:
                parts.append(rng.choice(OUT))
            case 3:
                parts.append(rng.choice(list(SPECIAL.values())))
            case 4:
                parts.append(rng.randbytes(rng.randrange(1, 9)))
    return b"".join(parts)[:4000]


@pytest.mark.timeout(3000)
def test_noise(template: Template) -> None:
    ends: dict[str, int] = {}
    for seed in [int(ONLY)] if ONLY else range(ROUNDS):
        try:
            end = end_of(template, noise(random.Random(seed)), times=3)
        except AssertionError as e:
            raise AssertionError(f"seed {seed}") from e
        kind = end.split(":")[0]
        ends[kind] = ends.get(kind, 0) + 1
    print(ends)


def test_a_storm_of_faults_is_answered_and_limited(cell: Cell) -> None:
    """A handler that returns to the faulting instruction, for ever: the time limit ends it."""
    code = "import ctypes, faulthandler, signal\nlibc = ctypes.CDLL(None)\nlibc.signal(11, 1)\nctypes.string_at(0)"
    done = cell.run(code, timeout=0.5)
    assert done.ended is not None
