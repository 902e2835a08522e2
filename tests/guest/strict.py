"""A collector that is stricter than the engine's: every frame that is not exactly in order is a failure of the runtime."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from prong.cell.results import ErrorInfo, Execution, Result
from prong.cell.runtime_fields import ProtocolViolation
from prong.cell.runtime_messages import (
    Display,
    Failed,
    Finished,
    Forked,
    GuestMessage,
    MainResult,
    Run,
    Started,
)

STDOUT = 1
STDERR = 2


class RunCollector:
    """Takes a run's events and output in the order they arrive.

    Args:
        request: the run; its id and nonce tell its frames from stale and forged ones.
        on_result: called with each result at once, for streaming.
    """

    def __init__(self, request: Run, on_result: Callable[[Result], None] | None = None) -> None:
        self._request = request
        self._on_result = on_result
        self._output = {STDOUT: bytearray(), STDERR: bytearray()}
        self._results: list[Result] = []
        self._error: ErrorInfo | None = None
        self._finished: Finished | None = None
        self._forked = request.fork is None

    def branch(self, on_result: Callable[[Result], None] | None = None) -> RunCollector:
        """A collector for a live fork of the sandbox: the same run, with what it gave so far, going on by itself."""
        other = RunCollector(self._request, on_result)
        other._output = {descriptor: bytearray(data) for descriptor, data in self._output.items()}
        other._results = list(self._results)
        other._error, other._finished, other._forked = self._error, self._finished, self._forked
        return other

    @property
    def is_finished(self) -> bool:
        """Whether the last event was seen."""
        return self._finished is not None

    def output(self, descriptor: int, data: bytes) -> None:
        """Add what was written to 1 (stdout) or 2 (stderr)."""
        self._output[descriptor] += data

    def message(self, message: GuestMessage) -> bool:
        """Take one event. Returns True for the run's last one.

        Events of earlier runs (a thread that displays late) and events of no run are passed over.

        Raises:
            ProtocolViolation: a frame for this run with another nonce, a second ``finished``, a result or end before
                the fork contract was kept, or a frame for a run that was never asked for.
        """
        if isinstance(message, Display):
            if message.id is None or message.id == self._request.id:
                self._add(message.result)
        elif isinstance(message, Forked):
            if message.id == self._request.id:
                self._forked = message.ok
        elif isinstance(message, Started | MainResult | Failed | Finished):
            return self._own(message)
        return False

    def _own(self, message: Started | MainResult | Failed | Finished) -> bool:
        if message.id < self._request.id:
            raise ProtocolViolation("the runtime reported again on a run that had ended")
        if message.id > self._request.id or not hmac.compare_digest(message.nonce.encode(), self._request.nonce.encode()):
            raise ProtocolViolation("a frame claims to belong to a run it does not know", data={"id": message.id})
        if self._finished is not None:
            raise ProtocolViolation("the runtime went on after it reported the end of a run")
        if not self._forked:
            raise ProtocolViolation("the runtime ran code before it kept the fork contract")
        if isinstance(message, MainResult):
            self._add(message.result)
        elif isinstance(message, Failed):
            self._error = message.error
        elif isinstance(message, Finished):
            self._finished = message
            return True
        return False

    def _add(self, result: Result) -> None:
        self._results.append(result)
        if self._on_result is not None:
            self._on_result(result)

    def execution(self, duration: float = 0.0, exit_code: int | None = None) -> Execution:
        """What was collected.

        Args:
            duration: seconds, measured by the caller.
            exit_code: for a run whose process ended before it finished; never used for one that finished.

        Raises:
            ValueError: the run did not finish and no exit code is given.
        """
        finished = self._finished
        if finished is not None:
            exit_code, count = finished.exit_code, finished.execution_count
        elif exit_code is not None:
            count = 0
        else:
            raise ValueError("the run has not finished")
        return Execution(
            stdout=self._output[STDOUT].decode("utf-8", "replace"),
            stderr=self._output[STDERR].decode("utf-8", "replace"),
            results=tuple(self._results),
            error=self._error,
            exit_code=exit_code,
            execution_count=count,
            duration=duration,
        )
