"""The cell's clocks (clock_gettime(2)) and its pending timers."""

from __future__ import annotations

import heapq
import itertools
import time
from typing import TYPE_CHECKING, Protocol

from prong.cell.core.saved import saved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Due(Protocol):
    """Something with a due time: ``due(now)`` is called once, at or after its deadline."""

    def due(self, now: int) -> None:
        """React; ``now`` is cell monotonic time in nanoseconds."""
        ...


@saved("timer_entry")
class TimerEntry:
    """One armed deadline; ``cancelled`` entries are skipped when they surface."""

    __slots__ = ("cancelled", "deadline", "order", "target")

    def __init__(self, deadline: int, order: int, target: Due) -> None:
        self.deadline = deadline
        self.order = order
        self.target = target
        self.cancelled = False

    def __lt__(self, other: TimerEntry) -> bool:
        return (self.deadline, self.order) < (other.deadline, other.order)


@saved("clock", skip=("_ids", "on_set"))
class Clock:
    """Cell time and a heap of deadlines in cell monotonic nanoseconds.

    Monotonic time counts only while the cell exists as a process: :meth:`freeze` before a snapshot is written and
    :meth:`thaw` after it is loaded make stored time disappear, so pending timers keep their remaining time. Real time
    is the host's, plus what the program set with clock_settime. ``on_set`` is called when the program has set it.
    """

    on_set: Callable[[], None] | None = None

    def __init__(self) -> None:
        self.offset = 0
        self.real_offset = 0
        self.frozen_at = 0
        self.timers: list[TimerEntry] = []
        self.prune_at = 256
        self._ids: Iterator[int] = itertools.count(1)
        self.boot_real = time.time_ns()

    def after_load(self, env: object) -> None:
        """Continue the order numbers past those in the heap."""
        self._ids = itertools.count(max((t.order for t in self.timers), default=0) + 1)

    def monotonic(self) -> int:
        """CLOCK_MONOTONIC of the cell in nanoseconds."""
        return time.monotonic_ns() + self.offset

    def realtime(self) -> int:
        """CLOCK_REALTIME in nanoseconds since the epoch."""
        return time.time_ns() + self.real_offset

    def set_realtime(self, ns: int) -> None:
        """clock_settime(2): from now on real time is counted from ``ns``."""
        self.real_offset = ns - time.time_ns()
        if self.on_set is not None:
            self.on_set()

    def freeze(self) -> None:
        """Remember the present cell time; call before a snapshot is written."""
        self.frozen_at = self.monotonic()

    def thaw(self) -> None:
        """Go on from the remembered cell time; call after a snapshot was loaded, on whatever host."""
        self.offset = self.frozen_at - time.monotonic_ns()

    def arm(self, deadline: int, target: Due) -> TimerEntry:
        """Call ``target.due`` once cell time reaches ``deadline`` (ns); returns the entry, to cancel it."""
        entry = TimerEntry(deadline, next(self._ids), target)
        heapq.heappush(self.timers, entry)
        if len(self.timers) > self.prune_at:
            self._prune()
        return entry

    def _prune(self) -> None:
        """Drop cancelled entries: a program that arms and cancels far deadlines must not fill our memory."""
        self.timers[:] = [entry for entry in self.timers if not entry.cancelled]
        heapq.heapify(self.timers)
        self.prune_at = max(256, 2 * len(self.timers))

    def next_deadline(self) -> int | None:
        """The earliest armed deadline, or None."""
        timers = self.timers
        while timers and timers[0].cancelled:
            heapq.heappop(timers)
        return timers[0].deadline if timers else None

    def run_due(self) -> None:
        """Call everything that is due now, in deadline order."""
        if not self.timers:
            return
        now = self.monotonic()
        timers = self.timers
        while timers and timers[0].deadline <= now:
            entry = heapq.heappop(timers)
            if not entry.cancelled:
                entry.target.due(now)
