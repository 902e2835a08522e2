"""The kernel layer's state for one cell: its parts, joined. Behaviour lives with the parts and the topic handlers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prong.cell.core.saved import saved

if TYPE_CHECKING:
    from prong.cell.core.cpu import CpuState
    from prong.cell.core.fdtable import FdTable
    from prong.cell.core.memory import FrameSource, GuestMemory
    from prong.cell.fs.state import FsState
    from prong.cell.ipc.net import Loopback
    from prong.cell.limits import Limits
    from prong.cell.memory.space import Space
    from prong.cell.process import Process
    from prong.cell.refusals import RefusalLog
    from prong.cell.task.clock import Clock
    from prong.cell.task.signals import Signals
    from prong.cell.task.task import Scheduler


@saved("kernel", skip=("cpu",))
@dataclass
class Kernel:
    """Everything a system-call handler may reach, by topic.

    mem: checked access to program memory. space: the VMAs and page tables behind it. frames: physical memory.
    fds: descriptors. fs: the file-system tree, cwd, umask. net: the loopback network inside the cell.
    cpu: floating-point state and CPU time (a host thing, set again after a load).
    sched, clock, signals: threads, time, signals. process: ids, names, resource limits, exit state.
    """

    mem: GuestMemory
    space: Space
    frames: FrameSource
    fds: FdTable
    fs: FsState
    net: Loopback
    sched: Scheduler
    clock: Clock
    signals: Signals
    process: Process
    limits: Limits
    refusals: RefusalLog
    cpu: CpuState
