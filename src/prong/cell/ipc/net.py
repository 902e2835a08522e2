"""The namespace that all pipes and sockets of a cell share, and the memory they may hold together."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.saved import saved
from prong.cell.ipc.ports import PortTable

if TYPE_CHECKING:
    from prong.cell.core.file import File
    from prong.cell.ipc.unix import UnixSocket

MAX_HELD = 64 << 20
MAX_PIPE_PAGES = 16384
MAX_WATCHES = 65536
SOCKET_COST = 2048
"""What a connection nobody has accepted yet counts as, in bytes."""


@saved("net")
class Loopback:
    """Bound names and ports, inode numbers, and counters of what the host holds for the program.

    ``held``: bytes in sockets (at most 64 MiB). ``inflight``: descriptors in unread SCM_RIGHTS messages. ``watches``:
    epoll registrations. ``abstract``: (socket type, AF_UNIX name without a path, with its leading NUL) → socket.
    """

    def __init__(self) -> None:
        self.next_ino = 10_000
        self.held = 0
        self.inflight = 0
        self.watches = 0
        self.pipe_pages = 0
        self.abstract: dict[tuple[int, bytes], UnixSocket] = {}
        self.next_auto = 0
        self.tcp = PortTable()
        self.udp = PortTable()
        self.udplite = PortTable()
        self.dropping: deque[File] = deque()
        self.draining = False

    def new_ino(self) -> int:
        """A number for a new pipe or socket."""
        self.next_ino += 1
        return self.next_ino

    def charge(self, size: int) -> None:
        """Count ``size`` more held bytes; SysErr(ENOBUFS) when the cell holds too many."""
        if self.held + size > MAX_HELD:
            raise SysErr(errno.ENOBUFS)
        self.held += size

    def discharge(self, size: int) -> None:
        """Undo :meth:`charge`."""
        self.held -= size

    def claim_pipe(self, pages: int) -> bool:
        """Count pages of pipe capacity (negative gives back); False if there are too many in the cell."""
        if pages > 0 and self.pipe_pages + pages > MAX_PIPE_PAGES:
            return False
        self.pipe_pages += pages
        return True

    def hold_files(self, files: list[File], limit: int) -> None:
        """Put open files in flight (SCM_RIGHTS); SysErr(ETOOMANYREFS) over ``limit`` of them."""
        if self.inflight + len(files) > limit:
            raise SysErr(errno.ETOOMANYREFS)
        self.inflight += len(files)
        for file in files:
            file.refs += 1

    def land_files(self, files: list[File]) -> None:
        """Take files out of flight; those with no descriptor left are released.

        One after the other, never nested: a socket in flight can hold another one, and so on a thousand deep.
        """
        self.inflight -= len(files)
        self.dropping.extend(files)
        if self.draining:
            return
        self.draining = True
        try:
            while self.dropping:
                file = self.dropping.popleft()
                file.refs -= 1
                if file.refs == 0:
                    file.release()
        finally:
            self.draining = False
