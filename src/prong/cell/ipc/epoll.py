"""Watching many files at once (epoll(7)): the interest list, and the ready list changes are noted in."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr
from prong.cell.core.file import O_CLOEXEC, O_RDWR, POLLERR, POLLHUP, POLLIN, POLLRDNORM, File
from prong.cell.core.saved import saved
from prong.cell.ipc.events import IpcFile, Watch
from prong.cell.ipc.net import MAX_WATCHES

if TYPE_CHECKING:
    from prong.cell.ipc.net import Loopback

EPOLL_CLOEXEC = O_CLOEXEC
EPOLLEXCLUSIVE, EPOLLWAKEUP, EPOLLONESHOT, EPOLLET = 1 << 28, 1 << 29, 1 << 30, 1 << 31
PRIVATE = EPOLLEXCLUSIVE | EPOLLWAKEUP | EPOLLONESHOT | EPOLLET
EXCLUSIVE_OK = 0x1 | 0x4 | 0x8 | 0x10 | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE
MAX_DEPTH = 5
MAX_WATCHERS = 16
"""How many epoll instances may watch one epoll instance; it bounds what one change can set in motion."""


@saved("epoll_item")
class Item(Watch):
    """One registration: ``file`` under number ``fd``, the ``events`` asked for, and the program's ``data``.

    ``queued``: it is in the ready list. No bits but the private ones in ``events``: disarmed (EPOLLONESHOT).
    """

    __slots__ = ("data", "epoll", "events", "fd", "file", "queued")

    def __init__(self, epoll: Epoll, file: File, fd: int, events: int, data: int) -> None:
        super().__init__()
        self.epoll = epoll
        self.file = file
        self.fd = fd
        self.events = events
        self.data = data
        self.queued = False

    def notify(self, events: int) -> None:
        """Note a change in the ready list."""
        wanted = self.events
        if not wanted & ~PRIVATE or (events and not events & wanted):
            return
        if self.queued:
            # Another epoll's news was passed on when this item was queued; once is enough, or nets of epolls explode.
            if type(self.file) is Epoll:
                return
        else:
            self.queued = True
            self.epoll.ready.append(self)
        self.epoll.queue.signal(POLLIN | POLLRDNORM)

    def wake(self, count: int | None = None) -> int:
        """A plain wait queue says that something changed."""
        self.notify(0)
        return 0

    def closed(self, file: File) -> None:
        """The file is gone: so is the registration."""
        if file is self.file:
            self.epoll.drop(self)

    def now(self) -> int:
        """The events that hold and were asked for."""
        return self.file.poll() & self.events


@saved("epoll")
class Epoll(IpcFile):
    """An epoll instance; ``items`` by descriptor number (more than one when a number was closed and used again)."""

    kind = "eventpoll"

    def __init__(self, net: Loopback) -> None:
        super().__init__(O_RDWR)
        self.net = net
        self.items: dict[int, list[Item]] = {}
        self.ready: deque[Item] = deque()
        self.stale = 0
        """How many dropped items are still in the ready list."""

    def find(self, file: File, fd: int) -> Item | None:
        """The registration of ``file`` under ``fd``."""
        for item in self.items.get(fd, ()):
            if item.file is file:
                return item
        return None

    def add(self, file: File, fd: int, events: int, data: int) -> None:
        """EPOLL_CTL_ADD. SysErr: ELOOP for a circle or too deep a nest, ENOSPC when the cell has too many watches."""
        if self.net.watches >= MAX_WATCHES:
            self._sweep()
            if self.net.watches >= MAX_WATCHES:
                raise SysErr(errno.ENOSPC)
        if isinstance(file, Epoll):
            self._check_nesting(file)
        item = Item(self, file, fd, events | POLLERR | POLLHUP, data)
        self.items.setdefault(fd, []).append(item)
        self.net.watches += 1
        file.waitq.observe(item)
        if item.now():
            item.notify(0)

    def _check_nesting(self, inner: Epoll) -> None:
        watchers = sum(isinstance(q, Item) for q in inner.waitq.observers)
        if watchers >= MAX_WATCHERS:
            raise SysErr(errno.EINVAL)
        down = _levels_below(inner, self)
        if down + _levels_above(self) > MAX_DEPTH:
            raise SysErr(errno.ELOOP)

    def modify(self, item: Item, events: int, data: int) -> None:
        """EPOLL_CTL_MOD; also arms a spent EPOLLONESHOT again."""
        item.events = events | POLLERR | POLLHUP
        item.data = data
        if item.now():
            item.notify(0)

    def drop(self, item: Item) -> None:
        """End a registration."""
        same = self.items.get(item.fd)
        if same is None or item not in same:
            return
        same.remove(item)
        if not same:
            del self.items[item.fd]
        self.net.watches -= 1
        item.file.waitq.unobserve(item)
        item.events = 0
        if item.queued:
            # Taking it out of the middle would cost the whole list; its empty events keep it from being reported.
            self.stale += 1
            if self.stale > 64 and self.stale * 2 > len(self.ready):
                self.ready = deque(i for i in self.ready if i.events)
                self.stale = 0

    def _sweep(self) -> None:
        """Drop registrations of closed files whose class does not tell."""
        for item in [i for same in self.items.values() for i in same if i.file.refs == 0]:
            self.drop(item)

    def harvest(self, limit: int) -> list[tuple[Item, int, int]]:
        """Up to ``limit`` (item, events now, events asked for), as ep_send_events() takes them off the ready list."""
        found: list[tuple[Item, int, int]] = []
        ready = self.ready
        for _ in range(len(ready)):
            if len(found) >= limit:
                break
            item = ready.popleft()
            item.queued = False
            if not item.events:
                self.stale -= 1
                continue
            if item.file.refs == 0:
                self.drop(item)
                continue
            events = item.now()
            if not events:
                continue
            found.append((item, events, item.events))
            if item.events & EPOLLONESHOT:
                item.events &= PRIVATE
            elif not item.events & EPOLLET:
                item.queued = True
                ready.append(item)
        return found

    def restore(self, found: list[tuple[Item, int, int]]) -> None:
        """Undo :meth:`harvest` when the result could not be stored."""
        for item, _, wanted in found:
            item.events = wanted
            if not item.queued:
                item.queued = True
                self.ready.append(item)

    def poll(self) -> int:
        """Readable when some watched file is ready; stale entries leave the ready list."""
        ready = self.ready
        while ready:
            item = ready[0]
            if item.file.refs and item.events and item.now():
                return POLLIN | POLLRDNORM
            ready.popleft()
            item.queued = False
            self.stale -= not item.events
        return 0

    def release(self) -> None:
        """The last descriptor was closed: stop watching."""
        super().release()
        self.ready.clear()
        self.stale = 0
        for item in [i for same in self.items.values() for i in same]:
            self.drop(item)


def _levels_below(top: Epoll, outer: Epoll) -> int:
    """How deep epolls nest from ``top`` down; SysErr(ELOOP) when ``outer`` is among them."""
    levels = 0
    layer = {id(top): top}
    while layer:
        if id(outer) in layer or levels > MAX_DEPTH:
            raise SysErr(errno.ELOOP)
        levels += 1
        below = [i.file for e in layer.values() for same in e.items.values() for i in same]
        layer = {id(f): f for f in below if isinstance(f, Epoll)}
    return levels


def _levels_above(bottom: Epoll) -> int:
    """How deep epolls nest from ``bottom`` up."""
    levels = 0
    layer = {id(bottom): bottom}
    while layer and levels <= MAX_DEPTH:
        levels += 1
        above = [q.epoll for e in layer.values() for q in e.waitq.observers if isinstance(q, Item)]
        layer = {id(e): e for e in above}
    return levels
