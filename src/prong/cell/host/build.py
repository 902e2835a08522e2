"""Make a kernel: a fresh one that starts a program, or one loaded from a snapshot."""

from __future__ import annotations

import os
import signal

import prong.cell.syscalls  # noqa: F401  (registers every handler)
from prong.cell.core.cpu import FakeCpu
from prong.cell.core.errors import SysErr
from prong.cell.core.fdtable import FdTable
from prong.cell.core.file import File
from prong.cell.cpu.boot import write_supervisor
from prong.cell.cpu.cpu import Cpu
from prong.cell.fs import hostapi
from prong.cell.fs.image import ImageSource
from prong.cell.fs.opening import open_path
from prong.cell.fs.state import FsState
from prong.cell.fs.stdio import ChannelDuplex, ChannelIn, ChannelOut
from prong.cell.fs.walk import walk
from prong.cell.host.spec import CONTROL, CONTROL_FD, STDERR, STDIN, STDOUT, BootSpec, Identity
from prong.cell.ipc.net import Loopback
from prong.cell.kernel import Kernel
from prong.cell.limits import Limits
from prong.cell.memory.access import Memory
from prong.cell.memory.layout import FIRST_FREE, PAGE
from prong.cell.memory.phys import Physical
from prong.cell.memory.space import Space
from prong.cell.process import Process
from prong.cell.program.elf import BadProgram
from prong.cell.program.start import ProgramSpec, start
from prong.cell.refusals import RefusalLog
from prong.cell.task.clock import Clock
from prong.cell.task.signals import Signals
from prong.cell.task.task import Scheduler, Task
from prong.errors import InvalidInput
from prong.kvm.device import Kvm


def fresh_kernel(spec: BootSpec, limits: Limits, image_root: bytes = b"") -> Kernel:
    """An empty cell with standard descriptors and the files of ``spec``; no program yet, no CPU yet.

    Args:
        image_root: prefix of the image on the host; empty inside the jail, whose root is the image.
    """
    phys = Physical(limits.memory // PAGE + FIRST_FREE)
    write_supervisor(phys)
    space = Space(phys)
    clock = Clock()
    sched = Scheduler(clock, limits.threads)
    kernel = Kernel(
        mem=Memory(space),
        space=space,
        frames=phys,
        fds=FdTable(limits.files),
        fs=FsState.create(ImageSource(image_root), overlay_limit=limits.overlay),
        net=Loopback(),
        sched=sched,
        clock=clock,
        signals=Signals(sched),
        process=Process(list(spec.argv), list(spec.environ), spec.path),
        limits=limits,
        refusals=RefusalLog(),
        cpu=FakeCpu(),
    )
    kernel.process.started_ns = clock.monotonic()
    kernel.fs.attach(kernel)
    kernel.signals.locate = space.describe
    _standard_descriptors(kernel, spec.control)
    for path, content, mode in spec.files:
        hostapi.make_dir(kernel.fs, os.path.dirname(path), parents=True)
        hostapi.write_file(kernel.fs, path, content, mode=mode)
    apply_identity(kernel, Identity.parse(spec.identity))
    return kernel


def _standard_descriptors(kernel: Kernel, control: bool) -> None:
    kernel.fds.install_at(0, ChannelIn(STDIN))
    kernel.fds.install_at(1, ChannelOut(STDOUT))
    kernel.fds.install_at(2, ChannelOut(STDERR))
    if control:
        kernel.fds.install_hidden(CONTROL_FD, ChannelDuplex(CONTROL))


def start_program(kernel: Kernel, spec: BootSpec, kvm: Kvm) -> None:
    """Load the program of ``spec`` and make its first task ready. Raises BadProgram, InvalidInput."""
    fs = kernel.fs
    try:
        fs.set_cwd(walk(fs, fs.base, spec.cwd or b"/").existing())
    except SysErr as e:
        text = f"working directory {os.fsdecode(spec.cwd)}: {os.strerror(e.errno)}"
        raise InvalidInput(text, data={"field": "cwd"}) from None
    nobody = Task(0, kernel.sched)

    def open_file(path: bytes) -> File:
        return open_path(kernel, nobody, fs.cwd, path, os.O_RDONLY, 0)

    hwcap = kvm.leaf(1)[3]
    program = ProgramSpec(spec.path, spec.argv, spec.environ)
    try:
        start(kernel, program, open_file, hwcap)
    except SysErr as e:
        name = os.fsdecode(spec.path)
        text = f"{name} cannot be started: {os.strerror(e.errno)}"
        raise BadProgram(text, data={"errno": e.errno, "path": name}) from None


def attach_cpu(kernel: Kernel, kvm: Kvm) -> Cpu:
    """Give the kernel a VM of this process. The tick signal is blocked here: only KVM_RUN lets it through."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    phys = kernel.space.phys
    cpu = Cpu(kvm, phys, kernel.process)
    kernel.cpu = cpu
    return cpu


def apply_identity(kernel: Kernel, identity: Identity) -> None:
    """The kernel layer's half of the fork contract: names and ids. Entropy comes from the host at each request."""
    process = kernel.process
    process.hostname = identity.hostname.encode()
    process.machine_id = identity.machine_id.encode()
    process.boot_id = identity.boot_id.encode()
    process.generation = identity.generation


__all__ = ["SysErr", "apply_identity", "attach_cpu", "fresh_kernel", "start_program"]
