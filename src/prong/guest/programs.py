"""Modes ``script`` and ``file``: run a program to its end as ``python3 program.py`` would, but in this process."""

from __future__ import annotations

import atexit
import builtins
import os
import sys
import threading
import types
from collections.abc import Callable, Mapping
from typing import Any

from . import messages as m
from . import sources, streams
from .contexts import Context
from .interrupts import Interrupts, guard
from .tracebacks import describe, format_error, trim

_sys = vars(sys)  # user code may have deleted any of its names
_enumerate = threading.enumerate
_current_thread = threading.current_thread
_OWN_TO_A_PROGRAM = ("stdin", "stdout", "stderr", "argv", "excepthook")
EXIT_CANNOT_OPEN = 2
EXIT_FLUSH_FAILED = 120


class ExitCallbacks:
    """Stands in for ``atexit.register`` while a program runs, so that its callbacks, and no others, run at its end."""

    def __init__(self) -> None:
        self._calls: list[tuple[Callable[..., object], tuple[object, ...], dict[str, object]]] = []
        self._replaced = (atexit.register, atexit.unregister)
        atexit.register = self.register  # type: ignore[assignment]
        atexit.unregister = self.unregister

    def register(self, func: Callable[..., object], /, *args: object, **kwargs: object) -> Callable[..., object]:
        """As :func:`atexit.register`."""
        self._calls.append((func, args, kwargs))
        return func

    def unregister(self, func: Callable[..., object], /) -> None:
        """As :func:`atexit.unregister`."""
        self._calls = [call for call in self._calls if call[0] != func]
        self._replaced[1](func)

    def restore(self) -> None:
        """Give the module its functions back."""
        atexit.register, atexit.unregister = self._replaced

    def run(self) -> None:
        """Call them, the last registered first; one that raises is reported on stderr and the rest still run."""
        while self._calls:
            func, args, kwargs = self._calls.pop()
            try:
                func(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  # user code; Python reports it and goes on
                trim(error, "")
                report(f"Exception ignored in atexit callback: {func!r}\n{format_error(error)}")


def report(text: str) -> None:
    """Print on the program's stderr, if it has one left."""
    if sys.stderr is not None:
        sys.stderr.write(text)


def exit_code_of(request: SystemExit) -> tuple[int, str | None]:
    """The status a SystemExit asks for, as the parent of a process would see it, and what to print on stderr.

    https://docs.python.org/3/library/exceptions.html#SystemExit
    """
    code: object = request.code
    if code is None:
        return 0, None
    if isinstance(code, int):
        return (code & 0xFF if -(2**63) <= code < 2**63 else 0xFF), None
    return 1, str(code)


class Program:
    """One program: its namespace, its end.

    Args:
        request: the ``run`` request.
        context: whose namespace it uses; None for a fresh one.
    """

    def __init__(self, request: Mapping[str, Any], context: Context | None, interrupts: Interrupts) -> None:
        self._request = request
        self._interrupts = interrupts
        self._module = types.ModuleType("__main__") if context is None else context.module
        self._is_file = request["mode"] == m.MODE_FILE
        self.filename: str = request.get("filename") or "<script>"
        self._threads_before: set[threading.Thread] = set()
        self.exit_code = 0
        self.error: dict[str, Any] | None = None

    def run(self, prepare: Callable[[], None]) -> None:
        """Run to the end, with what Python does at exit; then ``exit_code`` and ``error`` are set.

        Args:
            prepare: called first, under the guard.
        """
        saved = {name: _sys.get(name) for name in _OWN_TO_A_PROGRAM}
        saved_path = list(_sys.get("path") or [""])
        callbacks = ExitCallbacks()
        _, failure = guard(lambda: self._execute(prepare))
        self._conclude(failure)
        _, failure = guard(lambda: self._shut_down(callbacks))
        if failure is not None and not isinstance(failure, SystemExit):
            self._conclude(failure)
        _, failure = guard(streams.flush)
        if failure is not None:  # as Python: whatever the program's own status was
            self.exit_code = EXIT_FLUSH_FAILED
            self.error = self.error or describe(failure)
        callbacks.restore()
        _sys.update(saved, path=saved_path)

    def _execute(self, prepare: Callable[[], None]) -> None:
        self._interrupts.checkpoint(last=False)  # waiting for its threads and its exit callbacks come after
        self._threads_before = set(_enumerate())
        prepare()
        sys.modules["__main__"] = self._module
        code: str | bytes
        if self._is_file:
            with open(self.filename, "rb") as file:
                code = file.read()
            sys.path[0:1] = [os.path.dirname(os.path.abspath(self.filename))]
        else:
            code = self._request["code"]
            sources.register(self.filename, self._request["code"])
        namespace = self._module.__dict__
        namespace["__builtins__"] = builtins  # else exec would lend it the runtime's private ones
        if self._request.get("filename"):
            namespace["__file__"] = self.filename
        exec(sources.compile_program(code, self.filename), namespace)

    def _conclude(self, failure: BaseException | None) -> None:
        """Turn how the code ended into status, error data and what Python prints."""
        if failure is None:
            return
        if isinstance(failure, SystemExit):
            request = failure
            outcome, problem = guard(lambda: exit_code_of(request))
            if outcome is not None:
                self.exit_code, text = outcome
                if text is not None:
                    guard(lambda: report(text + "\n"))
                return
            failure = problem or failure
        trim(failure, self.filename)
        self.error = describe(failure)
        self.exit_code = m.EXIT_INTERRUPTED if isinstance(failure, KeyboardInterrupt) else 1
        if self._is_file and isinstance(failure, OSError) and failure.__traceback__ is None:
            self.exit_code = EXIT_CANNOT_OPEN
            self.error["formatted"] = f"python3: can't open file {self.filename!r}: {self.error['value']}\n"
        # A stderr that cannot be written to loses the text, as in Python; the error data still tells.
        guard(lambda: self._print(failure))

    def _print(self, failure: BaseException) -> None:
        formatted: str = (self.error or {})["formatted"]
        hook = sys.excepthook
        if hook is sys.__excepthook__:
            report(formatted)
            return
        try:
            hook(type(failure), failure, failure.__traceback__)
        except Exception as error:  # noqa: BLE001  # user code; Python shows both
            trim(error, self.filename)
            report(f"Error in sys.excepthook:\n{format_error(error)}\nOriginal exception was:\n{formatted}")

    def _shut_down(self, callbacks: ExitCallbacks) -> None:
        """What the interpreter does at its end: wait for the program's threads, then its exit callbacks."""
        self._interrupts.checkpoint()
        for thread in _enumerate():
            if thread not in self._threads_before and not thread.daemon and thread is not _current_thread():
                thread.join()
        callbacks.run()
