"""The output of a program that is not Python, byte for byte."""

from __future__ import annotations

from prong.cell.engine.runs import RunCollector, RunOptions
from prong.cli.terminal import Outlet


class RawOutput(RunCollector):
    """Takes a program's output byte for byte; with ``keep`` it is also collected, as text."""

    def __init__(self, outlet: Outlet, *, keep: bool) -> None:
        super().__init__(0, "", RunOptions())
        self.outlet = outlet
        self._keep = keep

    def output(self, channel: int, data: bytes) -> None:
        """Pass it on."""
        self.outlet.raw(channel, data)
        if self._keep:
            super().output(channel, data)
