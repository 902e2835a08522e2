"""Collecting one run of the Python runtime: output, results, error, how it ended."""

from __future__ import annotations

import codecs
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from prong.cell.host.spec import SHOWN_ROOM
from prong.cell.results import ErrorInfo, Execution, LimitHit, Refused, Result
from prong.cell.runtime_messages import Display, Failed, Finished, GuestMessage, MainResult
from prong.cell.runtime_messages import Refused as RequestRefused

TextSink = Callable[[str], None]


@dataclass(frozen=True)
class RunOptions:
    """How to run code; every field has a sensible default.

    context: name of a persistent namespace (mode "cell"). mode: "cell" (statements, like a notebook), "script" (a program
    of its own, ``__main__``), "file" (a script of the cell, ``filename``). env: variables for this call, None removes one.
    timeout, cpu: seconds of wall and CPU time. output: bytes of stdout and stderr together. stdin: what ``input()`` reads;
    end of file follows when ``stdin`` is given.
    """

    context: str | None = None
    mode: str = "cell"
    env: Mapping[str, str | None] | None = None
    cwd: str | None = None
    argv: tuple[str, ...] | None = None
    filename: str | None = None
    timeout: float | None = None
    cpu: float | None = None
    output: int | None = 16 << 20
    stdin: bytes | None = None
    on_stdout: TextSink | None = None
    on_stderr: TextSink | None = None
    on_result: Callable[[Result], None] | None = None

    def without_sinks(self) -> RunOptions:
        """The same, telling nobody while it runs."""
        return replace(self, on_stdout=None, on_stderr=None, on_result=None)


class _Stream:
    """Bytes to text as they come, kept and passed on."""

    def __init__(self, sink: TextSink) -> None:
        self.sink = sink
        self.parts: list[str] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes, *, final: bool = False) -> None:
        text = self._decoder.decode(data, final)
        if text:
            self.parts.append(text)
            self.sink(text)


@dataclass
class RunCollector:
    """Everything that arrives for one run, until it is over."""

    id: int
    nonce: str
    options: RunOptions
    started: float = field(default_factory=time.perf_counter)
    results: list[Result] = field(default_factory=list)
    error: ErrorInfo | None = None
    finished: Finished | None = None
    rejected: RequestRefused | None = None
    limit: LimitHit | None = None
    refused: list[Refused] = field(default_factory=list)
    trouble: Exception | None = None
    interrupted: bool = False

    def __post_init__(self) -> None:
        self._streams = {
            1: _Stream(lambda text: self._tell(self.options.on_stdout, text)),
            2: _Stream(lambda text: self._tell(self.options.on_stderr, text)),
        }
        allowed = self.options.output
        self._output_left = math.inf if allowed is None else allowed
        self._shown_left = self._output_left + SHOWN_ROOM

    @property
    def done(self) -> bool:
        """Whether the runtime has said its last word on this run."""
        return self.finished is not None or self.rejected is not None

    @property
    def over(self) -> bool:
        """Whether waiting has no more point: done, or the caller's own function raised."""
        return self.done or self.trouble is not None

    def output(self, channel: int, data: bytes) -> None:
        """Bytes on stdout or stderr. The host limits them; a host that does not is not believed."""
        stream = self._streams.get(channel)
        if stream is None:
            return
        self._output_left -= len(data)
        if self._output_left < 0:
            self._over_output()
            return
        stream.feed(data)

    def _over_output(self) -> None:
        """More came than the host should have let through: it is dropped, and that is told."""
        if self.limit is None:
            self.limit = LimitHit("output", float(self.options.output or 0))

    def count_shown(self, size: int) -> None:
        """Bytes arrived that may belong to rich results; beyond the output limit those are dropped."""
        self._shown_left -= size

    def _tell(self, sink: Callable[[Any], None] | None, value: object) -> None:
        """Hand something to the caller's function. What it raises is kept for the thread that called ``run``."""
        if sink is None or self.trouble is not None:
            return
        try:
            sink(value)
        except Exception as e:  # noqa: BLE001  (the caller's own, raised again by ``run``)
            self.trouble = e

    def event(self, event: GuestMessage) -> None:
        """An event of the runtime; those of other runs, or with a wrong nonce, are ignored."""
        if isinstance(event, Display):
            if event.id in (self.id, None):
                self._show(event.result)
        elif isinstance(event, RequestRefused):
            if event.id == self.id:
                self.rejected = event
        elif isinstance(event, MainResult | Failed | Finished) and (event.id, event.nonce) == (self.id, self.nonce):
            if isinstance(event, MainResult):
                self._show(event.result)
            elif isinstance(event, Failed):
                self.error = event.error
            else:
                self.finished = event

    def _show(self, result: Result) -> None:
        if self._shown_left < 0:
            self._over_output()
            return
        self.results.append(result)
        self._tell(self.options.on_result, result)

    def execution(self, ended: str | None, exit_code: int | None = None) -> Execution:
        """The run as a value. ``ended`` says how the whole program ended, if it did."""
        for stream in self._streams.values():
            stream.feed(b"", final=True)
        code = self.finished.exit_code if self.finished is not None else exit_code if exit_code is not None else 1
        return Execution(
            stdout="".join(self._streams[1].parts),
            stderr="".join(self._streams[2].parts),
            results=tuple(self.results),
            error=self.error,
            exit_code=code,
            execution_count=self.finished.execution_count if self.finished is not None else 0,
            duration=time.perf_counter() - self.started,
            limit=self.limit,
            ended=ended,
            refused=tuple(self.refused),
        )
