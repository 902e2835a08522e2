"""Signal numbers, flags, sets, and what is known of one signal (signal(7), sigaction(2)). Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prong.cell.core.saved import saved

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL = 1, 2, 3, 4, 5, 6, 7, 8, 9
SIGSEGV, SIGPIPE, SIGALRM, SIGTERM, SIGCHLD, SIGCONT, SIGSTOP = 11, 13, 14, 15, 17, 18, 19
SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGWINCH = 20, 21, 22, 23, 24, 25, 26, 27, 28
SIGRTMIN, SIGMAX = 32, 64

_NAMES = """
    HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU
    XFSZ VTALRM PROF WINCH IO PWR SYS
"""
NAMES = tuple(_NAMES.split())

SIG_DFL, SIG_IGN = 0, 1
SA_NOCLDSTOP, SA_NOCLDWAIT, SA_SIGINFO, SA_EXPOSE_TAGBITS, SA_RESTORER = 1, 2, 4, 0x800, 0x04000000
SA_ONSTACK, SA_RESTART, SA_NODEFER, SA_RESETHAND = 0x08000000, 0x10000000, 0x40000000, 0x80000000
SI_USER, SI_KERNEL, SI_QUEUE, SI_TIMER, SI_TKILL = 0, 0x80, -1, -2, -6

Action = tuple[int, int, int, int]
"""A ``struct kernel_sigaction``: handler address (or SIG_DFL, SIG_IGN), flags, restorer address, mask."""

DEFAULT_ACTION: Action = (SIG_DFL, 0, 0, 0)
QUEUE_LIMIT = 4096
"""Most queued real-time signals (RLIMIT_SIGPENDING)."""


def bit(sig: int) -> int:
    """The sigset_t bit of signal ``sig`` (1…64)."""
    return 1 << (sig - 1)


UNBLOCKABLE = bit(SIGKILL) | bit(SIGSTOP)
STOPS = bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU)
HARMLESS = bit(SIGCHLD) | bit(SIGCONT) | bit(SIGURG) | bit(SIGWINCH)
SYNCHRONOUS = bit(SIGSEGV) | bit(SIGBUS) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGFPE)


@saved("siginfo")
class SignalInfo:
    """What a handler learns of one signal (``siginfo_t``, sigaction(2)); which fields count depends on ``code``.

    ``value`` is the raw 64-bit ``sigval``. ``queued`` tells whether it still waits to be taken.
    """

    __slots__ = ("addr", "code", "overrun", "pid", "queued", "signo", "status", "timerid", "uid", "value")

    def __init__(
        self, signo: int, code: int = SI_USER, *, pid: int = 0, uid: int = 0, value: int = 0, addr: int = 0
    ) -> None:
        self.signo = signo
        self.code = code
        self.pid = pid
        self.uid = uid
        self.value = value
        self.status = 0
        self.addr = addr
        self.timerid = 0
        self.overrun = 0
        self.queued = False


def each_bit(bits: int) -> Iterator[int]:
    """The signal numbers of a set, ascending."""
    bits &= 0xFFFFFFFFFFFFFFFF
    while bits:
        low = bits & -bits
        yield low.bit_length()
        bits ^= low


def name(sig: int) -> str:
    """``SIGINT``, ``SIGRTMIN+2``, …"""
    return f"SIG{NAMES[sig - 1]}" if sig <= len(NAMES) else f"SIGRTMIN+{sig - 34}" if sig >= 34 else f"signal {sig}"
