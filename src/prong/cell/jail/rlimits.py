"""Resource limits of the jail: setrlimit(2), hard and soft alike, so that nothing inside can raise them again."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from prong.cell.jail.layers import Fact, Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Rlimits:
    """Limits of every process in the jail. ``None`` leaves the caller's. None of them is ever raised.

    Attributes:
        address_space: bytes of virtual memory a process may map (``RLIMIT_AS``), the guest's memory included.
        processes: how many processes may exist in the jail at once, over all its cells and the guardian
            (``RLIMIT_NPROC``). Linux counts per user and user namespace since 5.14: other jails and the user's desktop
            are not in the count. One cell can use it all up; its siblings then cannot fork, and go on.
        open_files: descriptors per process (``RLIMIT_NOFILE``).
        file_size: bytes a file may grow to (``RLIMIT_FSIZE``). 0: no file grows, anonymous ones included; going beyond
            is ``SIGXFSZ``. Pipes and sockets have no size.
        locked_memory: bytes (``RLIMIT_MEMLOCK``).
        pending_signals: per user (``RLIMIT_SIGPENDING``); each POSIX timer takes one.
        cpu_seconds: of each process, then ``SIGXCPU`` that cannot be outlived (``RLIMIT_CPU``).
    """

    address_space: int | None = 4 << 30
    processes: int | None = 4096
    open_files: int | None = 1024
    file_size: int | None = 0
    locked_memory: int | None = 0
    pending_signals: int | None = 1024
    cpu_seconds: int | None = None

    def wanted(self) -> dict[int, int]:
        """``RLIMIT_*`` to value, for those that are set; those nobody needs are zero."""
        mine = {
            resource.RLIMIT_AS: self.address_space,
            resource.RLIMIT_NPROC: self.processes,
            resource.RLIMIT_NOFILE: self.open_files,
            resource.RLIMIT_FSIZE: self.file_size,
            resource.RLIMIT_MEMLOCK: self.locked_memory,
            resource.RLIMIT_SIGPENDING: self.pending_signals,
            resource.RLIMIT_CPU: self.cpu_seconds,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_MSGQUEUE: 0,
            resource.RLIMIT_NICE: 0,
            resource.RLIMIT_RTPRIO: 0,
        }
        return {limit: value for limit, value in mine.items() if value is not None}


def lowered(wanted: int, hard: int) -> int:
    """``wanted``, or the hard limit in force where that is lower. Both are bytes or counts; −1 is no limit."""
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def apply(limits: Rlimits) -> Fact:
    """Sets the limits of this process and of all it forks, reads them back, and returns the fact.

    Raises:
        OSError: a limit could not be set.
    """
    names = {getattr(resource, name): name[7:].lower() for name in dir(resource) if name.startswith("RLIMIT_")}
    for limit, value in limits.wanted().items():
        value = lowered(value, resource.getrlimit(limit)[1])
        resource.setrlimit(limit, (value, value))
    held = {names[limit]: resource.getrlimit(limit)[1] for limit in limits.wanted()}
    return Fact(Layer.RLIMITS, ", ".join(f"{name} {value}" for name, value in sorted(held.items())))
