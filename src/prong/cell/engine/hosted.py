"""The engine's side of one cell host: its connection, the events that arrive, signals, input, figures."""

from __future__ import annotations

import errno
import itertools
import signal as _signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

from prong.cell.engine.connection import Connection, RemoteError, remote_error
from prong.cell.engine.ending import Ending
from prong.cell.engine.files import Files
from prong.cell.engine.runs import RunCollector
from prong.cell.host.spec import CONTROL, Identity
from prong.cell.host.wire import Message
from prong.cell.refusals import ADVICE
from prong.cell.results import LimitHit, Refused
from prong.cell.runtime_messages import Forked, GuestMessage, InterruptIgnored, Ready, WarmFailed
from prong.cell.runtime_protocol import FrameDecoder, ProtocolViolation
from prong.errors import InvalidInput, LimitExceeded, ProngError, SandboxGone

if TYPE_CHECKING:
    from prong.cell.engine.descent import Descent

READY_TIMEOUT = 30.0
STDIN_CHUNK = 1 << 20
STDIN_PAUSE = 0.02
"""Seconds until input is offered again to a program that has too much of it unread."""
RAW_BYTES = 16 << 20
"""Bytes of output kept while no run listens; the rest is dropped."""
MAX_REFUSED = 200
"""Refused calls remembered."""


class Hosted:
    """A program in a cell, whatever it is: what :class:`~prong.cell.engine.cell.Cell` adds to is Python's runtime in it.

    Attributes:
        id: a name for people and trees, unique in this engine. descent: what it comes from. identity: its own.
        files: files in and out. refused: what it tried that cells refuse. ended: how its program ended, or None.
        snapshot_parent: the snapshot it comes from or was saved as last.
    """

    _names: ClassVar[Any] = itertools.count(1)

    def __init__(self, sock: socket.socket, descent: Descent, identity: Identity) -> None:
        self.id = f"c{next(self._names)}"
        self.descent = descent
        self.identity = identity
        self.ended: Ending | None = None
        self.files = Files(self)
        self.snapshot_parent = descent.snapshot
        self.refused: list[Refused] = []
        self._connection = Connection(sock, self._on_message, name=f"cell {self.id}")
        self._decoder = FrameDecoder()
        self._run: RunCollector | None = None
        self._ready = False
        self._void: Forked | None = None
        self._broken: ProngError | None = None
        self._reply: GuestMessage | None = None
        self._raw: list[tuple[int, bytes]] = []
        self._raw_left = RAW_BYTES

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
        elif isinstance(event, Forked) and not event.ok:
            self._void = self._reply = event
        elif isinstance(event, Ready | WarmFailed | Forked):
            self._reply = event
        elif self._run is not None:
            self._run.event(event)
        else:
            self._reply = event

    def _on_exit(self, report: dict[str, Any]) -> None:
        self.ended = Ending.parse(report)
        if self.ended.limit and self._run is not None and getattr(self._run.limit, "name", "") != self.ended.limit:
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
        self._broken = remote_error(code, message, data)
        self._connection.fail(f"{str(code)[:40]}: {str(message)[:500]}")

    # -- life -------------------------------------------------------------------------------------------------------------

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> Self:
        """Wait for the host process to have its VM; a cell that gets none is closed.

        Raises what the host said is wrong (InvalidInput ``bad_program``, RemoteError), SandboxGone, LimitExceeded.
        """
        try:
            if not self._connection.wait(lambda: self._ready, timeout):
                raise LimitExceeded(f"cell {self.id} was not ready within {timeout:g} s", data={"limit": "start"})
        except ProngError:
            self.close()
            if self._broken is not None:
                raise self._broken from None
            raise
        return self

    def learn_identity(self) -> None:
        """Ask the host for the identity: a restored cell's comes from its snapshot."""
        try:
            self.identity = Identity.parse(dict(self._connection.request("identity")))
        except (TypeError, ValueError, InvalidInput):
            self._connection.fail("it told a malformed identity")
            raise SandboxGone(f"cell {self.id} is gone: it told a malformed identity") from None

    def start(self) -> Self:
        """Let the program run (a fork waits until it is told to)."""
        self._connection.request("go", None)
        return self

    def start_soon(self) -> None:
        """As :meth:`start`, without waiting for the answer."""
        self._connection.send("start")

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

    # -- talking to the program ------------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Post any signal to the program."""
        if not 1 <= number <= 64:
            raise InvalidInput(f"no signal {number}", data={"field": "number"})
        self._connection.send("signal", int(number))

    def write_stdin(self, data: bytes, *, eof: bool = False) -> None:
        """Feed the program's standard input; ``eof`` closes it."""
        for at in range(0, len(data), STDIN_CHUNK):
            while not self._feed(data[at : at + STDIN_CHUNK]):
                time.sleep(STDIN_PAUSE)
        if eof:
            self._connection.send("close_input", 0)

    def _feed(self, chunk: bytes) -> bool:
        """Offer input; False if the program has too much unread already."""
        try:
            self._connection.request("stdin", chunk)
        except RemoteError as e:
            if e.data.get("errno") == errno.ENOBUFS:
                return False
            raise
        return True

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

    # -- requests ---------------------------------------------------------------------------------------------------------

    def request(self, kind: str, *arguments: Any, timeout: float = 60.0, fds: tuple[int, ...] = ()) -> Any:
        """One request to the cell host, and its answer. Raises RemoteError, SandboxGone, LimitExceeded."""
        return self._connection.request(kind, *arguments, timeout=timeout, fds=fds)

    def stats(self) -> dict[str, int]:
        """Figures: memory, memory_peak, overlay, host_maxrss (bytes), cpu_ns, syscalls, faults, threads, refused."""
        return self._figures(self._connection.request("stats"))

    def write_snapshot(self, memory_fd: int, state_fd: int) -> dict[str, int]:
        """Have the host write the cell's memory and state to two open files; the program goes on afterwards."""
        return self._figures(self._connection.request("snapshot", fds=(memory_fd, state_fd), timeout=300))

    def _figures(self, raw: Any) -> dict[str, int]:
        """A host's figures, checked."""
        try:
            return {str(key): int(value) for key, value in raw.items()}
        except (AttributeError, TypeError, ValueError, OverflowError):
            self._connection.fail("it told malformed figures")
            raise SandboxGone(f"cell {self.id} is gone: it told malformed figures", data={"reason": "protocol"}) from None

    def file_request(self, op: str, arguments: dict[str, Any]) -> Any:
        """For :class:`Files`: one file operation in the host."""
        return self._connection.request("files", op, arguments)

    def pause(self) -> None:
        """Stop the program where it is."""
        self._connection.request("pause")


_EVENTS: dict[str, Callable[..., None]] = {
    "out": Hosted._on_out,
    "exit": Hosted._on_exit,
    "limit": Hosted._on_limit,
    "refused": Hosted._on_refused,
    "ready": Hosted._on_ready,
    "broken": Hosted._on_broken,
}
