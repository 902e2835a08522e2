"""inotify(7): telling the program of changes to files, from the places where the changes are made."""

from __future__ import annotations

import errno
import struct
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from prong.cell.core.errors import SysErr, WouldBlock
from prong.cell.core.file import O_RDONLY, POLLIN, POLLRDNORM, File, Stat
from prong.cell.core.saved import saved

if TYPE_CHECKING:
    from prong.cell.fs.dirs import Directory
    from prong.cell.fs.nodes import Node
    from prong.cell.fs.state import FsState
    from prong.cell.kernel import Kernel
    from prong.cell.task.task import Task

IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_CLOSE_NOWRITE, IN_OPEN = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
IN_Q_OVERFLOW, IN_IGNORED = 0x4000, 0x8000
IN_ONLYDIR, IN_DONT_FOLLOW, IN_EXCL_UNLINK = 0x01000000, 0x02000000, 0x04000000
IN_MASK_CREATE, IN_MASK_ADD, IN_ISDIR, IN_ONESHOT = 0x10000000, 0x20000000, 0x40000000, 0x80000000
IN_ALL_EVENTS = 0xFFF
MAX_EVENTS, MAX_WATCHES, MAX_INSTANCES = 1024, 8192, 32
FIONREAD = 0x541B


@saved("fs.watch")
class Watch:
    """One watched node of one inotify instance."""

    __slots__ = ("mask", "node", "owner", "wd")

    def __init__(self, owner: InotifyFile, wd: int, node: Node, mask: int) -> None:
        self.owner = owner
        self.wd = wd
        self.node = node
        self.mask = mask


@saved("fs.file.inotify")
class InotifyFile(File):
    """An inotify instance: watches, and the events that were not read yet (at most 1024, then one overflow event)."""

    kind: ClassVar[str] = "inotify"

    def __init__(self, fs: FsState, flags: int) -> None:
        super().__init__(O_RDONLY | flags)
        if fs.inotify_instances >= MAX_INSTANCES:
            raise SysErr(errno.EMFILE)
        fs.inotify_instances += 1
        self.fs = fs
        self.watches: dict[int, Watch] = {}
        self.events: deque[bytes] = deque()
        self.last_wd = 0

    def watch(self, node: Node, mask: int) -> int:
        """inotify_add_watch(2): a new watch or a changed one; returns its number. SysErr(ENOSPC, EEXIST)."""
        for known in node.watches or ():
            if known.owner is self:
                if mask & IN_MASK_CREATE:
                    raise SysErr(errno.EEXIST)
                known.mask = known.mask | mask if mask & IN_MASK_ADD else mask
                return known.wd
        if self.fs.inotify_watches >= MAX_WATCHES:
            raise SysErr(errno.ENOSPC)
        self.fs.inotify_watches += 1
        self.last_wd += 1
        watch = Watch(self, self.last_wd, node, mask)
        self.watches[watch.wd] = watch
        node.watches = [*(node.watches or ()), watch]
        node.opens += 1
        return watch.wd

    def unwatch(self, wd: int) -> None:
        """inotify_rm_watch(2); SysErr(EINVAL) for an unknown number."""
        watch = self.watches.get(wd)
        if watch is None:
            raise SysErr(errno.EINVAL)
        self._forget(watch)
        self.push(wd, IN_IGNORED, 0, b"")

    def _forget(self, watch: Watch) -> None:
        del self.watches[watch.wd]
        self.fs.inotify_watches -= 1
        node = watch.node
        node.watches = [w for w in node.watches or () if w is not watch] or None
        node.drop_open()

    def push(self, wd: int, mask: int, cookie: int, name: bytes) -> None:
        """Queue one event, unless it repeats the last one."""
        length = (len(name) + 16) & ~15 if name else 0
        event = struct.pack("<iIII", wd, mask, cookie, length) + name + bytes(length - len(name))
        if self.events and self.events[-1] == event:
            return
        if len(self.events) >= MAX_EVENTS:
            event = struct.pack("<iIII", -1, IN_Q_OVERFLOW, 0, 0)
            if self.events[-1] == event:
                return
        self.events.append(event)
        self.waitq.wake()

    def read(self, size: int) -> bytes:
        """As many whole events as fit; SysErr(EINVAL) if not even one does."""
        if not self.events:
            raise WouldBlock
        if len(self.events[0]) > size:
            raise SysErr(errno.EINVAL)
        out = bytearray()
        while self.events and len(out) + len(self.events[0]) <= size:
            out += self.events.popleft()
        return bytes(out)

    def poll(self) -> int:
        """Readable while events are queued."""
        return POLLIN | POLLRDNORM if self.events else 0

    def ioctl(self, kernel: Kernel, task: Task, request: int, arg: int) -> int:
        """FIONREAD: bytes queued."""
        if request == FIONREAD:
            kernel.mem.put_u32(arg, sum(map(len, self.events)))
            return 0
        raise SysErr(errno.ENOTTY)

    def stat(self) -> Stat:
        """An anonymous inode."""
        return Stat(ino=2, mode=0o600, dev=14)

    def link_text(self) -> str:
        """As Linux names it."""
        return "anon_inode:inotify"

    def release(self) -> None:
        """Drop every watch."""
        self.fs.inotify_instances -= 1
        for watch in list(self.watches.values()):
            self._forget(watch)


def notify(node: Node, mask: int, name: bytes | None, cookie: int = 0) -> None:
    """Something happened to ``node`` itself (``name`` None) or to the entry ``name`` of it."""
    for watch in node.watches or ():
        if watch.mask & mask & IN_ALL_EVENTS:
            watch.owner.push(watch.wd, mask, cookie, name or b"")
            if watch.mask & IN_ONESHOT:
                watch.owner._forget(watch)
                watch.owner.push(watch.wd, IN_IGNORED, 0, b"")


def touched(node: Node, mask: int) -> None:
    """A file was opened, read, written or changed: tell its watchers and those of its directory."""
    place = node.where
    if node.watches is None and (place is None or place[0].watches is None):
        return
    if node.is_dir:
        mask |= IN_ISDIR
    if place is not None and place[0].watches is not None:
        notify(place[0], mask, place[1])
    notify(node, mask, None)


def closed(node: Node, file: File) -> None:
    """An open file went away."""
    touched(node, IN_CLOSE_WRITE if file.writable else IN_CLOSE_NOWRITE)
    if node.nlink == 0 and node.watches and node.opens - len(node.watches) <= 1:
        deleted(node)


def held(node: Node) -> bool:
    """Whether anything but watches holds the node."""
    return node.opens > len(node.watches or ())


def deleted(node: Node) -> None:
    """The node is gone: IN_DELETE_SELF, and the watches end."""
    for watch in list(node.watches or ()):
        if watch.mask & IN_DELETE_SELF:
            watch.owner.push(watch.wd, IN_DELETE_SELF, 0, b"")
        watch.owner._forget(watch)
        watch.owner.push(watch.wd, IN_IGNORED, 0, b"")


def moved(fs: FsState, node: Node, old: Directory, old_name: bytes, new: Directory, new_name: bytes) -> None:
    """A rename happened; both directory events carry one cookie."""
    if node.watches is None and old.watches is None and new.watches is None:
        return
    fs.moves += 1
    kind = IN_ISDIR if node.is_dir else 0
    notify(old, IN_MOVED_FROM | kind, old_name, fs.moves)
    notify(new, IN_MOVED_TO | kind, new_name, fs.moves)
    notify(node, IN_MOVE_SELF, None)
