"""A running cell: run code, fork, snapshot, files, interrupt, close."""

from __future__ import annotations

import itertools
import os
import signal as _signal
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from prong.cell.engine.connection import Connection, socket_pair
from prong.cell.engine.ending import Ending
from prong.cell.engine.files import Files
from prong.cell.engine.runs import RunCollector, RunOptions
from prong.cell.host.spec import CONTROL, Identity
from prong.cell.host.wire import Message
from prong.cell.refusals import ADVICE
from prong.cell.results import Execution, LimitHit, Refused
from prong.cell.runtime_messages import (
    Complete,
    Contexts,
    Fork,
    Forked,
    ForkFacts,
    GuestMessage,
    InterruptIgnored,
    Ready,
    Request,
    Run,
    WarmFailed,
    new_nonce,
)
from prong.cell.runtime_protocol import FrameDecoder, ProtocolViolation, encode
from prong.errors import BuildFailed, Conflict, InvalidInput, LimitExceeded, ProngError, SandboxGone

if TYPE_CHECKING:
    from collections.abc import Callable

    from prong.cell.engine.descent import Descent
    from prong.cell.runtime_messages import Completed, ContextInfo, ContextList

READY_TIMEOUT = 30.0
FORK_TIMEOUT = 30.0
RAW_BYTES = 16 << 20
"""Bytes of output kept while no run listens; the rest is dropped."""
MAX_REFUSED = 200
"""Refused calls remembered."""


class Cell:
    """One cell, from outside. Thread-safe; runs queue up behind each other, everything else may happen meanwhile.

    Attributes:
        id: a name for people and trees, unique in this engine. parent: the cell it was forked from live, if any.
        descent: what it comes from. files: files in and out.
        ended: how its program ended, or None while it runs.
    """

    _names: ClassVar[Any] = itertools.count(1)

    def __init__(self, sock: socket.socket, descent: Descent, identity: Identity, *, parent: Cell | None = None) -> None:
        self.id = f"c{next(self._names)}"
        self.descent = descent
        self.parent = parent
        self.identity = identity
        self.children: list[Cell] = []
        self.ended: Ending | None = None
        self.files = Files(self)
        self.snapshot_parent = descent.snapshot
        self.refused: list[Refused] = []
        self._connection = Connection(sock, self._on_message, name=f"cell {self.id}")
        self._decoder = FrameDecoder()
        self._running = threading.Lock()
        self._run: RunCollector | None = None
        self._ready = False
        self._reply: GuestMessage | None = None
        self._raw: list[tuple[int, bytes]] = []
        self._raw_left = RAW_BYTES
        self._request_ids = itertools.count(1)
        self._fork_owed = False
        self._inherited: int | None = None
        if parent is not None:
            parent.children.append(self)

    # -- events -----------------------------------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        kind = message[0]
        try:
            _EVENTS[kind](self, *message[1:])
        except (TypeError, ValueError, KeyError, OverflowError, ProtocolViolation) as e:
            self._connection.fail(f"it broke the protocol: {e}")

    def _on_out(self, channel: int, data: bytes) -> None:
        if not isinstance(channel, int) or not isinstance(data, bytes):
            raise TypeError("output that is not bytes on a channel")
        run = self._run
        if channel == CONTROL:
            if run is not None:
                run.count_shown(len(data))
            for event in self._decoder.feed(data):
                self._on_event(event)
        elif run is not None:
            run.output(channel, data)
        elif self._raw_left >= len(data):
            self._raw_left -= len(data)
            self._raw.append((channel, data))

    def _on_event(self, event: GuestMessage) -> None:
        if isinstance(event, InterruptIgnored):
            run = self._run
            if run is not None and event.last_id < run.id and (run.interrupted or run.limit is not None):
                self._connection.send("signal", int(_signal.SIGINT))  # it came before the run it was meant for began
        elif isinstance(event, Ready | WarmFailed | Forked):
            self._reply = event
        elif self._run is not None:
            self._run.event(event)
        else:
            self._reply = event

    def _on_exit(self, report: dict[str, Any]) -> None:
        self.ended = Ending.parse(report)
        if self.ended.limit and self._run is not None:
            self._run.limit = LimitHit(self.ended.limit, float(self.descent.limits.get(self.ended.limit) or 0))

    def _on_limit(self, name: str, allowed: float) -> None:
        if self._run is not None and self._run.limit is None:
            self._run.limit = LimitHit(str(name)[:20], float(allowed))

    def _on_refused(self, kind: str, call: str, detail: str) -> None:
        refused = Refused(str(kind), str(call)[:60], str(detail)[:200], ADVICE[kind])
        for told in (self.refused, self._run.refused if self._run is not None else []):
            if len(told) < MAX_REFUSED:
                told.append(refused)

    def _on_ready(self, _when: int) -> None:
        self._ready = True

    def _on_broken(self, code: str, message: str, data: dict[str, Any]) -> None:
        self._connection.gone = f"{str(code)[:40]}: {str(message)[:500]}"

    # -- life -------------------------------------------------------------------------------------------------------------

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> Self:
        """Wait for the host process to have its VM. Raises SandboxGone, LimitExceeded."""
        if not self._connection.wait(lambda: self._ready, timeout):
            raise LimitExceeded(f"cell {self.id} was not ready within {timeout:g} s", data={"limit": "start"})
        return self

    def start(self) -> Self:
        """Let the program run (a fork waits until it is told to)."""
        self._connection.request("go", None)
        return self

    def start_soon(self) -> None:
        """As :meth:`start`, without waiting for the answer."""
        self._connection.send("start")

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
        if not isinstance(reply, Forked) or not reply.ok:
            detail = reply.error.formatted if isinstance(reply, Forked) and reply.error is not None else ""
            raise ProngError("the fork contract could not be kept", code="fork_failed", data={"log": detail})
        self._fork_owed = False

    def _facts(self) -> ForkFacts:
        return ForkFacts(os.urandom(32), str(self.identity.generation), {"hostname": self.identity.hostname})

    def _ask(self, request: Request, timeout: float) -> GuestMessage | None:
        """One request to the idle runtime and its answer."""
        with self._running:
            self._reply = None
            self._connection.send("input", CONTROL, encode(request))
            self._connection.wait(lambda: self._reply is not None or self.ended is not None, timeout)
            reply, self._reply = self._reply, None
            return reply

    def close(self) -> None:
        """End the cell. Idempotent; never raises."""
        self._connection.close()

    @property
    def closed(self) -> bool:
        """Whether the cell's process is known to be gone."""
        return self._connection.gone is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- running code -----------------------------------------------------------------------------------------------------

    def run(self, code: str | None, options: RunOptions | None = None, /, **fields: Any) -> Execution:
        """Run Python code and wait for it.

        Args:
            code: the source (None with mode "file"). options, fields: see :class:`RunOptions`; ``fields`` override.

        Returns:
            What it did. Exceptions of the code, limits hit, and even the end of the whole program are in the value.

        Raises:
            InvalidInput: bad options. SandboxGone: the cell ended before. Conflict: the program in it has ended.
        """
        try:
            options = replace(options or RunOptions(), **fields)
        except TypeError as e:
            raise InvalidInput(f"no such run option: {e}") from None
        with self._running:
            collector = self._begin(code, options)
            try:
                self._connection.wait(lambda: collector.done or self.ended is not None or collector.trouble is not None)
            except SandboxGone as gone:
                return collector.execution(gone.message)
            finally:
                self._run = None
        if collector.trouble is not None:
            if not collector.done and self.ended is None:
                self.interrupt()
            raise collector.trouble
        return self._finish(collector)

    def _begin(self, code: str | None, options: RunOptions) -> RunCollector:
        if self.ended is not None:
            raise Conflict(f"the program in cell {self.id} has ended: {self.ended.describe()}")
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
            fork=self._facts() if self._fork_owed else None,
        )
        frame = encode(request)
        self._fork_owed = False
        collector = self._run = RunCollector(request.id, request.nonce, options)
        stdin = options.stdin or b""
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

    def signal(self, number: int) -> None:
        """Post any signal to the program."""
        if not 1 <= number <= 64:
            raise InvalidInput(f"no signal {number}", data={"field": "number"})
        self._connection.send("signal", int(number))

    def write_stdin(self, data: bytes, *, eof: bool = False) -> None:
        """Feed the program's standard input; ``eof`` closes it."""
        if data:
            self._connection.send("input", 0, data)
        if eof:
            self._connection.send("close_input", 0)

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

    # -- programs that are not the runtime --------------------------------------------------------------------------------

    def wait_end(self, timeout: float | None = None) -> Ending | None:
        """Wait for the program to end by itself; None if ``timeout`` seconds pass first."""
        self._connection.wait(lambda: self.ended is not None, timeout)
        return self.ended

    def attach_output(self, collector: RunCollector) -> None:
        """Have output go to ``collector`` (programs started without the runtime)."""
        for channel, data in self._raw:
            collector.output(channel, data)
        self._raw.clear()
        self._raw_left = RAW_BYTES
        self._run = collector

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
        pairs = [socket_pair() for _ in identities]
        try:
            fds = tuple(theirs.fileno() for _, theirs in pairs)
            self._connection.request("fork", [i.pack() for i in identities], run is not None, fds=fds)
        except ProngError:
            for ours, _ in pairs:
                ours.close()
            raise
        finally:
            for _, theirs in pairs:
                theirs.close()
        forks = [
            Cell(ours, self.descent, identity, parent=self) for (ours, _), identity in zip(pairs, identities, strict=True)
        ]
        for fork in forks:
            fork._ready = False
            fork._inherit(run)
        for fork in forks:
            fork.wait_ready()
        return forks

    def _inherit(self, run: RunCollector | None) -> None:
        """Take over the state of the parent's side: its request numbers and the run in progress."""
        assert self.parent is not None
        self._request_ids = itertools.count(next(self.parent._request_ids) + 1)
        if run is None:
            self._fork_owed = True
        else:
            self._run = RunCollector(run.id, run.nonce, RunOptions())

    def join(self, timeout: float | None = None) -> Execution:
        """In a fork made while code was running: wait for that code to end *here* and return what it did since the fork.

        Raises Conflict if no code was running when it was forked; LimitExceeded after ``timeout`` seconds.
        """
        collector = self._run
        if collector is None:
            raise Conflict(f"cell {self.id} was not forked in the middle of a run")
        if not self._connection.wait(lambda: collector.done or self.ended is not None, timeout):
            raise LimitExceeded(f"the run did not end within {timeout} s", data={"limit": "join"})
        self._run = None
        return self._finish(collector)

    def stats(self) -> dict[str, int]:
        """Figures: memory, memory_peak, overlay, host_maxrss (bytes), cpu_ns, syscalls, faults, threads, refused."""
        raw = self._connection.request("stats")
        return {str(k): int(v) for k, v in dict(raw).items()}

    def write_snapshot(self, memory_fd: int, state_fd: int) -> dict[str, int]:
        """Have the host write the cell's memory and state to two open files; the program goes on afterwards."""
        raw = self._connection.request("snapshot", fds=(memory_fd, state_fd), timeout=300)
        return {str(k): int(v) for k, v in dict(raw).items()}

    def watch(self) -> None:
        """Start watching which pages are touched. Only in a fork that has not been started."""
        self._connection.request("watch")

    def touched(self) -> tuple[list[int], list[int]]:
        """Page numbers written, and only read, since :meth:`watch`."""
        written, read = self._connection.request("touched")
        return [int(p) for p in written], [int(p) for p in read]

    def gather(self, written: list[int], read: list[int]) -> None:
        """Have these pages lie side by side in physical memory, for forks of the snapshot that is written next."""
        self._connection.request("gather", written, read)

    def file_request(self, op: str, arguments: dict[str, Any]) -> Any:
        """For :class:`Files`: one file operation in the host."""
        return self._connection.request("files", op, arguments)

    def pause(self) -> None:
        """Stop the program where it is."""
        self._connection.request("pause")


_EVENTS: dict[str, Callable[..., None]] = {
    "out": Cell._on_out,
    "exit": Cell._on_exit,
    "limit": Cell._on_limit,
    "refused": Cell._on_refused,
    "ready": Cell._on_ready,
    "broken": Cell._on_broken,
}
