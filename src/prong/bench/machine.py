"""What the benchmark ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from prong.cell.engine.snapshots import host_cpu
from prong.errors import Json
from prong.version import __version__


def machine() -> dict[str, Json]:
    """Processor, cores, memory, kernel, Python, load and prong's version."""
    memory = next(
        (
            int(line.split()[1]) >> 10
            for line in Path("/proc/meminfo").read_text().splitlines()
            if line.startswith("MemTotal")
        ),
        0,
    )
    modules = Path("/sys/module")
    kvm = [name for name in ("kvm_intel", "kvm_amd", "kvm_pvm") if (modules / name).exists()]
    return {
        "cpu": host_cpu().model,
        "cores": os.cpu_count(),
        "memory_mib": memory,
        "kernel": platform.release(),
        "kvm": kvm[0] if kvm else "built in",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "prong": __version__,
    }
