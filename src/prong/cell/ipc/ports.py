"""Which socket has which port of the loopback (ip(7), socket(7): SO_REUSEADDR and SO_REUSEPORT)."""

from __future__ import annotations

import errno
from typing import Protocol

from prong.cell.core.errors import SysErr
from prong.cell.core.saved import saved

ANY4, ANY6 = bytes(4), bytes(16)
LOOP4, LOOP6 = b"\x7f\0\0\1", bytes(15) + b"\1"
EPHEMERAL_FIRST, EPHEMERAL_LAST = 32768, 60999


class PortUser(Protocol):
    """What the table needs to know of a socket. Addresses are 4 or 16 bytes; a v4-mapped one is 4."""

    ino: int
    local: tuple[bytes, int]
    remote: tuple[bytes, int] | None
    reuse_addr: bool
    reuse_port: bool
    v6only: bool
    listening: bool
    receiving: bool


def overlap(one: bytes, one_v6only: bool, two: bytes, two_v6only: bool) -> bool:
    """Whether a packet could be meant for both local addresses."""
    if len(one) == len(two):
        return one == two or not any(one) or not any(two)
    if len(one) == 4:
        one, one_v6only, two = two, two_v6only, one
    return one == ANY6 and not one_v6only


@saved("net_ports")
class PortTable:
    """The ports of one protocol: port → inode number → socket; ``receivers`` are those that take new peers."""

    def __init__(self) -> None:
        self.users: dict[int, dict[int, PortUser]] = {}
        self.receivers: dict[int, dict[int, PortUser]] = {}
        self.next_port = EPHEMERAL_FIRST
        self.turn = 0

    def claim(self, user: PortUser, ip: bytes, port: int) -> int:
        """Bind ``user`` to ``ip`` and ``port`` (0: an ephemeral one); returns the port.

        Raises SysErr(EADDRINUSE) when it is taken or no ephemeral port is left.
        """
        if port == 0:
            port = self._free_port()
        elif self._conflict(user, ip, port):
            raise SysErr(errno.EADDRINUSE)
        self.users.setdefault(port, {})[user.ino] = user
        return port

    def join(self, user: PortUser, port: int) -> None:
        """An accepted connection shares its listener's port."""
        self.users.setdefault(port, {})[user.ino] = user

    def _free_port(self) -> int:
        for _ in range(EPHEMERAL_LAST - EPHEMERAL_FIRST + 1):
            port = self.next_port
            self.next_port = port + 1 if port < EPHEMERAL_LAST else EPHEMERAL_FIRST
            if port not in self.users:
                return port
        raise SysErr(errno.EADDRINUSE)

    def _conflict(self, user: PortUser, ip: bytes, port: int) -> bool:
        for other in self.users.get(port, {}).values():
            if other is user or not overlap(ip, user.v6only, other.local[0], other.v6only):
                continue
            if user.reuse_port and other.reuse_port:
                continue
            if user.reuse_addr and other.reuse_addr and not other.listening:
                continue
            return True
        return False

    def may_listen(self, user: PortUser) -> bool:
        """Whether no other listener is in the way (two sockets may be bound with SO_REUSEADDR, only one listens)."""
        ip, port = user.local
        return not any(
            other is not user
            and overlap(ip, user.v6only, other.local[0], other.v6only)
            and not (user.reuse_port and other.reuse_port)
            for other in self.receivers.get(port, {}).values()
        )

    def receive(self, user: PortUser, on: bool) -> None:
        """Let ``user`` be found by :meth:`find`, or no longer."""
        port = user.local[1]
        if on:
            self.receivers.setdefault(port, {})[user.ino] = user
        elif port in self.receivers:
            self.receivers[port].pop(user.ino, None)
            if not self.receivers[port]:
                del self.receivers[port]

    def release(self, user: PortUser) -> None:
        """``user`` gives its port back; no effect if it has none."""
        self.receive(user, False)
        port = user.local[1]
        bucket = self.users.get(port)
        if bucket is not None and bucket.pop(user.ino, None) is not None and not bucket:
            del self.users[port]

    def find(self, ip: bytes, port: int, source: tuple[bytes, int]) -> PortUser | None:
        """Who gets what ``source`` sends to ``ip``:``port``: the most exact match, in turn among equals."""
        best: list[PortUser] = []
        best_score = 0
        for user in self.receivers.get(port, {}).values():
            if user.remote is not None and user.remote != source:
                continue
            mine = user.local[0]
            if mine != ip and not (not any(mine) and overlap(mine, user.v6only, ip, False)):
                continue
            score = 1 + 8 * (user.remote is not None) + 4 * (mine == ip) + 2 * (len(mine) == len(ip))
            if score > best_score:
                best, best_score = [user], score
            elif score == best_score:
                best.append(user)
        if len(best) < 2:
            return best[0] if best else None
        if not best[0].reuse_port:
            return best[-1]
        self.turn += 1
        return best[self.turn % len(best)]
