"""How a cell's program ended, as told by its host and checked here."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any, Self

from prong.errors import Json


@dataclass(frozen=True)
class Ending:
    """The end of a program: its exit code, or the signal that killed it, and the reason in words where there is one.

    ``limit`` is the name of the limit that ended it, or empty.

    ``usage`` has bytes, nanoseconds and counts: memory, memory_peak, overlay, cpu_ns, syscalls, faults, threads, refused.
    """

    code: int | None
    signal: int | None
    reason: str
    limit: str
    usage: dict[str, int]

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Self:
        """Check a host's report; raises ValueError, TypeError, KeyError for a malformed one."""
        code, number = raw["code"], raw["signal"]
        usage = {str(k): int(v) for k, v in raw.items() if k not in ("code", "signal", "reason", "limit", "refusals")}
        return cls(
            None if code is None else int(code) & 0xFF,
            None if number is None else int(number) & 0x7F,
            str(raw["reason"])[:2000],
            str(raw["limit"])[:20],
            usage,
        )

    @property
    def exit_code(self) -> int:
        """As a shell reports it: 128 + signal for a killed program."""
        return self.code if self.code is not None else 128 + (self.signal or 0)

    def describe(self) -> str:
        """One line for people."""
        if self.signal is None:
            return f"exited with code {self.code}"
        try:
            name = signal.Signals(self.signal).name
        except ValueError:
            name = f"signal {self.signal}"
        detail = self.reason.removeprefix(name).lstrip(": ")
        return f"killed by {name}" + (f": {detail}" if detail else "")

    def to_json(self) -> dict[str, Json]:
        """All of it."""
        usage: dict[str, Json] = dict(self.usage)
        return {"code": self.code, "signal": self.signal, "reason": self.reason, "limit": self.limit, "usage": usage}
