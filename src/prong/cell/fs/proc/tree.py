"""The roots of /proc and /sys, and the directories of /proc that tables cannot describe: processes, threads, descriptors."""

from __future__ import annotations

import stat as st
from typing import TYPE_CHECKING

from prong.cell.core.saved import saved
from prong.cell.fs.dirs import Entry
from prong.cell.fs.nodes import Node, Symlink
from prong.cell.fs.proc import process, sysfs, system
from prong.cell.fs.proc.fds import FdDir
from prong.cell.fs.proc.links import FILE_LINKS, ProcessLink
from prong.cell.fs.proc.nodes import TextDir, kernel_of, stable_ino
from prong.cell.process import PID

if TYPE_CHECKING:
    from prong.cell.fs.dirs import Directory
    from prong.cell.fs.volume import Volume

__all__ = ["ProcRoot", "SysRoot", "process", "sysfs", "system"]

SELF = b"%d" % PID
TASK_DIRS = (b"fd", b"fdinfo")


@saved("fs.sys")
class SysRoot(TextDir):
    """/sys."""

    __slots__ = ()

    def __init__(self, volume: Volume, parent: Directory, name: bytes) -> None:
        super().__init__(volume, "sys", 0, parent, name)


@saved("fs.proc")
class ProcRoot(TextDir):
    """/proc: the computer's files, and one process."""

    __slots__ = ()

    def __init__(self, volume: Volume, parent: Directory, name: bytes) -> None:
        super().__init__(volume, "proc", 0, parent, name)

    def lookup(self, name: bytes) -> Node | None:
        """self and thread-self lead to the process and to the calling thread."""
        if name == SELF:
            return ProcessDir(self.volume, PID, self, name)
        if name in (b"self", b"thread-self"):
            current = kernel_of(self.volume).sched.current
            target = SELF if name == b"self" else b"%s/task/%d" % (SELF, current.tid if current is not None else PID)
            link = Symlink(self.volume, stable_ino("proc/" + name.decode(), 0), target, self.mtime_ns)
            return link
        if name.isdigit() and len(name) < 10 and int(name) in kernel_of(self.volume).sched.tasks:
            return ProcessDir(self.volume, int(name), self, name)  # threads are found here, though not listed
        return super().lookup(name)

    def entries(self) -> list[Entry]:
        """Tables plus the process."""
        extra: list[Entry] = [(SELF, stable_ino("task/", PID), st.S_IFDIR)]
        extra += [(n, stable_ino("proc/" + n.decode(), 0), st.S_IFLNK) for n in (b"self", b"thread-self")]
        return extra + super().entries()


@saved("fs.proc.pid")
class ProcessDir(TextDir):
    """/proc/PID and /proc/PID/task/TID: the same files; the process directory also has ``task``."""

    __slots__ = ()

    def __init__(self, volume: Volume, tid: int, parent: Directory, name: bytes) -> None:
        super().__init__(volume, "task", tid, parent, name)

    @property
    def _is_process(self) -> bool:
        return isinstance(self.parent, ProcRoot)

    def lookup(self, name: bytes) -> Node | None:
        """Tables, links to files, and the descriptors."""
        if name in TASK_DIRS:
            return FdDir(self.volume, self.tid, self, name)
        if name == b"task" and self._is_process:
            return TaskList(self.volume, self)
        if name in FILE_LINKS:
            return ProcessLink(self.volume, name, self.tid)
        return super().lookup(name)

    def entries(self) -> list[Entry]:
        """All of it."""
        found = super().entries()
        found += [(n, stable_ino(f"{n.decode()}/", self.tid), st.S_IFDIR) for n in TASK_DIRS]
        found += [(n, stable_ino(f"link/{n.decode()}", self.tid), st.S_IFLNK) for n in FILE_LINKS]
        if self._is_process:
            found.append((b"task", stable_ino("tasks/", 0), st.S_IFDIR))
        return found


@saved("fs.proc.tasks")
class TaskList(TextDir):
    """/proc/PID/task: a directory a thread."""

    __slots__ = ()

    def __init__(self, volume: Volume, parent: Directory) -> None:
        super().__init__(volume, "tasks", 0, parent, b"task")

    def lookup(self, name: bytes) -> Node | None:
        """A living thread's."""
        if not name.isdigit() or len(name) > 9 or int(name) not in kernel_of(self.volume).sched.tasks:
            return None
        return ProcessDir(self.volume, int(name), self, name)

    def entries(self) -> list[Entry]:
        """Living threads."""
        return [(b"%d" % tid, stable_ino("task/", tid), st.S_IFDIR) for tid in kernel_of(self.volume).sched.tasks]
