"""As ``tests.cell_task.run_program``, but before its last line comes another: ``[N calls, page valid: B]``.

With NO_COUNTER in the environment the host's time-stamp counter is taken as one that does not tell time.
"""

from __future__ import annotations

import os

from prong.cell.cpu.cpu import Cpu
from prong.cell.cpu.loop import Host, Loop
from prong.cell.kernel import Kernel
from tests.cell_task import run_program


class CountingLoop(Loop):
    """Tells how often the program called."""

    def __init__(self, kernel: Kernel, cpu: Cpu, host: Host) -> None:
        if "NO_COUNTER" in os.environ:
            cpu.vm.kvm.counter_khz = 0
        super().__init__(kernel, cpu, host)

    def run(self) -> None:
        super().run()
        print(f"[{self.kernel.process.syscalls} calls, page valid: {self.timepage.valid}]", flush=True)


if __name__ == "__main__":
    setattr(run_program, "Loop", CountingLoop)  # noqa: B010 (mypy: not exported)
    run_program.main()
