"""How a handler tells the run loop that it failed, that it must wait, or that it is refused."""

from __future__ import annotations

import errno as _errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prong.cell.core.waiting import WaitQueue


class SysErr(Exception):
    """A system call fails with ``errno`` (a positive number from :mod:`errno`)."""

    def __init__(self, errno: int) -> None:
        super().__init__(_errno.errorcode.get(errno, str(errno)))
        self.errno = errno


class WouldBlock(Exception):
    """A File cannot make progress now. ``queues``: where to wait for a change; empty means the file's own queue."""

    def __init__(self, *queues: WaitQueue) -> None:
        super().__init__("would block")
        self.queues = queues


class Wait(Exception):
    """Park the calling task until one of ``queues`` wakes it, ``deadline`` passes, or a signal arrives.

    Args:
        queues: the wait queues to park on; may be empty (only time or a signal ends the wait).
        deadline: cell monotonic time in nanoseconds, or None for ever. When it passes the handler runs again with
            ``task.expired`` true.
        restart: whether a signal whose action has SA_RESTART (or no handler at all) restarts the call, as signal(7)
            tells per call; if false a handled signal always ends it with EINTR.
        partial: if positive, a signal ends the call with this result instead of EINTR (bytes already moved).
    """

    def __init__(
        self,
        queues: Sequence[WaitQueue] = (),
        *,
        deadline: int | None = None,
        restart: bool = True,
        partial: int = 0,
    ) -> None:
        super().__init__("wait")
        self.queues = tuple(queues)
        self.deadline = deadline
        self.restart = restart
        self.partial = partial
