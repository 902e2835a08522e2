"""A control connection shared by threads: requests with answers, and events handed to whoever listens."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from prong.cell.host.wire import Channel, Closed, Message, ProtocolViolation
from prong.errors import Conflict, InvalidInput, Json, LimitExceeded, NotFound, ProngError, SandboxGone

Listener = Callable[[Message], None]
SEND_TIMEOUT = 60.0
"""Seconds a peer may take to accept one message."""
MAX_LATER = 64 << 20
"""Bytes a peer may send while it accepts one message."""
EVENTS = frozenset({"out", "exit", "limit", "refused", "ready", "broken"})


class RemoteError(ProngError):
    """A cell host or spawner refused a request; ``code`` and ``data`` are as it said."""

    default_code = "remote_error"


_KINDS: dict[str, type[ProngError]] = {
    **{kind.default_code: kind for kind in (Conflict, InvalidInput, LimitExceeded, NotFound)},
    "bad_program": InvalidInput,
}
"""Refusals that callers tell apart; the rest is RemoteError."""


def remote_error(code: Any, message: Any, data: Any) -> ProngError:
    """An error as a peer told it, with nothing in it larger than an error should be."""
    facts = data if isinstance(data, dict) else {}
    hint = str(facts.get("hint", ""))[:500]
    shown: dict[str, Json] = {
        str(key)[:60]: value
        for key, value in list(facts.items())[:20]
        if key != "hint" and isinstance(value, str | int | float | None)
    }
    kind = _KINDS.get(str(code), RemoteError)
    return kind(str(message)[:2000], code=str(code)[:60], hint=hint, data=shown)


class Connection:
    """The engine's end of a control socket.

    There is no reader thread: whichever thread waits reads for all. ``listener`` gets every event, in order, on the
    thread that happens to read. ``pid`` is the peer's process id as the kernel reports it, once it has sent anything.
    """

    def __init__(self, sock: socket.socket, listener: Listener, *, name: str = "cell") -> None:
        self.channel = Channel(sock)
        self.listener = listener
        self.name = name
        self.gone: str | None = None
        self._ids = itertools.count(1)
        self._answers: dict[int, Message] = {}
        self._waiting: set[int] = set()
        self._too_late: set[int] = set()
        self._sending = threading.Lock()
        self._state = threading.Condition()
        self._reading = False
        self._send_until = 0.0
        self._later: deque[Message] = deque()
        self._later_bytes = 0

    def send(self, *message: Any, fds: tuple[int, ...] = ()) -> None:
        """Send a message that has no answer. Raises SandboxGone."""
        try:
            with self._sending:
                self._send_until = time.monotonic() + SEND_TIMEOUT
                self.channel.send(*message, fds=fds, full=self._make_room)
        except (Closed, OSError):
            self._hear_last_words()
            raise self._gone() from None

    def _hear_last_words(self) -> None:
        """Read what a peer that is gone said before it went: its reason, perhaps."""
        with contextlib.suppress(SandboxGone):
            self.wait(lambda: False, 1.0)
        self.fail("its process ended")

    def _make_room(self) -> None:
        """The peer does not read now, perhaps because it waits for us to: do that, but keep what comes for later."""
        if time.monotonic() > self._send_until:
            self.fail(f"it read nothing for {SEND_TIMEOUT:g} s")
            raise Closed("the peer of a control connection does not read")
        poller = select.poll()
        poller.register(self.channel.sock, select.POLLIN | select.POLLOUT)
        if not any(event & select.POLLIN for _, event in poller.poll(100)):
            return
        with self._state:
            if self._reading:
                self._state.wait(0.01)
            elif (message := self._receive_one(0)) is not None:
                self._later.append(message)
                self._later_bytes += sum(len(part) for part in message if isinstance(part, bytes)) + 64
                if self._later_bytes > MAX_LATER:
                    self.fail("it sends without end and reads nothing")

    def request(self, kind: str, *args: Any, fds: tuple[int, ...] = (), timeout: float = 60.0) -> Any:
        """Send a request and wait for its answer.

        Raises:
            RemoteError, Conflict, InvalidInput, NotFound: it was refused. SandboxGone: the peer ended.
            LimitExceeded: no answer within ``timeout`` s.
        """
        request_id = next(self._ids)
        with self._state:
            self._waiting.add(request_id)
        try:
            self.send(kind, request_id, *args, fds=fds)
            if not self.wait(lambda: request_id in self._answers, timeout):
                self._too_late.add(request_id)
                raise LimitExceeded(
                    f"{self.name} did not answer {kind} within {timeout:g} s",
                    data={"limit": "answer", "allowed": timeout},
                )
            answer = self._answers.pop(request_id)
        finally:
            with self._state:
                self._waiting.discard(request_id)
        if answer[0] == "fail":
            raise remote_error(*answer[2:5])
        return answer[2]

    def wait(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Read and dispatch until ``done()``; False if ``timeout`` seconds pass first. Raises SandboxGone."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._state:
            while not done():
                if self.gone is not None and not self._later:
                    raise self._gone()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                if self._reading:
                    self._state.wait(left)
                    continue
                self._read_one(left)
        return True

    def _read_one(self, timeout: float | None) -> None:
        """Take one message and dispatch it."""
        if self._later:
            message: Message | None = self._later.popleft()
            if not self._later:
                self._later_bytes = 0
        else:
            message = self._receive_one(timeout)
        if message is not None:
            self._dispatch(message)

    def _receive_one(self, timeout: float | None) -> Message | None:
        """Be the reader for one message; called with the state lock held, which is released while reading."""
        self._reading = True
        message: Message | None = None
        trouble: str | None = None
        self._state.release()
        try:
            message = self.channel.receive(timeout)
        except Closed:
            trouble = "its process ended"
        except ProtocolViolation as e:
            trouble = f"it broke the control protocol: {e.message}"
        except OSError as e:
            trouble = f"its connection failed: {e.strerror}"
        finally:
            self._state.acquire()
            self._reading = False
            self._state.notify_all()
        if trouble is not None:
            self.fail(trouble)
        return message

    def _dispatch(self, message: Message) -> None:
        kind = message[0]
        if kind in EVENTS:
            self.listener(message)
            return
        known = kind in ("ok", "fail") and len(message) == (3 if kind == "ok" else 5) and isinstance(message[1], int)
        if known and message[1] in self._waiting:
            self._answers[message[1]] = message
        elif known and message[1] in self._too_late:
            self._too_late.discard(message[1])
        else:
            self.fail(f"it sent an unexpected message {str(kind)[:40]!r}")

    def fail(self, reason: str) -> None:
        """Declare the peer gone; every waiter is told. A thread that is reading wakes up and closes the socket itself."""
        with self._state:
            if self.gone is None:
                self.gone = reason
            with contextlib.suppress(OSError):
                self.channel.sock.shutdown(socket.SHUT_RDWR)
            if not self._reading:
                self.channel.close()
            self._state.notify_all()

    def _gone(self) -> SandboxGone:
        reason = self.gone or "its process ended"
        return SandboxGone(f"{self.name} is gone: {reason}", data={"reason": reason})

    def close(self) -> None:
        """Hang up: the peer ends by itself."""
        self.fail("it was closed")


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """(engine's end, host's end) of a new control connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return ours, theirs


def with_sockets(count: int, ask: Callable[[tuple[int, ...]], Any]) -> list[socket.socket]:
    """Make ``count`` control connections, give their far ends to ``ask``, return the near ends."""
    pairs = [socket_pair() for _ in range(count)]
    try:
        ask(tuple(theirs.fileno() for _, theirs in pairs))
    except ProngError:
        for ours, _ in pairs:
            ours.close()
        raise
    finally:
        for _, theirs in pairs:
            theirs.close()
    return [ours for ours, _ in pairs]
