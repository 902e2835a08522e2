"""The first process of the jail: how it comes to be, dies, and buries the others.

unshare(2) puts not the caller but its children into the new PID namespace. So the caller forks once: the child is pid 1
of the jail and goes on as the spawner; the caller stays behind as its *guardian*, holds nothing, and waits.

Death goes down and up. The guardian is killed with the thread that started it, the spawner with the guardian
(``PR_SET_PDEATHSIG``), and with pid 1 the kernel kills every process of the namespace. When the spawner ends, the
guardian exits the same way, so whoever started it sees it end as it would any child.

What pid 1 must know (pid_namespaces(7)):
  * It adopts the orphans of the jail: a live fork's parent may die first. :func:`reap` collects them all.
  * Signals it has no handler for are ignored, from outside as well, except SIGKILL and SIGSTOP. To end a jail, kill the
    guardian or close the spawner's control socket.
  * ``PR_SET_PDEATHSIG`` fires when the *thread* that forked ends. Start spawners from a thread that lives as long as
    the daemon, and let the spawner leave when its control socket reads end-of-file.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from prong.cell.jail import libc

_PR_SET_PDEATHSIG = 1
_EX_SOFTWARE = 70  # sysexits.h


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process of the jail ended: ``pid`` in the jail's numbers, and an exit ``code`` or a ``signal``."""

    pid: int
    code: int | None
    signal: int | None

    @property
    def by_filter(self) -> bool:
        """Whether the seccomp filter killed it: it made a call that only an attacker makes."""
        return self.signal == signal.SIGSYS


def reap() -> list[Exit]:
    """Collects every child that has ended, adopted ones included, without waiting for any."""
    ended: list[Exit] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        code = os.waitstatus_to_exitcode(status)
        ended.append(Exit(pid, code if code >= 0 else None, -code if code < 0 else None))


@dataclass(frozen=True, slots=True)
class Lifeline:
    """The reading end of a pipe whose other end only the guardian holds."""

    fd: int

    def arm(self) -> None:
        """From now on this process dies with the guardian; it ends here and now if the guardian is gone already.

        To be called after the last change of credentials: each one disarms it (prctl(2)).
        """
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        poll = select.poll()
        poll.register(self.fd, 0)  # POLLHUP is always reported
        if poll.poll(0):
            os._exit(_EX_SOFTWARE)
        os.close(self.fd)


def become_init(shed: Callable[[], object]) -> Lifeline:
    """Forks; returns in the child, which is pid 1 of the PID namespace unshared before and leads a session of its own.

    Args:
        shed: gives up all privileges of the guardian.
    """
    starter = os.getppid()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child:
        _guard(child, writing, starter, shed)
    os.close(writing)
    os.setsid()
    return Lifeline(reading)


def _guard(child: int, lifeline: int, starter: int, shed: Callable[[], object]) -> NoReturn:
    """Waits for ``child`` and exits as it did, with 128 + N for signal N; whatever goes wrong here ends the jail."""
    code = _EX_SOFTWARE
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; our starter decides
        os.chdir("/")
        if lifeline > 0:
            libc.close_range(0, lifeline - 1)
        libc.close_range(lifeline + 1, 2**32 - 1)
        shed()
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == starter:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os._exit(code if code >= 0 else 128 - code)
