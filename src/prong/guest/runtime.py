"""The runtime's main program: set up, warm, then answer requests until the control stream ends.

Started as ``python3 -I -X utf8 /usr/lib/prong/runtime [--warm FILE]`` with ``PRONG_CONTROL_FD`` set to the number of
the control descriptor. The template is snapshotted while it waits for its first request, after ``ready``.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from . import figures, streams
from . import messages as m
from .channel import CRITICAL, Channel, ControlClosed
from .completion import complete
from .contexts import ContextExists, ContextTable, UnknownContext
from .forking import ForkState
from .interrupts import Interrupts, SignalTable, guard
from .requests import check
from .runs import Runner
from .tracebacks import describe, trim
from .usermodule import make_prong_module
from .warming import rehearse, warm

_exit = os._exit
EXIT_CONTROL_CLOSED = 0
EXIT_WARM_FAILED = 1
EXIT_USAGE = 2


class Session:
    """Everything the runtime is, wired together.

    Args:
        descriptor: the control stream.
    """

    def __init__(self, descriptor: int) -> None:
        self.channel = Channel(descriptor)
        self.contexts = ContextTable()
        self.forks = ForkState()
        self.interrupts = Interrupts(CRITICAL | {Session.on_live_fork.__code__}, self._interrupt_ignored)
        handlers: dict[int, Callable[[int, types.FrameType | None], None]] = {
            signal.SIGINT: self.interrupts.handle,
            m.FORK_SIGNAL: self.on_live_fork,
        }
        self.runner = Runner(self.channel, self.contexts, self.interrupts, SignalTable(handlers))
        self._handlers: dict[str, Callable[[Mapping[str, Any]], None]] = {
            m.RUN: self._run,
            m.FORK: self._fork,
            m.CONTEXTS: self._contexts,
            m.COMPLETE: self._complete,
            m.PING: self._ping,
        }

    def serve(self) -> None:
        """Answer requests for ever. Raises ControlClosed at the end of the stream."""
        while True:
            self.handle(self.channel.receive())

    def handle(self, request: dict[str, Any]) -> None:
        """Answer one request; one that cannot be carried out is refused and nothing is done."""
        problem = check(request)
        if problem is not None:
            self._refuse(request, m.BAD_REQUEST, problem)
            return
        try:
            self._handlers[request["type"]](request)
        except UnknownContext as error:
            self._refuse(request, m.UNKNOWN_CONTEXT, str(error))
        except ContextExists as error:
            self._refuse(request, m.CONTEXT_EXISTS, str(error))

    def _refuse(self, request: Mapping[str, Any], code: str, message: str) -> None:
        number = request.get("id")
        identifier = number if type(number) is int and number >= 0 else None
        self.channel.post({"type": m.REFUSED, "id": identifier, "code": code, "message": message})

    def _run(self, request: Mapping[str, Any]) -> None:
        fork = request.get("fork")
        if fork is not None:
            failure = self.forks.become(fork)
            self.channel.queue(forked(request["id"], failure))
            if failure is not None:
                self.channel.flush()
                return
        self.runner.run(request)

    def _fork(self, request: Mapping[str, Any]) -> None:
        self.channel.post(forked(request["id"], self.forks.become(request)))

    def _contexts(self, request: Mapping[str, Any]) -> None:
        op, name = request["op"], request.get("name", "")
        if op == "create":
            self.contexts.create(name, request.get("cwd"))
        elif op == "remove":
            self.contexts.remove(name)
        elif op == "reset":
            self.contexts.reset(name)
        self.channel.post({"type": m.CONTEXTS, "id": request["id"], "contexts": self.contexts.as_json()})

    def _complete(self, request: Mapping[str, Any]) -> None:
        context = self.contexts.get(request.get("context") or m.MAIN_CONTEXT)
        code, cursor = request["code"], request["cursor"]
        fields, _ = guard(lambda: complete(code, cursor, context.namespace))  # a property may raise: no matches then
        fields = fields or {"matches": [], "start": cursor, "end": cursor}
        self.channel.post({"type": m.COMPLETED, "id": request["id"], **fields})

    def _ping(self, request: Mapping[str, Any]) -> None:
        self.channel.post({"type": m.PONG, "id": request["id"]})

    def _interrupt_ignored(self) -> None:
        self.channel.post({"type": m.INTERRUPT_IGNORED, "id": None, "last_id": self.runner.last_id})

    def on_live_fork(self, signum: int, frame: types.FrameType | None) -> None:
        """The kernel layer's signal: this is a fork made in the middle of whatever the main thread was doing."""
        self.channel.post(forked(None, self.forks.become_live()))
        self.interrupts.redeliver(frame)

    def install(self) -> None:
        """Give user code its ``prong`` module, ``display``, a matplotlib backend and line-buffered output."""
        show = self.runner.display

        def display(*values: object, raw: bool = False, **options: object) -> None:
            """Show each value richly; with ``raw`` each is itself ``{mime: text or bytes}``."""
            show(*values, raw=raw, **options)

        sys.modules["prong"] = make_prong_module(self.forks, display)
        self.contexts.adopt_builtin("display", display)  # a function, so that copying a namespace copies no runtime
        figures.install(self.runner.show_figures)
        streams.set_up()
        self.contexts.get(m.MAIN_CONTEXT).activate()

    def announce_ready(self) -> None:
        """Freeze what the warm-up made, so that the collector never writes to those pages, and say so."""
        gc.collect()
        gc.freeze()
        self.channel.post(
            {"type": m.READY, "protocol": m.PROTOCOL, "python": sys.version.split()[0], "packages": loaded_packages()}
        )


def loaded_packages() -> list[str]:
    """The top-level modules imported so far that are not the standard library's."""
    standard: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())  # Python 3.10
    names = {name.partition(".")[0] for name in sys.modules}
    return sorted(
        name for name in names - standard - {"prong", "sitecustomize", "usercustomize"} if not name.startswith("_")
    )


def forked(identifier: int | None, failure: BaseException | None) -> dict[str, Any]:
    """The ``forked`` event."""
    event: dict[str, Any] = {"type": m.FORKED, "id": identifier, "ok": failure is None}
    if failure is not None:
        trim(failure, "")
        event["error"] = describe(failure)
    return event


def main(arguments: list[str]) -> None:
    """Run the runtime; does not return. Exit status 0: control stream ended, 1: warm-up failed, 2: started wrongly."""
    number = os.environ.pop(m.CONTROL_FD_VARIABLE, "")
    if not number.isdigit() or (arguments and (len(arguments) != 2 or arguments[0] != "--warm")):
        sys.stderr.write(f"usage: {m.CONTROL_FD_VARIABLE}=N python3 -I -X utf8 runtime [--warm FILE]\n")
        _exit(EXIT_USAGE)
    session = Session(int(number))
    session.install()
    error = warm(session.contexts.get(m.MAIN_CONTEXT), arguments[1]) if arguments else None
    if error is not None:
        session.channel.post({"type": m.WARM_FAILED, "error": error})
        _exit(EXIT_WARM_FAILED)
    rehearse(session)
    session.announce_ready()
    try:
        session.serve()
    except (ControlClosed, OSError):  # the host is gone: nobody is left to tell
        _exit(EXIT_CONTROL_CLOSED)
