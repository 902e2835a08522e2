"""Wait queues: how a blocked task is found again when what it waits for has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prong.cell.core.saved import saved

if TYPE_CHECKING:
    from prong.cell.task.task import Task


@saved("waitq")
class WaitQueue:
    """The tasks waiting for one condition, and the observers (epoll instances) that want to hear of each change.

    ``wake`` is cheap when nobody waits. A woken task leaves *all* queues it was parked on and runs its handler again;
    waking too many is correct (they look again and wait again), waking too few is a hang.
    """

    __slots__ = ("observers", "waiters")

    def __init__(self) -> None:
        self.waiters: list[Task] = []
        self.observers: list[WaitQueue] = []

    def wake(self, count: int | None = None) -> int:
        """Make up to ``count`` waiters (all if None) run again, oldest first; returns how many were woken.

        Observers (queues registered with :meth:`observe`) are always woken wholly.
        """
        for queue in self.observers:
            queue.wake()
        if not self.waiters:
            return 0
        chosen = self.waiters[:] if count is None else self.waiters[:count]
        for task in chosen:
            task.wake()
        return len(chosen)

    def observe(self, queue: WaitQueue) -> None:
        """Pass every wake on to ``queue`` too (used by epoll); adding one twice counts twice."""
        self.observers.append(queue)

    def unobserve(self, queue: WaitQueue) -> None:
        """Undo one :meth:`observe`; unknown queues are ignored."""
        for i, q in enumerate(self.observers):
            if q is queue:
                del self.observers[i]
                return


Waker = Callable[[], int]
