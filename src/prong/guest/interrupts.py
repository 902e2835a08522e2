"""SIGINT becomes KeyboardInterrupt in user code, and only there.

One function, :func:`guard`, calls everything that can run user code. The signal handler walks the interrupted frames:
under a guard it raises; in the guard's own frame, or in code that must not be cut short, it leaves a note; elsewhere
the runtime itself is at work and a late interrupt is dropped. No flag has to be set and cleared at the right moment,
so there is no moment at which an interrupt can hit the runtime.

A SIGINT for a run that the runtime has not read yet would be lost, so an interrupt while idle is answered with
``interrupt_ignored``, and the host, which knows what it sent, asks again.
"""

from __future__ import annotations

import signal
import sys
import threading
import types
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_set_profile = sys.setprofile
_set_trace = sys.settrace

IDLE = 0
STARTING = 1
"""A run was read and its user code has not begun: an interrupt is for it."""
ENDING = 2
"""User code is over: an interrupt is too late and is dropped, the ``finished`` frame says so."""


def guard(call: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    """Call it; give what it returned, or what it raised. Nothing user code raises passes this frame.

    A trace or profile function user code left behind ends here too: it would be called in the runtime's own frames.
    Clearing it may call it once more, and it may raise, which Python answers by dropping it: hence twice.
    """
    try:
        try:
            return call(), None
        finally:
            _set_profile(None)
            _set_trace(None)
    except BaseException as error:  # noqa: BLE001  # the boundary: SystemExit and all user classes end here
        _set_profile(None)
        _set_trace(None)
        return None, error


def shield(call: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    """As :func:`guard`, for the runtime's own work on what user code may have broken: no interrupt is raised in it."""
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001  # objects of user code are touched: anything may be raised
        return None, error


class Interrupts:
    """The SIGINT handler and its state, all of it touched by the main thread only.

    Args:
        critical: code objects whose frames defer an interrupt.
        ignored: called when an interrupt found no run.
    """

    def __init__(self, critical: frozenset[types.CodeType], ignored: Callable[[], None]) -> None:
        self._critical = critical
        self._ignored = ignored
        self._guard = guard.__code__
        self._main_thread = threading.get_ident()
        self._get_ident = threading.get_ident
        self._get_frame = sys._getframe
        self.phase = IDLE
        self.pending = False

    def handle(self, signum: int, frame: types.FrameType | None) -> None:
        """The handler: raise in user code, else remember or drop."""
        self.deliver(frame)

    def deliver(self, interrupted: types.FrameType | None) -> None:
        """Raise KeyboardInterrupt if ``interrupted`` belongs to user code that may be cut short."""
        frame = interrupted
        deferred = False
        while frame is not None:
            code = frame.f_code
            if code is self._guard:
                if frame is not interrupted and not deferred:
                    raise KeyboardInterrupt
                self.pending = True
                return
            deferred = deferred or code in self._critical
            frame = frame.f_back
        if self.phase == STARTING:
            self.pending = True
        elif self.phase == IDLE:
            self._ignored()

    def redeliver(self, frame: types.FrameType | None) -> None:
        """After a critical section: deliver what came during it."""
        if self.pending:
            self.pending = False
            self.deliver(frame)

    def redeliver_here(self) -> None:
        """Redeliver to the caller, which may be any thread; only the main one is ever interrupted."""
        if self.pending and self._get_ident() == self._main_thread:
            self.redeliver(self._get_frame(1))

    def checkpoint(self, *, last: bool = True) -> None:
        """First step under every guard of a run: an interrupt that came just before takes effect now.

        Args:
            last: no more user code of the run follows this guard; else an interrupt after it waits for the next one.
        """
        self.phase = ENDING if last else STARTING
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt

    def idle(self) -> None:
        """The run is reported: what was pending came too late for it and must not reach the next one."""
        self.pending = False
        self.phase = IDLE


class SignalTable:
    """Keeps the runtime's handlers installed; asks Python's own table, which costs no system call."""

    def __init__(self, handlers: dict[int, Callable[[int, types.FrameType | None], None]]) -> None:
        self._handlers = handlers
        self._get = signal.getsignal
        self._set = signal.signal
        self.restore()

    def restore(self) -> None:
        """Install every handler that is not (or no longer) in place. Main thread only."""
        for number, handler in self._handlers.items():
            if self._get(number) is not handler:
                self._set(number, handler)
