"""open(2) of a FIFO (fifo(7)): who waits for whom."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from prong.cell.core.errors import SysErr, Wait
from prong.cell.core.file import O_ACCMODE, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY, File
from prong.cell.ipc.pipe import Opening, Pipe, PipeEnd

if TYPE_CHECKING:
    from prong.cell.task.task import Task


def open_fifo(task: Task, pipe: Pipe, flags: int, node: File) -> PipeEnd:
    """Open one end of the FIFO whose inode carries ``pipe`` (one :class:`Pipe` for the inode's life).

    Call it as the last step of open(2): it may raise Wait, with ``task.scratch`` in use, and must then be called again
    with the same pipe when the task is woken. ``node`` answers ``stat()``, ``link_text()`` and ``release()``.

    Raises:
        SysErr: ENXIO for a non-blocking writer without a reader, EINVAL for access mode 3.
        Wait: until the other side is opened.
    """
    mode = flags & O_ACCMODE
    if mode == O_ACCMODE:
        raise SysErr(errno.EINVAL)
    opening = task.scratch if isinstance(task.scratch, Opening) else None
    if opening is None:
        if mode == O_WRONLY and flags & O_NONBLOCK and not pipe.has_readers():
            raise SysErr(errno.ENXIO)
        if mode != O_RDWR and not flags & O_NONBLOCK and not _partner(pipe, mode):
            seen = pipe.writer_opens if mode == O_RDONLY else pipe.reader_opens
            task.scratch = opening = Opening(task, mode, seen)
            pipe.opening.append(opening)
            # Others that wait for this side may go on now: this opening counts as an end.
            _arrived(pipe, mode)
            raise Wait((pipe.open_queue,))
    elif not _partner(pipe, mode) and opening.seen == _opens(pipe, mode):
        raise Wait((pipe.open_queue,))
    end = PipeEnd(pipe, flags, 0, node)
    task.scratch = None
    if opening is not None and mode == O_RDONLY:
        # A writer that came and went while this reader slept must show as a hang-up, not as "no writer yet".
        end.seen_writers = opening.seen
    pipe.open_queue.signal(0)
    return end


def _partner(pipe: Pipe, mode: int) -> bool:
    return pipe.has_writers() if mode == O_RDONLY else pipe.has_readers()


def _opens(pipe: Pipe, mode: int) -> int:
    return pipe.writer_opens if mode == O_RDONLY else pipe.reader_opens


def _arrived(pipe: Pipe, mode: int) -> None:
    if mode == O_RDONLY:
        pipe.reader_opens += 1
    else:
        pipe.writer_opens += 1
    pipe.open_queue.signal(0)
