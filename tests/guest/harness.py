"""Runs the guest runtime natively, as a child process with a socket pair as its control stream."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prong.cell.results import Execution
from prong.cell.runtime_messages import (
    Complete,
    Contexts,
    Fork,
    ForkFacts,
    GuestMessage,
    InterruptIgnored,
    Ping,
    Ready,
    Refused,
    Run,
)
from prong.cell.runtime_protocol import FrameDecoder, encode
from prong.guest import messages as m
from prong.guest.pack import write_runtime
from tests.guest.strict import RunCollector

HANG = 30.0
"""Seconds after which a test gives up; generous, only against hangs."""
SEED = b"\x07" * 64


class GuestProcess:
    """One runtime and the host's end of its streams.

    Args:
        directory: where :func:`~prong.guest.pack.write_runtime` put it.
        warm: a warm-up file.
        wrapper: a command that starts it, such as strace.
        control_fd: the number its control descriptor shall have; high ones survive ``os.closerange``.
    """

    def __init__(
        self, directory: Path, *, warm: Path | None = None, control_fd: int | None = None, wrapper: tuple[str, ...] = ()
    ) -> None:
        self.sock, theirs = socket.socketpair()
        number = theirs.fileno() if control_fd is None else os.dup2(theirs.fileno(), control_fd)
        command = [*wrapper, sys.executable, "-I", "-X", "utf8", str(directory), *(["--warm", str(warm)] if warm else [])]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[number],
            env={"PATH": "/usr/bin:/bin", m.CONTROL_FD_VARIABLE: str(number), "MPLCONFIGDIR": str(directory / "mpl")},
        )
        if control_fd is not None:
            os.close(number)
        theirs.close()
        self.decoder = FrameDecoder()
        self.messages: list[GuestMessage] = []
        self.output = {1: bytearray(), 2: bytearray()}
        self.writes = 0
        self._next_id = 0

    # -- streams -------------------------------------------------------------------------------------------------------

    def pump(self, timeout: float) -> bool:
        """Take in what arrives within the timeout; False when nothing did. Raises EOFError when the runtime ended."""
        assert self.process.stdout is not None and self.process.stderr is not None
        sources = {self.sock.fileno(): 0, self.process.stdout.fileno(): 1, self.process.stderr.fileno(): 2}
        ready, _, _ = select.select(list(sources), [], [], timeout)
        got = False
        for descriptor in ready:
            data = os.read(descriptor, 1 << 20)
            got = got or bool(data)
            if sources[descriptor] == 0:
                if not data:
                    raise EOFError(f"the runtime ended: {self.process.wait(HANG)}, stderr {bytes(self.output[2])!r}")
                self.writes += 1
                self.messages += self.decoder.feed(data)
            else:
                self.output[sources[descriptor]] += data
        return got

    def send(self, request: Run | Fork | Contexts | Complete | Ping) -> None:
        """Send one request."""
        self.sock.sendall(encode(request))

    def next_id(self) -> int:
        """A fresh request id."""
        self._next_id += 1
        return self._next_id

    def wait_message(self) -> GuestMessage:
        """The next event, whatever it is."""
        deadline = time.monotonic() + HANG
        while not self.messages:
            assert time.monotonic() < deadline, f"no event; stderr {bytes(self.output[2])!r}"
            self.pump(0.5)
        return self.messages.pop(0)

    def drain_output(self) -> None:
        """Take in output already written; what a run flushed before ``finished`` is in the pipe by then."""
        while self.pump(0):
            if self.process.poll() is not None:
                return

    # -- requests ------------------------------------------------------------------------------------------------------

    def start(self, code: str | None, **fields: Any) -> RunCollector:  # the fields of the request
        """Send a run request."""
        self.output = {1: bytearray(), 2: bytearray()}
        request = Run(id=self.next_id(), code=code, **fields)
        self.send(request)
        return RunCollector(request)

    def finish(self, collector: RunCollector) -> Execution:
        """Wait for the end of a run."""
        while True:
            message = self.wait_message()
            if isinstance(message, Refused):
                raise AssertionError(f"refused: {message}")
            if isinstance(message, InterruptIgnored):
                continue
            if collector.message(message):
                break
        self.drain_output()
        collector.output(1, bytes(self.output[1]))
        collector.output(2, bytes(self.output[2]))
        return collector.execution()

    def run(self, code: str | None, **fields: Any) -> Execution:  # the fields of the request
        """Run code to its end."""
        return self.finish(self.start(code, **fields))

    def script(self, code: str, **fields: Any) -> Execution:  # the fields of the request
        """Run a program to its end."""
        return self.run(code, mode=m.MODE_SCRIPT, **fields)

    def fork(self, **fields: Any) -> GuestMessage:  # the fields of the request
        """Send a fork request and wait for the answer."""
        self.send(Fork(id=self.next_id(), facts=ForkFacts(seed=fields.pop("seed", SEED), **fields)))
        return self.wait_message()

    def interrupt(self) -> None:
        """SIGINT."""
        self.process.send_signal(signal.SIGINT)

    def wait_output(self, text: bytes) -> None:
        """Wait until stdout contains the text."""
        deadline = time.monotonic() + HANG
        while text not in self.output[1]:
            assert time.monotonic() < deadline, f"{text!r} did not appear"
            self.pump(0.5)

    def close(self) -> int:
        """End the control stream and wait for the runtime to go."""
        self.sock.close()
        try:
            return self.process.wait(HANG)
        finally:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()


@contextlib.contextmanager
def guest(
    warm: str | None = None, control_fd: int | None = None, expect_ready: bool = True, wrapper: tuple[str, ...] = ()
) -> Iterator[GuestProcess]:
    """A runtime that is ready."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "runtime"
        write_runtime(directory)
        warm_file = None
        if warm is not None:
            warm_file = Path(name) / "warm.py"
            warm_file.write_text(warm)
        process = GuestProcess(directory, warm=warm_file, control_fd=control_fd, wrapper=wrapper)
        try:
            if expect_ready:
                message = process.wait_message()
                assert isinstance(message, Ready), message
            yield process
        finally:
            process.close()
