"""A running cell: run code, fork, snapshot, files, interrupt, close."""

from __future__ import annotations

import itertools
import os
import signal as _signal
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prong.cell.engine.connection import with_sockets
from prong.cell.engine.hosted import READY_TIMEOUT, Hosted
from prong.cell.engine.runs import RunCollector, RunOptions
from prong.cell.host.spec import CONTROL, Identity
from prong.cell.results import Execution
from prong.cell.runtime_messages import (
    Complete,
    Contexts,
    Fork,
    Forked,
    ForkFacts,
    GuestMessage,
    Ready,
    Request,
    Run,
    WarmFailed,
    new_nonce,
)
from prong.cell.runtime_protocol import encode
from prong.errors import BuildFailed, Conflict, InvalidInput, LimitExceeded, ProngError, SandboxGone

if TYPE_CHECKING:
    from prong.cell.engine.descent import Descent
    from prong.cell.runtime_messages import Completed, ContextInfo, ContextList

FORK_TIMEOUT = 30.0
MAX_STDIN = 8 << 20
"""Bytes of standard input that come with a call."""


class ForkFailed(ProngError):
    """A fork could not be made a different computer (a hook raised, say); it was ended. ``data["log"]``: the traceback."""

    default_code = "fork_failed"


class Cell(Hosted):
    """One cell, from outside. Thread-safe; runs queue up behind each other, everything else may happen meanwhile.

    Attributes, beside those of :class:`~prong.cell.engine.hosted.Hosted`:
        parent: the cell it was forked from live, if any. children: those forked from it that are not closed.
    """

    def __init__(self, sock: socket.socket, descent: Descent, identity: Identity, *, parent: Cell | None = None) -> None:
        super().__init__(sock, descent, identity)
        self.parent = parent
        self.children: list[Cell] = []
        self._running = threading.Lock()
        self._request_ids = itertools.count(1)
        self._fork_owed = False
        if parent is not None:
            parent.children = [c for c in parent.children if not c.closed] + [self]

    def wait_runtime(self, timeout: float) -> None:
        """Wait for the Python runtime's ``ready``. Raises BuildFailed with the warm-up's traceback."""
        self._connection.wait(lambda: self._reply is not None or self.ended is not None, timeout)
        reply, self._reply = self._reply, None
        if isinstance(reply, Ready):
            return
        output = b"".join(data for _, data in self._raw).decode(errors="replace")
        if isinstance(reply, WarmFailed):
            raise BuildFailed(
                f"the warm-up raised {reply.error.name}: {reply.error.value}", data={"log": reply.error.formatted}
            )
        how = self.ended.describe() if self.ended is not None else f"it was not ready within {timeout:g} s"
        raise BuildFailed(f"the runtime did not start: {how}", data={"log": output[-4000:]})

    def owe_fork(self) -> None:
        """Have the runtime keep the fork contract before the next code runs."""
        self._fork_owed = True

    def keep_fork_contract(self) -> None:
        """Have the runtime keep the fork contract now (reseed, hooks). Raises ProngError ``fork_failed``."""
        request = Fork(next(self._request_ids), self._facts())
        reply = self._ask(request, FORK_TIMEOUT)
        self._check_fork()
        if not isinstance(reply, Forked):
            raise ForkFailed("the runtime did not keep the fork contract")
        self._fork_owed = False

    def _check_fork(self) -> None:
        """End this cell if its fork contract could not be kept: it must not run as somebody else's double."""
        if self._void is not None:
            self.close()
            error = self._void.error
            detail = "" if error is None else f": {error.name}: {error.value}"
            log = "" if error is None else error.formatted
            raise ForkFailed(f"the fork contract of cell {self.id} could not be kept{detail}", data={"log": log})

    def _facts(self) -> ForkFacts:
        return ForkFacts(os.urandom(32), self.identity.generation_id, {"hostname": self.identity.hostname})

    def _ask(self, request: Request, timeout: float) -> GuestMessage | None:
        """One request to the idle runtime and its answer."""
        with self._running:
            self._reply = None
            self._connection.send("input", CONTROL, encode(request))
            self._connection.wait(lambda: self._reply is not None or self.ended is not None, timeout)
            reply, self._reply = self._reply, None
            return reply

    # -- running code -----------------------------------------------------------------------------------------------------

    def run(self, code: str | None, options: RunOptions | None = None, /, **fields: Any) -> Execution:
        """Run Python code and wait for it.

        Args:
            code: the source (None with mode "file"). options, fields: see :class:`RunOptions`; ``fields`` override.

        Returns:
            What it did. Exceptions of the code, limits hit, and even the end of the whole program are in the value.

        Raises:
            InvalidInput: bad options. SandboxGone: the cell ended before. Conflict: the program in it has ended.
            ForkFailed: the cell is a fork and could not be made a different computer; it is gone.
        """
        try:
            options = replace(options or RunOptions(), **fields)
        except TypeError as e:
            raise InvalidInput(f"no such run option: {e}") from None
        with self._running:
            collector = self._begin(code, options)
            try:
                self._connection.wait(lambda: collector.over or self._void is not None or self.ended is not None)
            except SandboxGone as gone:
                return collector.execution(gone.message)
            finally:
                self._run = None
        self._check_fork()
        if collector.trouble is not None:
            if not collector.done and self.ended is None:
                self.interrupt()
            raise collector.trouble
        return self._finish(collector)

    def _begin(self, code: str | None, options: RunOptions) -> RunCollector:
        if self.ended is not None:
            raise Conflict(f"the program in cell {self.id} has ended: {self.ended.describe()}")
        stdin = options.stdin or b""
        if len(stdin) > MAX_STDIN:
            raise InvalidInput(
                f"stdin of {len(stdin)} bytes; the most is {MAX_STDIN}",
                hint="use write_stdin, or a file in the cell",
                data={"field": "stdin"},
            )
        request = Run(
            id=next(self._request_ids),
            code=code,
            mode=options.mode,
            nonce=new_nonce(),
            context=options.context,
            env=options.env,
            cwd=options.cwd,
            argv=options.argv,
            filename=options.filename,
            own_input=options.stdin is not None,
            fork=self._facts() if self._fork_owed else None,
        )
        frame = encode(request)
        self._fork_owed = False
        collector = self._run = RunCollector(request.id, request.nonce, options)
        eof = options.stdin is not None
        self._connection.send("run", options.timeout, options.cpu, options.output, frame, stdin, eof)
        return collector

    def _finish(self, collector: RunCollector) -> Execution:
        if collector.rejected is not None:
            raise InvalidInput(collector.rejected.message, code=collector.rejected.code)
        if collector.finished is None and self.ended is not None:
            return collector.execution(self.ended.describe(), self.ended.exit_code)
        return collector.execution(None)

    def interrupt(self) -> None:
        """SIGINT to the program: KeyboardInterrupt in running code. An idle runtime ignores it."""
        if self._run is not None:
            self._run.interrupted = True
        self.signal(_signal.SIGINT)

    def contexts(self, op: str = "list", name: str | None = None, cwd: str | None = None) -> tuple[ContextInfo, ...]:
        """Work on contexts: ``op`` is list, create, remove or reset; returns those that exist afterwards."""
        reply = self._ask(Contexts(next(self._request_ids), op, name, cwd), READY_TIMEOUT)
        contexts: ContextList = self._expect(reply, "contexts")
        return contexts.contexts

    def complete(self, code: str, cursor: int, context: str | None = None) -> Completed:
        """Tab completions at ``cursor`` (characters) in ``code``."""
        reply = self._ask(Complete(next(self._request_ids), code, cursor, context), READY_TIMEOUT)
        completed: Completed = self._expect(reply, "matches")
        return completed

    def _expect(self, reply: GuestMessage | None, attribute: str) -> Any:
        if reply is None:
            raise SandboxGone(f"cell {self.id} did not answer", data={"reason": "no answer"})
        if not hasattr(reply, attribute):
            raise InvalidInput(getattr(reply, "message", "the runtime refused"), code=getattr(reply, "code", None))
        return reply

    # -- forks and figures ------------------------------------------------------------------------------------------------

    def fork(self, count: int = 1) -> list[Cell]:
        """Fork this cell live, ``count`` times, also in the middle of running code; the forks go on from here.

        Open files, threads, timers and state come along; identity and entropy are new (the fork contract). Each fork is a
        sandbox of its own. Raises Conflict when the program has ended, SandboxGone.
        """
        if not 1 <= count <= 100:
            raise InvalidInput(f"cannot fork {count} times at once; 1 to 100", data={"field": "count"})
        run = self._run
        identities = [Identity.fresh(self.identity.generation + 1) for _ in range(count)]
        packed = [i.pack() for i in identities]
        sockets = with_sockets(count, lambda fds: self._connection.request("fork", packed, run is not None, fds=fds))
        forks = [Cell(s, self.descent, i, parent=self) for s, i in zip(sockets, identities, strict=True)]
        for fork in forks:
            fork._inherit(run)
        try:
            for fork in forks:
                fork.wait_ready()
        except ProngError:
            for fork in forks:
                fork.close()
            raise
        return forks

    def _inherit(self, run: RunCollector | None) -> None:
        """Take over the state of the parent's side: its request numbers and the run in progress."""
        assert self.parent is not None
        self._request_ids = itertools.count(next(self.parent._request_ids) + 1)
        if run is None:
            self._fork_owed = True
        else:
            self._run = RunCollector(run.id, run.nonce, run.options.without_sinks())

    def join(self, timeout: float | None = None) -> Execution:
        """In a fork made while code was running: wait for that code to end *here* and return what it did since the fork.

        Raises Conflict if no code was running when it was forked; LimitExceeded after ``timeout`` seconds.
        """
        collector = self._run
        if collector is None:
            raise Conflict(f"cell {self.id} was not forked in the middle of a run")
        if not self._connection.wait(lambda: collector.over or self._void is not None or self.ended is not None, timeout):
            raise LimitExceeded(f"the run did not end within {timeout} s", data={"limit": "join"})
        self._run = None
        self._check_fork()
        return self._finish(collector)
