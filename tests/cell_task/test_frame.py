"""The signal frame against one that the kernel of this machine made."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from prong.cell.core.cpu import FakeCpu
from prong.cell.core.memory import FlatMemory
from prong.cell.task import sigframe
from prong.cell.task.siginfo import SA_ONSTACK, SI_QUEUE, SignalInfo, bit
from tests.cell_task.world import HANDLER, RESTORER, SA_RESTORER, STACK, World

SOURCE = r"""
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
#define SHOW(n) printf("%s %ld\n", #n, (long)(n))
#define AT(n) printf("at %s %ld\n", #n, (long)offsetof(ucontext_t, n))
static unsigned char copy[16384];
static uintptr_t frame; static size_t size;
static void on(int sig, siginfo_t *info, void *context) {
  ucontext_t *uc = context;
  unsigned char *fp = (unsigned char *)uc->uc_mcontext.fpregs;
  uint32_t extended; memcpy(&extended, fp + 468, 4);
  frame = (uintptr_t)context - 8;
  size = (uintptr_t)fp + extended - frame;
  memcpy(copy, (void *)frame, size);
  uintptr_t i = (uintptr_t)info;
  printf("info %ld\n", (long)(i - frame));
}
int main(int argc, char **argv) {
  struct sigaction act = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
  char *stack = malloc(65536);
  stack_t alternate = {.ss_sp = stack, .ss_size = 65536};
  if (argc > 1) { act.sa_flags |= SA_ONSTACK; sigaltstack(&alternate, 0); }
  sigaddset(&act.sa_mask, SIGUSR2);
  sigset_t blocked; sigemptyset(&blocked); sigaddset(&blocked, SIGWINCH); sigprocmask(SIG_BLOCK, &blocked, 0);
  sigaction(SIGUSR1, &act, 0);
  union sigval value = {.sival_ptr = (void *)0x1122334455667788};
  sigqueue(getpid(), SIGUSR1, value);
  SHOW(frame); SHOW(getpid()); SHOW(getuid());
  printf("stack %ld\n", (long)stack);
  printf("bytes ");
  for (size_t i = 0; i < size; i++) printf("%02x", copy[i]);
  printf("\n");
  AT(uc_flags); AT(uc_stack); AT(uc_mcontext); AT(uc_sigmask);
}
"""


@dataclass(frozen=True)
class Native:
    address: int
    data: bytes
    facts: dict[str, int]

    def head(self) -> tuple[int, ...]:
        return sigframe._HEAD.unpack_from(self.data)


@pytest.fixture(scope="module", params=["normal", "altstack"])
def native(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Native:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to make a native signal frame with")
    folder: Path = tmp_path_factory.mktemp("frame")
    (folder / "frame.c").write_text(SOURCE)
    subprocess.run(["gcc", "-O0", "-o", folder / "frame", folder / "frame.c"], check=True, timeout=60)
    arguments = ["x"] if request.param == "altstack" else []
    output = subprocess.run([folder / "frame", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout
    facts: dict[str, int] = {}
    data = b""
    for line in output.splitlines():
        key, _, value = line.rpartition(" ")
        if key == "bytes":
            data = bytes.fromhex(value)
        else:
            facts[key] = int(value)
    return Native(facts["frame"] & (1 << 64) - 1, data, facts)


def world_like(native: Native) -> World:
    """A world whose FPU area is as large as this machine's, with memory where the native frame was."""
    world = World()
    _, _, features, size = sigframe._SW.unpack_from(native.data, fp_offset(native) + sigframe.SW_RESERVED)
    world.kernel.cpu = FakeCpu(xsave_size=size, xfeatures=features)
    base = (native.address - 0x8000) & ~0xFFF
    world.kernel.mem = FlatMemory(size=0x20000, base=base)
    return world


def fp_offset(native: Native) -> int:
    return native.head()[33] - native.address


def test_layout_is_the_c_librarys(native: Native) -> None:
    assert native.facts["info"] == 312
    assert native.facts["at uc_stack"] == 16 and native.facts["at uc_mcontext"] == 40
    assert native.facts["at uc_sigmask"] == 296


def test_push_makes_the_native_frame(native: Native) -> None:
    world, head = world_like(native), native.head()
    task = world.main
    for index, value in zip(sigframe.SIGCONTEXT_ORDER, head[7:25], strict=True):
        task.regs[index] = value
    task.sigmask = bit(28)
    task.altstack = (head[3], head[6], head[4])
    on_stack = SA_ONSTACK if head[6] else 0
    fpu = bytearray(native.data[fp_offset(native) :][: world.kernel.cpu.xsave_size])
    fpu[sigframe.SW_RESERVED : 512] = bytes(48)
    world.kernel.cpu.fpu_set(task, bytes(fpu))
    info = SignalInfo(10, SI_QUEUE, pid=native.facts["getpid()"], uid=native.facts["getuid()"], value=0x1122334455667788)
    sigframe.push(world.kernel, task, info, (HANDLER, SA_RESTORER | on_stack, head[0], 0), (head[30], head[29], head[32]))
    assert task.regs[sigframe.RSP] == native.address
    made = world.kernel.mem.read(native.address, len(native.data))
    at = fp_offset(native)
    # Not compared, since the kernel leaves there what was before: padding in stack_t, the end of sigcontext, padding
    # between siginfo and the XSAVE area, spare software bytes.
    for start, end in ((0, 36), (40, 240), (304, 440), (at, at + 464 + 24), (at + 512, None)):
        assert made[start:end] == native.data[start:end]
    assert [task.regs[i] for i in (sigframe.RDI, sigframe.RSI, sigframe.RDX, sigframe.RAX)] == [
        10,
        native.address + 312,
        native.address + 8,
        0,
    ]


def test_pop_reads_the_native_frame(native: Native) -> None:
    world, head = world_like(native), native.head()
    task = world.main
    world.kernel.mem.write(native.address, native.data)
    task.regs[sigframe.RSP] = native.address + 8
    task.regs[sigframe.RFLAGS] = 0x202
    sigframe.pop(world.kernel, task)
    for index, value in zip(sigframe.SIGCONTEXT_ORDER[:-1], head[7:24], strict=True):
        assert task.regs[index] == value
    assert task.regs[sigframe.RFLAGS] == head[24]
    assert task.sigmask == bit(28)
    assert task.altstack[:2] == (head[3], head[6])
    size = world.kernel.cpu.xsave_size
    assert world.kernel.cpu.fpu_get(task)[512:] == native.data[fp_offset(native) + 512 :][: size - 512]


# -- our own frames there and back, and hostile ones -----------------------------------------------------------------


def pushed(world: World, flags: int = 0) -> None:
    """Main task with distinctive registers, in a handler."""
    task = world.main
    for i in range(16):
        task.regs[i] = 0x1111111111111111 * (i % 15) + i
    task.regs[sigframe.RSP] = STACK + 0x4000
    area = bytearray(world.cpu.fpu_get(task))
    area[160:176] = b"xmm0 was here..!"
    struct.pack_into("<Q", area, 512, 3)
    world.cpu.fpu_set(task, bytes(area))
    world.handle(10, flags)
    world.signals.post(10)
    world.back_to_user(task)
    assert task.regs[sigframe.RIP] == HANDLER


def test_round_trip_restores_everything() -> None:
    world = World()
    task = world.main
    task.sigmask = bit(3)
    pushed(world)
    assert task.sigmask == bit(3) | bit(10)
    assert world.cpu.fpu_get(task)[160:176] == bytes(16), "a handler starts with a fresh FPU"
    assert task.regs[sigframe.RSP] % 16 == 8
    assert world.mem.u64(task.regs[sigframe.RSP]) == RESTORER
    wanted = [0x1111111111111111 * (i % 15) + i for i in range(16)]
    wanted[sigframe.RSP] = STACK + 0x4000
    task.regs[sigframe.RBX] = 0
    world.sigreturn(task)
    assert task.regs[:16] == wanted
    assert task.sigmask == bit(3)
    assert world.cpu.fpu_get(task)[160:176] == b"xmm0 was here..!"


@pytest.mark.parametrize(
    ("offset", "value", "what"),
    [
        (176, 1 << 47, "rip beyond user space"),
        (176, 0x8000000000000000, "rip not canonical"),
        (232, 0x123, "misaligned fpstate"),
        (232, 1 << 50, "fpstate nowhere"),
    ],
)
def test_bad_frames_are_segmentation_faults(offset: int, value: int, what: str) -> None:
    world = World()
    pushed(world)
    world.mem.put_u64(world.main.regs[sigframe.RSP] + offset, value)
    world.sigreturn(world.main)
    assert world.process.exit_status == 11, what
    assert "bad frame" in world.process.exit_reason


@pytest.mark.parametrize(
    ("offset", "data"),
    [
        (24, b"\xff\xff\xff\xff"),  # mxcsr with reserved bits
        (512, b"\0\1\0\0\0\0\0\0"),  # a component that is not enabled
        (520, b"\0\0\0\0\0\0\0\x80"),  # compacted format
        (530, b"\1"),  # reserved header byte
    ],
)
def test_unloadable_fpu_states_are_segmentation_faults(offset: int, data: bytes) -> None:
    world = World()
    pushed(world)
    fpstate = world.mem.u64(world.main.regs[sigframe.RSP] + 232)
    world.mem.write(fpstate + offset, data)
    world.sigreturn(world.main)
    assert world.process.exit_status == 11


def test_bad_frame_goes_to_the_programs_handler() -> None:
    world = World()
    pushed(world)
    world.handle(11, handler=HANDLER + 0x100)
    world.mem.put_u64(world.main.regs[sigframe.RSP] + 176, 1 << 60)
    world.sigreturn(world.main)
    assert world.process.exit_status is None
    assert world.main.regs[sigframe.RIP] == HANDLER + 0x100


def test_no_fpstate_means_a_fresh_fpu() -> None:
    world = World()
    pushed(world)
    world.mem.put_u64(world.main.regs[sigframe.RSP] + 232, 0)
    world.sigreturn(world.main)
    assert world.process.exit_status is None
    assert world.cpu.fpu_get(world.main)[160:176] == bytes(16)


def test_without_magic_only_the_legacy_state_counts() -> None:
    world = World()
    pushed(world)
    fpstate = world.mem.u64(world.main.regs[sigframe.RSP] + 232)
    world.mem.put_u32(fpstate + 464, 0)
    world.sigreturn(world.main)
    area = world.cpu.fpu_get(world.main)
    assert area[160:176] == b"xmm0 was here..!"
    assert area[512:520] == b"\3" + bytes(7)


def test_only_user_flags_come_back() -> None:
    world = World()
    pushed(world)
    world.mem.put_u64(world.main.regs[sigframe.RSP] + 184, 0xFFFFFFFFFFFFFFFF)
    world.sigreturn(world.main)
    assert world.main.regs[sigframe.RFLAGS] == 0x202 | sigframe.USER_FLAGS


def test_uncatchable_signals_cannot_be_masked_by_a_frame() -> None:
    world = World()
    pushed(world)
    world.mem.put_u64(world.main.regs[sigframe.RSP] + 304, 0xFFFFFFFFFFFFFFFF)
    world.sigreturn(world.main)
    assert not world.main.sigmask & (bit(9) | bit(19))


def test_hostile_frames_never_do_more_than_kill() -> None:
    chance = random.Random(20240611)
    died = 0
    for _ in range(1500):
        world = World()
        pushed(world)
        frame = world.main.regs[sigframe.RSP]
        fpstate = world.mem.u64(frame + 232)
        for _ in range(chance.randint(1, 6)):
            place = chance.choice((frame, fpstate, fpstate + 440, fpstate + 512)) + chance.randrange(0, 320)
            world.mem.write(place, chance.randbytes(chance.choice((1, 2, 4, 8, 32))))
        if chance.random() < 0.2:
            world.main.regs[sigframe.RSP] = chance.choice((0, 7, 1 << 63, (1 << 64) - 9, 0x10000, frame + 1))
        world.sigreturn(world.main)  # FakeCpu.fpu_set raises for what a CPU would refuse
        assert world.process.exit_status in (None, 11)
        if world.process.exit_status is None:
            assert world.main.regs[sigframe.RIP] < sigframe.USER_TOP
            assert world.main.regs[sigframe.RFLAGS] & ~sigframe.USER_FLAGS == 0x202
        died += world.process.exit_status is not None
    assert 100 < died < 1400, "the fuzz should both hit and miss"
