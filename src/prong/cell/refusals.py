"""What a cell refuses by design, remembered so that results can say in one line what to use instead."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from prong.cell.core.errors import SysErr
from prong.cell.core.saved import saved

ADVICE = {
    "process": 'a cell is one process and cannot start another; use a machine (kind="machine") for programs that do',
    "network": "a cell has no network beyond its own loopback; use a machine with a gateway policy",
    "privilege": "a cell has no kernel to configure; use a machine",
}
"""Kind of refusal → what to use instead."""


MAX_NEWS = 50


@saved("refusal")
@dataclass(frozen=True)
class Refusal:
    """One refused call: its kind (a key of ADVICE), the system call, the detail, and how often it happened."""

    kind: str
    call: str
    detail: str = ""

    @property
    def advice(self) -> str:
        """One line: what to use instead."""
        return ADVICE[self.kind]


@saved("refusal_log")
class RefusalLog:
    """Counts refusals; ``total`` only grows, so a caller can tell whether any happened between two moments.

    ``news`` are those the host has not passed on yet, MAX_NEWS at most.
    """

    def __init__(self) -> None:
        self.counts: dict[Refusal, int] = {}
        self.total = 0
        self.news: list[Refusal] = []

    def refuse(self, kind: str, call: str, detail: str = "", *, error: int = errno.EPERM) -> SysErr:
        """Record it and return the SysErr to raise: ``raise kernel.refusals.refuse("process", "fork")``."""
        if kind not in ADVICE:
            raise ValueError(f"unknown refusal kind {kind!r}")
        refusal = Refusal(kind, call, detail[:200])
        self.total += 1
        if len(self.news) < MAX_NEWS:
            self.news.append(refusal)
        if refusal in self.counts or len(self.counts) < 200:
            self.counts[refusal] = self.counts.get(refusal, 0) + 1
        return SysErr(error)
