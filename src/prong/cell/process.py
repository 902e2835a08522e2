"""What the cell's one process knows of itself: ids, names, resource limits, futexes and timers, how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prong.cell.core.saved import saved
from prong.cell.task.futex import Futexes

if TYPE_CHECKING:
    from prong.cell.task.timers import PosixTimer, RealTimer

RLIM_INFINITY = 0xFFFFFFFFFFFFFFFF
PID = 1000
"""The process id every cell's program has; the first thread's id too."""
PARENT = 1
"""What getppid(2) answers: something that exists and cannot be reached."""

RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS, RLIMIT_NPROC, RLIMIT_NOFILE = range(8)
RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_LOCKS, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO = range(8, 15)
RLIMIT_RTTIME, RLIMIT_COUNT = 15, 16

_FINITE = {
    RLIMIT_STACK: (8 << 20, RLIM_INFINITY),
    RLIMIT_CORE: (0, RLIM_INFINITY),
    RLIMIT_MEMLOCK: (8 << 20, 8 << 20),
    RLIMIT_SIGPENDING: (4096, 4096),
    RLIMIT_MSGQUEUE: (819200, 819200),
    RLIMIT_NICE: (0, 0),
    RLIMIT_RTPRIO: (0, 0),
}


@saved("credentials")
class Credentials:
    """User and group ids (credentials(7)) and capability sets (capabilities(7)) of the process.

    ``uids`` and ``gids`` are [real, effective, saved, file system]. ``caps`` is [effective, permitted, inheritable].
    """

    def __init__(self) -> None:
        self.uids = [0, 0, 0, 0]
        self.gids = [0, 0, 0, 0]
        self.groups: list[int] = [0]
        self.caps = [(1 << 41) - 1, (1 << 41) - 1, 0]


@saved("process")
class Process:
    """Identity and bookkeeping of the program.

    ``argv``/``environ``/``exe`` are as at start (for /proc/self). ``exit_status`` is None while it runs, else a wait
    status as in wait(2): code << 8, or the number of the killing signal. ``generation`` counts forks of the cell.
    ``rlimits`` maps every RLIMIT number to (soft, hard); NOFILE's soft value is ``FdTable.limit``. ``cpu_ns`` is the
    CPU time of all threads, ``started_ns`` the cell monotonic time of the start. ``sched`` keeps the (policy, priority)
    that threads asked for, by thread id.
    """

    def __init__(self, argv: list[bytes], environ: list[bytes], exe: bytes) -> None:
        self.argv = argv
        self.environ = environ
        self.exe = exe
        self.auxv = b""
        """The auxiliary vector as it is on the initial stack (for /proc/self/auxv)."""
        self.hostname = b"cell"
        self.domainname = b"(none)"
        self.machine_id = b"0" * 32
        self.boot_id = b"00000000-0000-0000-0000-000000000000"
        self.generation = 0
        self.exit_status: int | None = None
        self.exit_reason = ""
        self.exit_limit = ""
        self.leader_status = 0
        self.rlimits = {n: _FINITE.get(n, (RLIM_INFINITY, RLIM_INFINITY)) for n in range(RLIMIT_COUNT)}
        self.cpu_ns = 0
        self.started_ns = 0
        self.faults = 0
        self.syscalls = 0
        self.credentials = Credentials()
        self.nice = 0
        self.personality = 0
        self.dumpable = 1
        self.no_new_privs = 0
        self.parent_death_signal = 0
        self.sched: dict[int, tuple[int, int]] = {}
        self.futexes = Futexes()
        self.alarms: dict[int, RealTimer] = {}
        self.timers: dict[int, PosixTimer] = {}
        self.next_timer = 0
        self.cpu_timers = 0
        """How many armed timers count CPU time; the tick looks at timers only if there are any."""
