"""Run one program of this machine in a cell: ``python -m tests.cell_task.run_program PROGRAM ARG…``. No engine, no jail.

Its output goes to stdout; the last line is ``[wait status: reason]``. A process of its own: the loop needs SIGALRM.
"""

from __future__ import annotations

import os
import sys
import time
from typing import cast

from prong.cell.cpu.loop import Loop
from prong.cell.fs.stdio import ChannelOut
from prong.cell.host import build
from prong.cell.host.spec import BootSpec, Identity
from prong.cell.limits import Limits
from prong.kvm.device import Kvm

GUARD_S = 60


class PlainHost:
    """The process around a run loop: a guard stops what hangs."""

    def __init__(self) -> None:
        self.end = time.monotonic() + GUARD_S

    def service(self, timeout: int | None) -> None:
        """Wait, as far as the guard allows."""
        if timeout is None or timeout > 0:
            time.sleep(min(timeout or 10_000_000, 10_000_000) / 1e9)

    def stopping(self) -> bool:
        """Whether the guard's time is over."""
        return time.monotonic() > self.end

    def short_of(self, number: int, error: int) -> None:
        """Nobody to tell."""


def main() -> None:
    """Run it."""
    path, *arguments = sys.argv[1:]
    argv = tuple(os.fsencode(a) for a in (path, *arguments))
    spec = BootSpec(
        path=argv[0], argv=argv, environ=(b"LC_ALL=C",), cwd=b"/", files=(), control=False, limits={},
        identity=Identity.fresh(0).pack(),
    )  # fmt: skip
    kernel = build.fresh_kernel(spec, Limits(memory=256 << 20))
    for file in kernel.fds.files.values():
        if isinstance(file, ChannelOut):
            file.set_sink(lambda _channel, data: cast(None, os.write(1, data)))
    kvm = Kvm()
    build.start_program(kernel, spec, kvm)
    host = PlainHost()
    Loop(kernel, build.attach_cpu(kernel, kvm), host).run()
    process = kernel.process
    print(f"[{process.exit_status}: {process.exit_reason}]", flush=True)
    for task in kernel.sched.tasks.values() if process.exit_status is None else ():
        print(f"hung: {task.tid} {task.state.name} rip {task.regs[16]:#x} call {task.call}", flush=True)


if __name__ == "__main__":
    main()
