"""The limits of the call in progress: output bytes, wall time and CPU time, counted where they are used."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from prong.cell.abi.numbers import NR
from prong.cell.host.spec import CONTROL, SHOWN_ROOM, STDERR, STDOUT, CallLimits

if TYPE_CHECKING:
    from prong.cell.host.wire import Message
    from prong.cell.kernel import Kernel

_SHORTAGES: dict[tuple[int | None, int], tuple[str, str]] = {
    (NR["mmap"], errno.ENOMEM): ("memory", "memory"),
    (NR["mremap"], errno.ENOMEM): ("memory", "memory"),
    (NR["clone"], errno.EAGAIN): ("threads", "threads"),
    (NR["clone3"], errno.EAGAIN): ("threads", "threads"),
    (None, errno.ENOSPC): ("overlay", "overlay"),
    (None, errno.EMFILE): ("files", "files"),
}
"""(system call or None for any, errno) → (name of the limit, its field in Limits)."""

GRACE = 1_000_000_000
"""Nanoseconds the program has after SIGINT before it is killed."""
SIGINT, SIGKILL = 2, 9


class CallAccount:
    """Counts one call; when a limit is hit the program gets SIGINT, and is killed if the call has not ended in a second."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.limits = CallLimits()
        self.active = False
        self.pending: list[Message] = []
        self._wall_end: int | None = None
        self._cpu_end: int | None = None
        self._output_left: int | None = None
        self._shown_left = 0
        self._kill_at: int | None = None
        self._hit = ""
        self._told: set[str] = set()

    def begin(self, limits: CallLimits) -> None:
        """Start counting."""
        self.limits = limits
        self.active = True
        self._kill_at = None
        self._hit = ""
        self._told.clear()
        self._wall_end = None if limits.wall is None else time.monotonic_ns() + int(limits.wall * 1e9)
        cpu = self.kernel.cpu.cpu_time(None)
        self._cpu_end = None if limits.cpu is None else cpu + int(limits.cpu * 1e9)
        self._output_left = limits.output
        self._shown_left = (limits.output or 0) + SHOWN_ROOM

    def end(self) -> None:
        """The call is over; nothing more is limited until the next."""
        self.active = False
        self._kill_at = None
        self._output_left = None

    def forked(self) -> None:
        """In a live-forked child: the engine says anew what the limits are."""
        self.pending.clear()
        self.end()

    def count_output(self, channel: int, data: bytes) -> bytes:
        """Book output; returns the part that still fits.

        What the runtime sends (rich results) has an allowance of its own, a MiB larger; it is never cut.
        """
        if self._output_left is None:
            return data
        if channel == CONTROL:
            self._shown_left -= len(data)
            if self._shown_left < 0 and self.active:
                self._limit("output", self.limits.output or 0)
            return data
        if channel not in (STDOUT, STDERR):
            return data
        if len(data) <= self._output_left:
            self._output_left -= len(data)
            return data
        data = data[: self._output_left]
        self._output_left = 0
        if self.active:
            self._limit("output", self.limits.output or 0)
        return data

    def enforce(self) -> None:
        """Check the clocks; called at every tick and wake-up."""
        if not self.active:
            return
        now = time.monotonic_ns()
        if self._kill_at is not None:
            if now >= self._kill_at:
                process = self.kernel.process
                process.exit_status = SIGKILL
                process.exit_limit = self._hit
                process.exit_reason = f"{self._hit} limit reached and the program did not stop"
            return
        if self._wall_end is not None and now >= self._wall_end:
            self._limit("wall", self.limits.wall or 0)
        elif self._cpu_end is not None and self.kernel.cpu.cpu_time(None) >= self._cpu_end:
            self._limit("cpu", self.limits.cpu or 0)

    def _limit(self, name: str, allowed: float) -> None:
        if self._hit:
            return
        self._hit = name
        self._kill_at = time.monotonic_ns() + GRACE
        self.pending.append(("limit", name, allowed))
        self.kernel.signals.post(SIGINT)

    def short_of(self, number: int, error: int) -> None:
        """A system call failed with an errno that a limit of the cell can cause; report the limit once per call."""
        limits = self.kernel.limits
        name, allowed = _SHORTAGES.get((number, error)) or _SHORTAGES.get((None, error)) or ("", "")
        if name and name not in self._told:
            self._told.add(name)
            self.pending.append(("limit", name, getattr(limits, allowed)))

    def time_left(self) -> int | None:
        """Nanoseconds until :meth:`enforce` must be called again, or None."""
        ends = [e for e in (self._kill_at, None if self._kill_at else self._wall_end) if e is not None]
        return max(min(ends) - time.monotonic_ns(), 0) if ends else None

    def events(self) -> list[Message]:
        """What the engine has to be told; handed out once."""
        out, self.pending = self.pending, []
        return out
