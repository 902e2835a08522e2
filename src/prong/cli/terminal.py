"""What connects a program in a cell to the terminal or pipes of this process: output, input, Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from prong.errors import ProngError, SandboxGone

if TYPE_CHECKING:
    from prong.cell.engine import Cell

EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE
CHUNK = 1 << 16
STDIN = 0


class Outlet:
    """Passes a program's output on as it appears. When its reader goes away the program is ended, as SIGPIPE would.

    Args:
        cell: the program's. silent: keep quiet (its output is wanted as a value only).
    """

    def __init__(self, cell: Cell, *, silent: bool = False) -> None:
        self.broken = False
        self._cell = cell
        self._silent = silent

    def stdout(self, text: str) -> None:
        """Text for standard output."""
        self.raw(1, text.encode())

    def stderr(self, text: str) -> None:
        """Text for standard error."""
        self.raw(2, text.encode())

    def raw(self, channel: int, data: bytes) -> None:
        """Bytes as they are, for standard output (1) or standard error (2)."""
        if self._silent or self.broken:
            return
        stream = sys.stdout if channel == 1 else sys.stderr
        try:
            stream.flush()
            stream.buffer.write(data)
            stream.flush()
        except BrokenPipeError:
            self.broken = True
            _discard(stream.fileno())
            with contextlib.suppress(SandboxGone):
                self._cell.signal(signal.SIGKILL)


def _discard(descriptor: int) -> None:
    """Point a descriptor nobody reads at /dev/null: what is still buffered must not raise again at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


@contextlib.contextmanager
def forwarded_stdin(cell: Cell, *, close_at_end: bool = True) -> Iterator[None]:
    """Pass this process's standard input on to ``cell`` while the block lasts; with ``close_at_end`` its end, too.

    Only what arrives during the block is read. A background job that may not read the terminal sees its end instead of
    being stopped (SIGTTIN, termios(3)).
    """
    wake, stop = os.pipe()
    before = signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    thread = threading.Thread(target=_pump, args=(cell, wake, close_at_end), name="prong-stdin", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(stop)
        thread.join()
        os.close(wake)
        signal.signal(signal.SIGTTIN, before)


def _pump(cell: Cell, wake: int, close_at_end: bool) -> None:
    """The thread of :func:`forwarded_stdin`; ends at the end of the input, of the block, or of the cell."""
    while True:
        poller = select.poll()  # a closed stdin polls as POLLNVAL, a file as readable
        poller.register(STDIN, select.POLLIN)
        poller.register(wake, select.POLLIN)
        ready = dict(poller.poll())
        if wake in ready:
            return
        try:
            data = os.read(STDIN, CHUNK)
        except OSError:  # EIO: a background job; EBADF: no stdin at all. Neither has anything to read.
            data = b""
        try:
            if data:
                cell.write_stdin(data)
            elif close_at_end:
                cell.write_stdin(b"", eof=True)
        except SandboxGone:
            return
        if not data:
            return


@contextlib.contextmanager
def interrupts_passed_on(cell: Cell) -> Iterator[None]:
    """While the block lasts: Ctrl-C interrupts the program in ``cell``, a second one kills it, a third gives up on it.

    The handler only posts to a queue: it may run in the middle of a send on the very connection an interrupt needs.
    """
    pressed: queue.SimpleQueue[int] = queue.SimpleQueue()
    count = 0

    def handler(_number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count > 2:
            raise KeyboardInterrupt
        pressed.put(signal.SIGINT if count == 1 else signal.SIGKILL)

    def pass_on() -> None:
        while (number := pressed.get()) != 0:
            with contextlib.suppress(ProngError):  # it ended meanwhile
                cell.signal(number)

    thread = threading.Thread(target=pass_on, name="prong-interrupts", daemon=True)
    thread.start()
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        pressed.put(0)
        thread.join()
