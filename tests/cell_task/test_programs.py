"""A C program full of threads, signals and timers prints the same in a cell, on a real virtual CPU, as on this machine."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from prong.cell.cpu.loop import Loop
from prong.cell.fs.stdio import ChannelOut
from prong.cell.host import build
from prong.cell.host.spec import BootSpec, Identity
from prong.cell.kernel import Kernel
from prong.cell.limits import Limits
from prong.kvm.device import Kvm

pytestmark = pytest.mark.kvm
SOURCE = Path(__file__).with_name("program.c")
GUARD_NS = 60_000_000_000


class PlainHost:
    """The process around a run loop, without an engine: output is collected, and a guard stops what hangs."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.output = bytearray()
        self.end = time.monotonic_ns() + GUARD_NS

    def service(self, timeout: int | None) -> None:
        if timeout is None or timeout > 0:
            time.sleep(min(timeout or GUARD_NS, 10_000_000) / 1e9)

    def stopping(self) -> bool:
        return time.monotonic_ns() > self.end

    def short_of(self, number: int, error: int) -> None:
        """Nobody to tell."""

    def write(self, data: bytes) -> int:
        self.output += data
        return len(data)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the program with")
    path = tmp_path_factory.mktemp("program") / "program"
    subprocess.run(["gcc", "-O1", "-w", "-pthread", "-o", path, SOURCE, "-lm"], check=True, timeout=120)
    return path
